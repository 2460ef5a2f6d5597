"""The log-probabilities of a request's prompt, which its rows find on their way through it."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from workers.contract.logprobs import RowLogprobs, TokenLogprobs
from workers.contract.sequence import Sequence

SCORED_PER_STEP = 512
"""Positions scored in one step: each needs the logits of the whole vocabulary, and these need memory."""


@dataclass(slots=True)
class PromptScoring:
    """What is known of the prompt's tokens from the second on. Nothing where nobody wants to know."""

    sequence: Sequence
    wanted: bool
    found: list[TokenLogprobs] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Tokens still to be scored: as long as there are any, the prefix cache is of no use."""
        return self.sequence.prompt_len - 1 - len(self.found) if self.wanted else 0

    def tokens(self, start: int, end: int) -> Seq[int]:
        """Return the tokens to be scored by a row that feeds the positions ``start .. end - 1``.

        The token at position p + 1 is scored by the logits after position p.
        """
        if not self.left:
            return ()
        first = max(start, len(self.found)) + 1
        return self.sequence.tokens[first : min(end, self.sequence.prompt_len - 1) + 1]

    def take(self, logprobs: RowLogprobs | None) -> None:
        """Note what a row found."""
        if logprobs is not None:
            self.found.extend(logprobs.scored)

    def deliver(self, count: int | None) -> tuple[TokenLogprobs, ...]:
        """Return everything, with ``count`` alternatives for each token, and be done."""
        found, self.found, self.wanted = self.found, [], False
        return trimmed(found, count or 0)


def trimmed(logprobs: Seq[TokenLogprobs], count: int) -> tuple[TokenLogprobs, ...]:
    """Return log-probabilities with at most ``count`` alternatives each: a row reports the most that anybody wants."""
    return tuple(
        item if len(item.top) <= count else TokenLogprobs(item.token, item.logprob, item.rank, item.top[:count])
        for item in logprobs
    )
