"""A request inside the scheduler: its sequence, what it has emitted, and what is known of its next tokens."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from workers.contract.prefix_hash import extend, prefix_hash
from workers.contract.request import FinishReason, GenerationRequest
from workers.contract.sequence import Sequence
from workers.drafting.ngram import NgramIndex
from workers.drafting.outcome_cache import OutcomeCache

LOOKUP_MAX, LOOKUP_MIN = 4, 2
"""Suffix lengths of the target's own n-gram guess: long enough to be worth a verification slot."""


@dataclass(slots=True, eq=False)
class ActiveRequest:
    """One request from its arrival to its end; owned by the planner alone."""

    request: GenerationRequest
    sequence: Sequence
    outcomes: OutcomeCache
    lookup: NgramIndex
    hashes: list[int]
    """hashes[i]: prefix hash of the first prompt_len + i tokens."""
    draft_open: bool = False
    asks: dict[int, float] = field(default_factory=dict)
    """Blocks on their way: length of the sequence when one was asked for -> when that was."""
    missed_blocks: int = 0
    """Blocks in a row that were waited for and did not come in time."""
    gave_up_at: int = -1
    """Length of the sequence for which waiting was last given up."""
    cached_prompt_tokens: int | None = None
    """Prompt tokens found in the prefix cache; None before the first admission."""

    @classmethod
    def start(cls, request: GenerationRequest, seq_id: int) -> "ActiveRequest":
        """Begin a request; tokens that an earlier attempt emitted count as emitted, not as prompt."""
        sequence = Sequence(seq_id, list(request.prompt), len(request.prompt), request.params, request.salt)
        lookup = NgramIndex(LOOKUP_MAX, LOOKUP_MIN)
        lookup.extend(request.prompt)
        active = cls(request, sequence, OutcomeCache(), lookup, [prefix_hash(request.prompt)])
        active.append(request.emitted)
        return active

    @property
    def num_emitted(self) -> int:
        """Tokens emitted so far, earlier attempts included."""
        return len(self.sequence.tokens) - self.sequence.prompt_len

    @property
    def remaining(self) -> int:
        """Tokens that may still be emitted."""
        return self.request.stopping.max_tokens - self.num_emitted

    def append(self, tokens: Seq[int]) -> None:
        """Take tokens that the target has decided."""
        self.sequence.tokens.extend(tokens)
        self.lookup.extend(tokens)
        for token in tokens:
            self.hashes.append(extend(self.hashes[-1], token))

    def cut_at_stop(self, tokens: list[int]) -> tuple[list[int], FinishReason | None]:
        """Return the tokens that may be emitted, and why the request ends with them if it does."""
        for i, token in enumerate(tokens[: self.remaining]):
            if token in self.request.stopping.stop_token_ids:
                return tokens[: i + 1], FinishReason.STOP
        if len(tokens) >= self.remaining:
            return tokens[: self.remaining], FinishReason.LENGTH
        return tokens, None
