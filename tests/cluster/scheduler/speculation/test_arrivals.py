"""When blocks are expected: never at the very moment of the question, which would be asked again and again."""

import pytest

from cluster.scheduler.active import ActiveRequest, Ask
from cluster.scheduler.estimates.acceptance import Acceptance
from cluster.scheduler.speculation.arrivals import coming
from cluster.scheduler.speculation.knowledge import Knowledge
from workers.contract.draft import DraftSource
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams


def asked(at: float, **kind: bool) -> ActiveRequest:
    active = ActiveRequest.start(GenerationRequest("r", [1, 2, 3], SamplingParams(), Stopping(10)), 1)
    active.acceptance = {DraftSource.DRAFTER: Acceptance()}
    active.asks[3] = Ask(at, 4, 1, first=False, **kind)
    return active


@pytest.fixture
def known() -> Knowledge:
    """A block takes 10 ms."""
    known = Knowledge(4)
    for _ in range(20):
        known.costs.observe_block(4, 1, 0.01)
    return known


def due(known: Knowledge, active: ActiveRequest, now: float) -> list[float]:
    return [block.due for block in coming(known, [active], {}, 0.02, 1.0, now)]


def test_a_block_is_expected_when_such_blocks_come_and_soon_where_it_is_late(known):
    assert due(known, asked(1.0), 1.0) == pytest.approx([1.01], rel=1e-3)
    assert due(known, asked(1.0), 1.016) == pytest.approx([1.02], rel=1e-3)
    assert due(known, asked(1.0), 1.1) == []


def test_nothing_is_expected_of_drafters_that_are_behind(known):
    assert due(known, asked(1.0, behind=True), 1.0) == []


def test_what_is_taken_to_cost_nothing_is_not_waited_for_at_the_moment_of_the_order():
    assert due(Knowledge(4), asked(1.0), 1.0) == []
