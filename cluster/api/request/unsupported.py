"""Fields that are known and not served yet, and fields that are not known: refused or reported, never swallowed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.api.errors import ApiError, invalid

MAX_REPORTED = 20
_NOTHING: tuple[Any, ...] = (None, False, [], {}, "")

UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "tool_calls": _NOTHING,
    "functions": _NOTHING,
    "function_call": (None, "none", "auto"),
    "guided_decoding_backend": (None,),
    "guided_json": _NOTHING,
    "guided_regex": _NOTHING,
    "guided_choice": _NOTHING,
    "guided_grammar": _NOTHING,
    "length_penalty": (None, 1),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "use_beam_search": (None, False),
    "spaces_between_special_tokens": (None, True),
    "add_special_tokens": (None,),
    "chat_template": (None,),
    "documents": _NOTHING,
    "prompt_embeds": _NOTHING,
    "modalities": (None, ["text"]),
    "audio": _NOTHING,
    "web_search_options": _NOTHING,
    "lora_request": _NOTHING,
    "max_draft_tokens": (None,),
}
"""Fields that would change the answer, or that stand in the wrong place, each with the values that ask for nothing."""


def refuse_unsupported(extra: Mapping[str, Any], where: str = "", *, n: int | None = None) -> None:
    """Raise a 400 where a field asks for something that is not served yet; ``where`` is the path to it.

    ``n`` is how many choices the request wants: the best ``n`` of as many are all of them.
    """
    for name, value in extra.items():
        harmless = UNSUPPORTED.get(name)
        if name == "best_of":
            harmless = (None, 1, n)
        if harmless is not None and not any(value == item and _same_kind(value, item) for item in harmless):
            raise _unsupported(where + name)


def ignored_fields(extra: Mapping[str, Any]) -> list[str]:
    """Return the names of fields that have no effect because nobody here knows them; null asks for nothing."""
    return [name for name, value in extra.items() if name not in UNSUPPORTED and value is not None]


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Return the header that lists ignored fields; names are a client's, so they are made safe and few."""
    safe = [re.sub(r"[^A-Za-z0-9_.\[\]-]", "?", name)[:64] for name in names]
    shown = safe[:MAX_REPORTED] + (["..."] if len(safe) > MAX_REPORTED else [])
    return {"x-outrider-ignored-fields": ",".join(shown)} if shown else {}


def _same_kind(value: object, item: object) -> bool:
    """Tell 0 from False, which Python holds for equal."""
    return isinstance(value, bool) == isinstance(item, bool)


_INSTEAD = {
    "guided_json": "structured_outputs or response_format",
    "guided_regex": "structured_outputs",
    "guided_choice": "structured_outputs",
    "guided_grammar": "structured_outputs",
    "functions": "tools",
    "function_call": "tool_choice",
    "best_of": "n",
    "max_draft_tokens": "speculation.max_draft_tokens",
}


def _unsupported(name: str) -> ApiError:
    mend = f"use {_INSTEAD[name]} instead" if name in _INSTEAD else "leave it out"
    return invalid(name, f"{name} is not supported; {mend}", "unsupported_parameter")
