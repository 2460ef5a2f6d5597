"""A step has so many positions: whoever decodes gets one of them before anybody's draft, and prompts get on."""

import pytest

from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.hardware import Hardware
from cluster.simulator.simulation import Load, Simulation

STEP_S = 0.02


def waits(settings: SchedulerSettings, load: Load, acceptance: float) -> tuple[float, float]:
    """Return the longest times between two tokens of an answer, and to its first one, in steps."""
    hardware = Hardware(lambda positions, context: STEP_S, lambda rows: 0.0005, round_trip_s=0.001)
    simulation = Simulation(hardware, [acceptance], load, settings)
    target = simulation.targets[0]
    latest, pauses, take = {}, {}, target._on_progress

    def watched(items):
        for item in items:
            now = simulation.timeline.now
            pauses[item.request_id] = max(pauses.get(item.request_id, 0.0), now - latest.get(item.request_id, now))
            latest[item.request_id] = now
        take(items)

    target._on_progress = watched
    report = simulation.run()
    assert len(pauses) == load.requests
    first = max(timing.first - timing.sent for timing in report.requests.values())
    return max(pauses.values()) / STEP_S, first / STEP_S


def test_drafts_of_the_oldest_take_nobody_elses_turn():
    settings = SchedulerSettings(max_running=24, max_tokens_per_step=64, lookup=False)
    pause, first = waits(settings, Load(24, 48, prompt_tokens=20, answer_tokens=400), 0.97)
    assert pause < 3
    assert first < 24 * 20 / 16


@pytest.mark.parametrize("draft_length", [0, 4])
def test_where_not_all_have_a_place_they_take_turns(draft_length):
    settings = SchedulerSettings(max_running=16, max_tokens_per_step=8, lookup=False, draft_length=draft_length)
    pause, first = waits(settings, Load(16, 16, prompt_tokens=1, answer_tokens=60), 0.97)
    assert max(pause, first) < 6
