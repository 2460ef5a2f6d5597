"""A simulated step takes what its positions cost, and what drafts cost besides where there are any."""

import pytest

from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.hardware import Hardware
from cluster.simulator.simulation import Load, Simulation


@pytest.mark.parametrize("draft_length", [0, 2])
def test_only_steps_that_verify_pay_for_drafts(draft_length):
    seconds = {}
    for drafts_s in (0.0, 0.5):
        hardware = Hardware(lambda p, c: 1.0, lambda rows: 1e-6, drafts_s=drafts_s)
        settings = SchedulerSettings(policy="fixed", draft_length=draft_length, draft_wait_ms=1000, lookup=False)
        report = Simulation(hardware, [1e-9], Load(1, 4, answer_tokens=20), settings).run()
        assert report.tokens == 80
        seconds[drafts_s] = report.seconds
    # The first step of an answer reads the prompt, and the last has nobody to draft for.
    verified = (seconds[0.5] - seconds[0.0]) / 0.5
    assert verified == pytest.approx(4 * 18 if draft_length else 0, abs=0.01)


@pytest.mark.parametrize(("overhead_s", "expected"), [(0.0, 1.0), (0.25, 1.0), (3.0, 3.0)])
def test_what_is_done_beside_steps_takes_time_where_it_takes_longer_than_they_do(overhead_s, expected):
    seconds = {}
    for ahead in (False, True):
        hardware = Hardware(lambda p, c: 1.0, lambda rows: 1e-6, overhead_s=lambda rows: overhead_s, plans_ahead=ahead)
        settings = SchedulerSettings(policy="fixed", draft_length=0, lookup=False)
        report = Simulation(hardware, [1e-9], Load(2, 8, answer_tokens=50), settings).run()
        assert report.tokens == 8 * 50
        seconds[ahead] = report.seconds
    # Two answers at once, so four rounds of 50 steps; the last step of a round is followed by a pause.
    assert seconds[False] == pytest.approx(200 * (1 + overhead_s), rel=0.01)
    assert seconds[True] == pytest.approx(200 * expected, rel=0.05)


@pytest.mark.parametrize("accepted", [0.1, 0.7])
def test_planning_ahead_loses_no_token_where_drafts_come_and_go(accepted):
    hardware = Hardware(
        lambda p, c: 0.01 + 1e-5 * p, lambda rows: 1e-3, overhead_s=lambda rows: 1e-4 * rows, plans_ahead=True
    )
    report = Simulation(hardware, [accepted], Load(16, 60, answer_tokens=90), SchedulerSettings(lookup=False)).run()
    assert report.tokens == 60 * 90
