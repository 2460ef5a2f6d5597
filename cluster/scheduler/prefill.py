"""How much of the waiting prompts a step computes: no more than the others' inter-token latency can bear.

A sequence that decodes gets its next token when the step ends, so a long prompt beside it makes it stutter. By
measured costs a step may become ``prefill_slowdown`` times as long as it would be without prompts, or
``prefill_step_ms`` long where that is more; prompts get the positions that fit, and a small chunk in any case, so
that they come to their end. Where nobody decodes, or before costs are known, they get all the positions there are.
(Chunked prefill beside decoding: Sarathi-Serve, arXiv 2403.02310, which fixes the number of positions instead.)

The prompt that has run longest gets half of the positions or more, so none starves; the rest goes to those with the
least left, which soonest yields a first token.
"""

from bisect import bisect_right
from collections.abc import Sequence as Seq

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.settings import SchedulerSettings
from workers.contract.step import Row

MIN_CHUNK = 16
"""Positions for prompts in a step that has no time for them."""


def prompt_limits(
    settings: SchedulerSettings, costs: CostModel | None, running: Seq[ActiveRequest], rows: Seq[Row], room: int
) -> dict[ActiveRequest, int]:
    """Return how many positions prompts get that cannot have all they need; one with 0 sits the step out.

    Args:
        settings: the operator's bounds.
        costs: what steps were measured to take, None where nobody measures.
        running: those that have no row yet, or all, those that have run longest first. Whoever has more than one
            token to compute counts as a prompt.
        rows: what else the step computes.
        room: positions that are left of the step's budget.
    """
    prompts = [active for active in running if active.sequence.num_pending > 1]
    if costs is not None and costs.knows_steps and (rows or len(prompts) < len(running)):
        read = max(active.sequence.computed for active in prompts)
        room = min(room, max(_affordable(settings, costs, rows, read, room), MIN_CHUNK))
    shares = share(room, [active.sequence.num_pending for active in prompts])
    return {a: given for a, given in zip(prompts, shares, strict=True) if given < a.sequence.num_pending}


def share(room: int, needs: Seq[int]) -> list[int]:
    """Divide ``room`` positions: half for the first of ``needs``, the rest to the smallest of them first."""
    shares = [0] * len(needs)
    shares[0] = min(needs[0], -(-room // 2))
    room -= shares[0]
    for i in sorted(range(len(needs)), key=lambda i: needs[i]):
        more = min(needs[i] - shares[i], room)
        shares[i] += more
        room -= more
    return shares


def _affordable(settings: SchedulerSettings, costs: CostModel, rows: Seq[Row], read: int, room: int) -> int:
    """Return how many more positions the step has time for; ``read`` is the context of the longest prompt so far."""
    positions = max(sum(len(row.tokens) for row in rows), 1)
    context = sum(row.start + len(row.tokens) for row in rows)
    limit = max(settings.prefill_step_ms / 1000, settings.prefill_slowdown * costs.step_s(positions, context))
    return bisect_right(range(1, room + 1), limit, key=lambda more: costs.step_s(positions + more, context + read))
