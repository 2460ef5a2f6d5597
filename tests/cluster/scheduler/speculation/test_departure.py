"""When the next step begins: going at once against waiting, at what a step costs beside drafters and alone."""

import pytest

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.speculation.departure import Coming, Scene, depart_together
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams


@pytest.fixture
def costs():
    """A step takes 20 ms, or 50 beside drafters; a further position 0.5 ms."""
    costs = CostModel()
    for _ in range(60):
        for positions in (1, 2, 5):
            costs.observe_step(positions, 20, False, 0.0195 + 0.0005 * positions)
    for _ in range(60):
        costs.observe_step(1, 20, True, 0.05)
    return costs


def scene(costs: CostModel, *, drafting: bool, drafting_on: bool = False, due: float = 0.008) -> Scene:
    active = ActiveRequest.start(GenerationRequest("r", [1, 2, 3], SamplingParams(), Stopping(10)), 1)
    coming = [Coming(due, active, [0.3])]
    return Scene(costs, 0.0, [active], {}, coming, 0, 512, {active: 3}, drafting, drafting_on)


def test_nobody_waits_where_it_does_not_pay_and_drafters_take_nothing(costs):
    assert depart_together(scene(costs, drafting=False)).until is None


def test_who_would_go_beside_a_drafter_waits_until_it_is_done(costs):
    assert depart_together(scene(costs, drafting=True)).until == pytest.approx(0.008, rel=0.2)


def test_who_waits_long_for_it_goes(costs):
    assert depart_together(scene(costs, drafting=True, due=0.1)).until is None


def test_a_drafter_that_goes_on_working_is_no_reason_to_wait(costs):
    assert depart_together(scene(costs, drafting=True, drafting_on=True)).until is None
