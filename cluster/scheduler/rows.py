"""A request's row of a step."""

from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.draft import Draft
from workers.contract.step import Row


def row_of(active: ActiveRequest, tokens: Seq[int], draft: Draft, num_samples: int) -> Row:
    """Return the row that feeds ``tokens`` from the first position that is not computed, the draft's included."""
    sequence, start = active.sequence, active.sequence.computed
    row = Row(sequence.seq_id, tokens, start, sequence.block_ids, num_samples, sequence.params, draft.source)
    if not active.plain:
        row.processing, row.num_logprobs = active.processing, active.num_logprobs
        row.scored = active.scoring.tokens(start, start + len(tokens))
    return row
