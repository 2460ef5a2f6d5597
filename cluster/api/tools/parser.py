"""Finds the calls in an answer as it grows; what is no well-formed call of an offered function stays text."""

import json
import secrets
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

from cluster.api.tools.format import BEGIN, END

Json = dict[str, Any]


@dataclass(slots=True)
class Found:
    """What a piece of the answer has come to."""

    text: str = ""
    calls: list[Json] = field(default_factory=list)
    """In OpenAI's shape, with an ``index`` that counts the answer's calls."""


class ToolCallParser:
    """Watches one answer. Text is passed on at once, but for what may be the beginning of a tag."""

    def __init__(self, names: Set[str]) -> None:
        """Look for calls of the functions with these names."""
        self._names = names
        self._held = ""
        self._inside = False
        self._after_call = False
        self.num_calls = 0

    def feed(self, text: str) -> Found:
        """Take the next piece of text."""
        found = Found()
        self._held += text
        while self._step(found):
            pass
        return found

    def finish(self) -> Found:
        """Return what was held back: the answer is over, perhaps without its closing tag."""
        found = Found()
        held, self._held = self._held, ""
        if self._inside:
            self._close(held, BEGIN + held, found)
        else:
            self._tell(held, found)
        return found

    def _step(self, found: Found) -> bool:
        tag = END if self._inside else BEGIN
        before, met, after = self._held.partition(tag)
        if met:
            self._held = after
            if self._inside:
                self._close(before, BEGIN + before + END, found)
            else:
                self._tell(before, found)
                self._inside = True
            return True
        if not self._inside:
            keep = next((n for n in range(len(tag) - 1, 0, -1) if self._held.endswith(tag[:n])), 0)
            cut = len(self._held) - keep
            self._tell(self._held[:cut], found)
            self._held = self._held[cut:]
        return False

    def _close(self, body: str, raw: str, found: Found) -> None:
        self._inside = False
        calls = _calls(body, self._names)
        if calls is None:
            self._tell(raw, found)
            return
        self._after_call = True
        for name, arguments in calls:
            function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
            call = {"index": self.num_calls, "id": f"call_{secrets.token_hex(12)}", "type": "function"}
            found.calls.append({**call, "function": function})
            self.num_calls += 1

    def _tell(self, text: str, found: Found) -> None:
        """Pass text on; between calls and behind them white space is none."""
        if self._after_call:
            text = text.lstrip()
        if text:
            self._after_call = False
            found.text += text


def _calls(body: str, names: Set[str]) -> list[tuple[str, Json]] | None:
    """Return the calls between two tags, None where it is anything else."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    calls = []
    for item in parsed if isinstance(parsed, list) else [parsed]:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in names:
            return None
        arguments = item.get("arguments", {})
        if not isinstance(arguments, dict):
            return None
        calls.append((name, arguments))
    return calls
