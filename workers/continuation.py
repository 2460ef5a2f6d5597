"""Several tokens after each other without waiting for the device: each row goes on with what the model has chosen.

Where the next tokens stand, where their keys and values go and by which noise they are chosen does not depend on what
they are. So the host plans the next step while the device computes this one, and the tokens stay on the device until
all of them are there: one copy back for a whole block of guesses.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.contract.step import Row, StepPlan
from workers.sampling.coupled import in_order

Rank = Callable[[StepPlan, Tensor | None], Tensor | None]
"""(plan, tokens) -> ids ``[N, 1 + k]`` as `workers.sampling.coupled.ranked_ids` gives them, None without any sampled
position. Tokens, int64 ``[rows]`` on the device, are fed in place of those of the plan, whose rows have one each."""


def go_on(plan: StepPlan, guesses: Seq[int], rank: Rank) -> list[list[list[int]]]:
    """Run a plan, and further steps until row i has chosen ``guesses[i]`` tokens.

    Row i samples after its last token where ``guesses[i]`` is above 0, else nowhere; it has blocks for all of its
    guesses but the last. Returns for each row and guess the likely tokens, the choice first.
    """
    order = sorted(range(len(guesses)), key=lambda i: -guesses[i])
    rows = [plan.rows[i] for i in order]
    ranked = rank(StepPlan(tuple(rows)), None)
    if ranked is None:
        return [[] for _ in guesses]
    counts = [sum(wanted > step for wanted in guesses) for step in range(max(guesses))]
    blocks = [ranked]
    for step, count in enumerate(counts[1:]):
        following = StepPlan(tuple(_after(row, step) for row in rows[:count]))
        ranked = rank(following, blocks[-1][:count, 0])
        assert ranked is not None
        blocks.append(ranked)
    chosen = iter(in_order(torch.cat(blocks).tolist()))
    lines: list[list[list[int]]] = [[] for _ in guesses]
    for count in counts:
        for place in order[:count]:
            lines[place].append(next(chosen))
    return lines


def _after(row: Row, further: int) -> Row:
    """Return the row of one token that follows ``row`` and so many guesses; which token, only the device knows."""
    start = row.start + len(row.tokens) + further
    return Row(row.seq_id, (0,), start, row.block_ids, 1, row.params)
