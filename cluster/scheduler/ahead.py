"""The rows of a step before it is known what the step before it says.

A row of plain decoding says one token, and the next row of its sequence feeds that token, whatever it is. Where no
drafts are worth looking for, a step can so be planned while the one before it is computed; it is complete as soon as
those tokens are there. What else they change (requests that end, what others are told) can wait until it is under way.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from workers.contract.step import Row, StepOutput, StepPlan
from workers.kv.block_pool import BlockPool


def rows_ahead(
    plan: StepPlan, requests: Mapping[int, ActiveRequest], pool: BlockPool, max_model_len: int
) -> list[Row | None] | None:
    """Return for each row of a plan the row that follows it, without its token, and no row where the request ends.

    ``requests``: those that run, by sequence. None instead of all where something has to be looked into first: a row
    of a draft or of a part of a prompt, a request with processors or log-probabilities, or too few free blocks.
    """
    rows: list[Row | None] = []
    for row in plan.rows:
        active = requests.get(row.seq_id)
        if active is None:
            rows.append(None)
            continue
        if row.num_samples != 1 or not active.plain:
            return None
        sequence = active.sequence
        length = len(sequence.tokens)
        if active.longest - length <= 1 or length + 1 >= max_model_len:
            rows.append(None)
            continue
        if not pool.reserve(sequence, length + 1):
            return None
        rows.append(Row(row.seq_id, (), length, sequence.block_ids, 1, sequence.params))
    return rows


def completed(rows: Seq[Row | None], output: StepOutput, requests: Mapping[int, ActiveRequest]) -> list[Row]:
    """Return the rows with the tokens of ``output`` to feed; none at all where that step has failed in part.

    Rows are left out whose request has ended with its token, or has been cancelled since.
    """
    going: list[Row] = []
    if output.errors:
        return going
    for row, sampled in zip(rows, output.sampled, strict=True):
        if row is None or (active := requests.get(row.seq_id)) is None:
            continue
        if sampled[0] not in active.request.stopping.stop_token_ids:
            row.tokens = sampled
            going.append(row)
    return going
