"""What reshapes a target's logits before a token is drawn: the part of sampling that drafters never hear of.

A drafter needs none of it: the target processes each row of a verification as if the draft before it were the
text, so a draft that ignores biases, penalties or a grammar is merely wrong more often.
"""

import math
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from workers.contract.errors import InvalidParameterError

MAX_BIASED_TOKENS = 1024
MAX_ALLOWED_TOKENS = 4096
MAX_BANNED = 256
MAX_BANNED_LENGTH = 64
MAX_BIAS = 100.0
MAX_PENALTY = 2.0
MAX_REPETITION_PENALTY = 10.0
MAX_GRAMMAR_CHARS = 64 * 1024


def _check_range(param: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidParameterError(param, f"{param} must be between {low:g} and {high:g}, got {value}")


class GrammarKind(StrEnum):
    """In which language a grammar is written."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"
    """Lark's notation for context-free grammars, as llguidance reads it."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """The language that an answer must belong to, as its source text."""

    kind: GrammarKind
    source: str

    def __post_init__(self) -> None:
        if len(self.source) > MAX_GRAMMAR_CHARS:
            raise InvalidParameterError(
                "response_format",
                f"a grammar may have at most {MAX_GRAMMAR_CHARS} characters, got {len(self.source)}; make it smaller",
            )


@dataclass(frozen=True, slots=True)
class ProcessorParams:
    """Biases and penalties; the defaults change nothing. Raises InvalidParameterError for what is out of range."""

    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these ids, -MAX_BIAS to MAX_BIAS."""
    allowed_token_ids: frozenset[int] = frozenset()
    """Where there are any, no other id can be drawn."""
    repetition_penalty: float = 1.0
    """Logits of ids in prompt or answer are divided by it where positive, else multiplied (CTRL, arXiv 1909.05858)."""
    presence_penalty: float = 0.0
    """Taken from the logits of ids that the answer has."""
    frequency_penalty: float = 0.0
    """Taken from them once for each time that the answer has them."""
    min_tokens: int = 0
    """No token that would end the answer is drawn before it has so many."""
    banned: tuple[tuple[int, ...], ...] = ()
    """Sequences of ids that the answer must not contain: their last id is not drawn after the others."""

    def __post_init__(self) -> None:
        if len(self.logit_bias) > MAX_BIASED_TOKENS:
            raise InvalidParameterError("logit_bias", f"logit_bias may have at most {MAX_BIASED_TOKENS} entries")
        for bias in self.logit_bias.values():
            _check_range("logit_bias", bias, -MAX_BIAS, MAX_BIAS)
        if len(self.allowed_token_ids) > MAX_ALLOWED_TOKENS:
            raise InvalidParameterError(
                "allowed_token_ids", f"allowed_token_ids may have at most {MAX_ALLOWED_TOKENS} entries"
            )
        for name in ("presence_penalty", "frequency_penalty"):
            _check_range(name, getattr(self, name), -MAX_PENALTY, MAX_PENALTY)
        if not 0.0 < self.repetition_penalty <= MAX_REPETITION_PENALTY:
            raise InvalidParameterError(
                "repetition_penalty",
                f"repetition_penalty must be above 0 and at most {MAX_REPETITION_PENALTY}, "
                f"got {self.repetition_penalty}",
            )
        if len(self.banned) > MAX_BANNED:
            raise InvalidParameterError(
                "bad_words", f"bad_words may come to at most {MAX_BANNED} sequences of tokens, got {len(self.banned)}"
            )
        if not all(1 <= len(ids) <= MAX_BANNED_LENGTH for ids in self.banned):
            raise InvalidParameterError("bad_words", f"a bad word must have 1 to {MAX_BANNED_LENGTH} tokens")
        if self.min_tokens < 0:
            raise InvalidParameterError("min_tokens", f"min_tokens must not be negative, got {self.min_tokens}")

    @property
    def penalises(self) -> bool:
        """Whether it matters which tokens the text has."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    @property
    def neutral(self) -> bool:
        """Whether all of it changes nothing."""
        return not (self.logit_bias or self.allowed_token_ids or self.penalises or self.min_tokens or self.banned)


NEUTRAL = ProcessorParams()
"""Leaves logits as they are."""


class GrammarMatcher(Protocol):
    """Where one sequence stands in its grammar. Used by one thread; a token that it has been told of stays."""

    def advance(self, tokens: Seq[int]) -> None:
        """Take tokens that the target has decided; an end token, and what follows it, is not looked at."""

    def legal_prefix(self, draft: Seq[int]) -> int:
        """Return how many tokens of a draft the grammar allows here, an end token where the answer is complete."""

    def masks(self, draft: Seq[int]) -> list[bytes]:
        """Return what may follow here and after each token of a draft, up to the first that is illegal.

        Bit ``v % 8`` of byte ``v // 8`` says whether token v may. The matcher stays where it is.

        Raises:
            GrammarError: the grammar has become too complex to follow; the request has to end.
        """


@dataclass(slots=True, eq=False, weakref_slot=True)
class Processing:
    """How one sequence's logits are processed; lives as long as the sequence, so state may hang on it weakly."""

    params: ProcessorParams
    tokens: Seq[int]
    """The sequence's own list: prompt and answer so far, growing."""
    prompt_len: int
    end_token_ids: frozenset[int]
    """What min_tokens keeps away."""
    grammar: GrammarMatcher | None = None
