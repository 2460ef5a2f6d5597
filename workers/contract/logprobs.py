"""Log-probabilities of tokens under the target's raw distribution: before temperature, penalties and cuts."""

from dataclasses import dataclass

MAX_LOGPROBS = 20
"""Most alternatives per position, OpenAI's bound."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One position: the token that stands there and the likeliest ones."""

    token: int
    logprob: float
    rank: int
    """1 for the likeliest token."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest ids with their log-probabilities, best first."""


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """What a row of a step asked for, by position."""

    scored: tuple[TokenLogprobs, ...] = ()
    sampled: tuple[TokenLogprobs, ...] = ()
