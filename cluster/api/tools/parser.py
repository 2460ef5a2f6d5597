"""Finds the calls in an answer as it grows; what is no well-formed call of an offered function stays text."""

import json
import secrets
from collections.abc import Set
from typing import Any

from cluster.api.json_text import parse_json
from cluster.api.tools.format import BEGIN, END

Json = dict[str, Any]


Piece = str | Json
"""Text, or a call in the shape of chat's ``tool_calls``, with an ``index`` that counts the answer's calls."""


class ToolCallParser:
    """Watches one answer, and tells its text and its calls in their order, however it is cut.

    Text is passed on at once, but for what may be the beginning of a tag and the white space at its end. White space
    next to a call is a model's layout and dropped; all other text is exact.
    """

    def __init__(self, names: Set[str]) -> None:
        """Look for calls of the functions with these names; where there are none, everything is text."""
        self._names = names
        self._held = ""
        self._space = ""
        """White space that is dropped if a call follows."""
        self._inside = False
        self._after_tags = False
        self.num_calls = 0

    def feed(self, text: str, *, finished: bool = False) -> list[Piece]:
        """Take the next piece of text, and return what is certain by now.

        Where the answer is ``finished``, perhaps without its closing tag, that is everything.
        """
        if not self._names:
            return [text] if text else []
        pieces: list[Piece] = []
        self._held += text
        while self._step(pieces):
            pass
        if finished:
            self._finish(pieces)
        return pieces

    def _step(self, pieces: list[Piece]) -> bool:
        tag = END if self._inside else BEGIN
        before, met, after = self._held.partition(tag)
        if met:
            self._held = after
            if self._inside:
                self._close(before, BEGIN + before + END, pieces)
            else:
                self._tell(before, pieces)
                self._inside = True
            return True
        if not self._inside:
            keep = next((n for n in range(len(tag) - 1, 0, -1) if self._held.endswith(tag[:n])), 0)
            cut = len(self._held) - keep
            self._tell(self._held[:cut], pieces)
            self._held = self._held[cut:]
        return False

    def _finish(self, pieces: list[Piece]) -> None:
        held, self._held = self._held, ""
        if self._inside:
            self._close(held, BEGIN + held, pieces)
        else:
            self._tell(held, pieces)
        if self._space and not self._after_tags:
            _append(self._space, pieces)

    def _close(self, body: str, raw: str, pieces: list[Piece]) -> None:
        self._inside = False
        calls = _calls(body, self._names)
        if calls is None:
            self._tell(raw, pieces)
            return
        self._after_tags = True
        if calls:
            self._space = ""
        for name, arguments in calls:
            function = {"name": name, "arguments": arguments}
            call = {"index": self.num_calls, "id": f"call_{secrets.token_hex(12)}", "type": "function"}
            pieces.append({**call, "function": function})
            self.num_calls += 1

    def _tell(self, text: str, pieces: list[Piece]) -> None:
        """Pass text on, all but the white space at its end; behind tags there is none at its beginning."""
        if self._after_tags:
            text = text.lstrip()
        if not text:
            return
        self._after_tags = False
        text = self._space + text
        told = text.rstrip()
        self._space = text[len(told) :]
        if told:
            _append(told, pieces)


def _append(text: str, pieces: list[Piece]) -> None:
    last = pieces[-1] if pieces else None
    if isinstance(last, str):
        pieces[-1] = last + text
    else:
        pieces.append(text)


def _calls(body: str, names: Set[str]) -> list[tuple[str, str]] | None:
    """Return the names and arguments of the calls between two tags, None where it is anything else."""
    try:
        parsed = parse_json(body)
    except ValueError:
        return None
    calls = []
    for item in parsed if isinstance(parsed, list) else [parsed]:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in names:
            return None
        arguments = item.get("arguments", {})
        if not isinstance(arguments, dict):
            return None
        written = _written(arguments)
        if written is None:
            return None
        calls.append((name, written))
    return calls


def _written(arguments: Json) -> str | None:
    """Return arguments as JSON, None where they have what no answer can: an infinity, or half a surrogate pair."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        return None
    return text
