"""Figures in a file, with when, how and on what they were measured."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def today() -> str:
    """Return the moment as reports record it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save_report(path: Path, module: str, machine: dict[str, Any], **figures: Any) -> None:
    """Write what ``python -m module`` has measured, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "date": today(),
        "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
        "machine": machine,
        **figures,
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
