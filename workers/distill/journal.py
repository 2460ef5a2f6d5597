"""What happened in training, one line of JSON per entry: it survives a crash, and plots are made of it."""

import json
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file of entries; a run that goes on from an earlier checkpoint overrides later steps."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, **entry: Any) -> None:
        """Append an entry, which says its ``step``."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries by rising step, of repeated ones the last."""
        if not self._path.exists():
            return []
        latest: dict[tuple[int, bool], dict[str, Any]] = {}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            latest[entry["step"], "acceptance" in entry] = entry
        return [latest[key] for key in sorted(latest)]
