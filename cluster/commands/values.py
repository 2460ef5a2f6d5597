"""Values that options take in a row."""

from collections.abc import Callable
from typing import TypeVar

from workers.contract.errors import ConfigurationError

N = TypeVar("N", int, float)
MAX_VALUES = 64


def numbers(option: str, text: str, read: Callable[[str], N]) -> list[N]:
    """Return numbers with commas between them.

    Raises:
        ConfigurationError: one is none, or there are too many; it names the option.
    """
    try:
        values = [read(part.strip()) for part in text.split(",")]
    except ValueError:
        kind = "whole numbers" if read is int else "numbers"
        raise ConfigurationError(f"{option} takes {kind} with commas between them, not {text!r}") from None
    if len(values) > MAX_VALUES:
        raise ConfigurationError(f"{option} takes at most {MAX_VALUES} values, got {len(values)}")
    return values
