"""What a simulated drafter does with its time, token by token or a block at a time."""

import random

import pytest

from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.drafter import SimulatedDrafter
from cluster.simulator.hardware import Hardware
from cluster.simulator.simulation import Load, Simulation
from cluster.simulator.synthetic import SyntheticAcceptance
from cluster.simulator.timeline import Timeline
from workers.contract.draft import OpenDraft
from workers.contract.sampling_params import SamplingParams
from workers.drafting.drafter import DraftPeer

TOKEN_S = 0.001


@pytest.mark.parametrize(("whole_blocks", "ready_at"), [(False, 7), (True, 9)])
def test_an_order_waits_for_a_token_or_for_a_block(whole_blocks, ready_at):
    """Running ahead for a sequence, the drafter gets another order: it is begun after the token, or after the block."""
    timeline, seen = Timeline(), []
    hardware = Hardware(lambda p, c: 1.0, lambda rows: TOKEN_S * rows, whole_blocks=whole_blocks)
    rng = random.Random(0)
    drafter = SimulatedDrafter(hardware, SyntheticAcceptance([1.0], rng), timeline, rng, run_ahead_rows=64)
    peer = DraftPeer(2000, lambda replies: seen.append((timeline.now, replies)))
    drafter.post(peer, [OpenDraft(1, (1,), SamplingParams(seed=1), 4, ahead=1)])
    # Its block is sent after four tokens; then it prepares for one verdict, with four tokens more.
    timeline.after(4.5 * TOKEN_S, lambda: drafter.post(peer, [OpenDraft(2, (1,), SamplingParams(seed=2), 1)]))
    while not any(reply.seq_id == 2 for _, replies in seen for reply in replies):
        assert timeline.advance()
    assert seen[0][0] == pytest.approx(4 * TOKEN_S)
    assert seen[-1][0] == pytest.approx(ready_at * TOKEN_S)


@pytest.mark.parametrize("whole_blocks", [False, True])
def test_beginning_a_block_costs_once_and_so_does_each_verdict_that_is_prepared_for(whole_blocks):
    """Two blocks of two tokens asked for at once, then a block for the one verdict of each that is prepared for."""
    timeline, seen = Timeline(), []
    begin_s, rng = 0.1, random.Random(0)
    hardware = Hardware(
        lambda p, c: 1.0,
        lambda rows: TOKEN_S,
        whole_blocks=whole_blocks,
        begin_draft_s=lambda rows: begin_s * rows,
    )
    drafter = SimulatedDrafter(hardware, SyntheticAcceptance([0.0], rng, corrections=(1.0,)), timeline, rng, 64)
    peer = DraftPeer(2000, lambda replies: seen.append(timeline.now))
    drafter.post(peer, [OpenDraft(i, (1,), SamplingParams(seed=i), 2, ahead=1) for i in (1, 2)])
    while timeline.advance():
        pass
    assert seen[0] == pytest.approx(2 * begin_s + 2 * TOKEN_S)
    assert drafter.busy_s - seen[0] == pytest.approx(2 * begin_s + 2 * TOKEN_S, abs=1.5 * TOKEN_S)


@pytest.mark.parametrize("draft_length", [1, 8])
def test_a_target_is_slower_as_long_as_a_drafter_works_and_so_is_the_drafter(draft_length):
    """Blocks are made beside plain steps and come too late for the next one; half of the time is lost to each other."""
    load = Load(1, requests=1, prompt_tokens=1, answer_tokens=40)
    settings = SchedulerSettings(policy="fixed", draft_wait_ms=0, lookup=False, draft_length=draft_length)

    def run(interference: float) -> Simulation:
        hardware = Hardware(
            lambda p, c: 0.02,
            lambda rows: TOKEN_S,
            round_trip_s=0.001,
            interference=interference,
            drafter_interference=interference,
        )
        simulation = Simulation(hardware, [0.0], load, settings)
        simulation.run()
        return simulation

    alone, together = run(0.0), run(1.0)
    steps = together.targets[0].planner.counters.steps
    assert steps == alone.targets[0].planner.counters.steps
    assert together.drafters[0].busy_s == pytest.approx(2 * alone.drafters[0].busy_s, rel=0.1)
    lost = together.targets[0].busy_s - alone.targets[0].busy_s
    assert lost == pytest.approx(together.drafters[0].busy_s / 2, rel=0.1)
