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
