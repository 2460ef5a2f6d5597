"""One pass of a model over a packed, ragged batch: what goes in and what comes out.

There is no prefill phase and no decode phase. A row feeds some tokens of one sequence and may ask for the
model's choice after each of its last few positions. A prefill chunk asks for none, its last chunk for one,
a decode row feeds one token and asks for one, and a verification row feeds the last token and K draft
tokens and asks for K + 1. The runner knows nothing of drafts; that is the whole of verification's cost.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from workers.contract.draft import DraftSource
from workers.contract.logprobs import RowLogprobs
from workers.contract.processing import Processing
from workers.contract.sampling_params import SamplingParams


@dataclass(slots=True)
class Row:
    """One sequence's share of a step; not changed once it is made, and not frozen only because that costs time.

    ``tokens`` are fed at positions ``start .. start + len(tokens) - 1``; ``block_ids`` hold KV for all of
    them. The model's choice is wanted after each of the last ``num_samples`` of them: the choice after
    position p is the token at position p + 1.
    """

    seq_id: int
    tokens: Seq[int]
    start: int
    block_ids: Seq[int]
    num_samples: int
    params: SamplingParams
    draft_source: DraftSource = DraftSource.NONE
    processing: Processing | None = None
    """What reshapes the logits of the sampled positions; None: nothing."""
    num_logprobs: int | None = None
    """Alternatives whose log-probabilities are wanted at the sampled and scored positions; None: none at all."""
    scored: Seq[int] = ()
    """Known tokens whose log-probabilities are wanted: they follow the last positions before the sampled ones."""

    @property
    def num_logits(self) -> int:
        """Positions whose logits are needed: the last ones of the row."""
        return len(self.scored) + self.num_samples

    @property
    def whole_logits(self) -> bool:
        """Whether rank 0 needs the logits of the whole vocabulary, however they are sharded."""
        return self.processing is not None or self.num_logprobs is not None

    @property
    def draft(self) -> Seq[int]:
        """The draft tokens of a verification row: all but the first of the positions that are sampled."""
        return self.tokens[len(self.tokens) - self.num_samples + 1 :] if self.num_samples > 1 else ()


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The rows of one step; every tensor-parallel rank runs the same plan in the same order."""

    rows: tuple[Row, ...]

    @property
    def num_tokens(self) -> int:
        """Positions computed by this step."""
        return sum(len(row.tokens) for row in self.rows)

    @property
    def context(self) -> int:
        """Positions that the rows can see, summed over the rows."""
        return sum(row.start + len(row.tokens) for row in self.rows)

    @property
    def verifies(self) -> bool:
        """Whether there are draft tokens among the positions."""
        return any(row.num_samples > 1 for row in self.rows)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What the model chose: ``sampled[i][j]`` follows the j-th sampled position of ``rows[i]``."""

    sampled: list[list[int]]
    logprobs: Mapping[int, RowLogprobs] = field(default_factory=dict)
    """By index of the row, for rows that asked for them."""
    errors: Mapping[int, str] = field(default_factory=dict)
    """Rows, by index, whose own processing failed; what was sampled there means nothing."""


def verify(draft: Seq[int], sampled: list[int]) -> list[int]:
    """Return the tokens that a verification row emits: the accepted ones and the target's own next token.

    ``sampled`` holds the target's choice at ``len(draft) + 1`` positions, each computed under the
    assumption that the draft before it is right. The choices are right as far as that holds: up to and
    including the first that differs from the draft. No draw, no probability, no residual distribution
    (sample-and-match; with coupled noise, arXiv 2408.07978), so the drafter can never change the text.
    """
    accepted = 0
    for guess in draft:
        if sampled[accepted] != guess:
            break
        accepted += 1
    return sampled[: accepted + 1]
