"""The adaptive policy on simulated hardware: never slower than plain decoding, close to the best fixed way where
speculation pays, and the same text everywhere. Time is simulated, so every figure here is the same on every run."""

import itertools

import pytest

from cluster.scheduler.active import ActiveRequest
from cluster.scheduler.events import DraftersConnected
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.adaptive import AdaptiveSpeculation
from cluster.scheduler.step_clock import StepTime
from cluster.simulator import target
from cluster.simulator.hardware import Hardware
from cluster.simulator.simulation import Load, Report, Simulation
from cluster.simulator.synthetic import token
from workers.contract.draft import DraftSource
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan

FIXED = {"policy": "fixed", "max_draft_tokens_per_step": 10**6}


def two_cores(positions: int, context: int) -> float:
    return 0.016 + 0.0009 * positions


def large_gpu(positions: int, context: int) -> float:
    return max(0.02, 0.02 * positions / 160) + 1e-8 * context


def run(step, draft_share: float, rate: float, concurrency: int, rounds: int = 3, **settings) -> Report:
    """Serve with drafters whose block of 4 takes ``draft_share`` of a plain step and is right at ``rate``."""
    plain_step = step(concurrency, concurrency * 100)
    block_s = draft_share * plain_step
    hardware = Hardware(step, lambda rows: 0.175 * block_s, 0.3 * block_s, interference=0.05, jitter=0.1)
    settings = {"draft_wait_ms": 1000, "lookup": False, **settings}
    load = Load(concurrency, max(rounds * concurrency, 8))
    return Simulation(hardware, [rate], load, SchedulerSettings(**settings)).run()


def quick_drafters(rate: float, requests: int) -> Simulation:
    """One sequence at a time, with drafts that take a twentieth of a step per token."""
    settings = SchedulerSettings(draft_wait_ms=1000, lookup=False)
    return Simulation(Hardware(large_gpu, lambda rows: 0.001), [rate], Load(1, requests), settings)


@pytest.mark.parametrize(("whole_s", "pays"), [(0.0105, True), (0.016, False)])
def test_the_hosts_time_for_drafts_counts_where_plain_steps_are_planned_meanwhile(whole_s, pays):
    """A step of 10 ms; one that verifies a draft token in every row says half as much again."""
    speculation = AdaptiveSpeculation(SchedulerSettings())

    def plan(positions: int) -> StepPlan:
        return StepPlan(tuple(Row(i, [0] * positions, 100, [], positions, SamplingParams()) for i in range(256)))

    for _ in range(50):
        speculation.note_step(plan(1), StepTime(0.013, 0.010))
        speculation.note_step(plan(2), StepTime(whole_s, 0.010))
    plain = 256 / speculation.costs.step_s(256, 256 * 101)
    verified = 256 * 1.5 / speculation.costs.step_s(512, 256 * 102, verified=1.0)
    assert (verified > plain) is pays


@pytest.mark.parametrize("step", [two_cores, large_gpu])
@pytest.mark.parametrize("concurrency", [1, 8, 64])
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("draft_share", [0.1, 1.0, 3.0])
def test_never_slower_than_plain_decoding(step, draft_share, rate, concurrency):
    rounds = 2 if concurrency == 64 else 3
    plain = run(step, draft_share, rate, concurrency, rounds, draft_length=0)
    adaptive = run(step, draft_share, rate, concurrency, rounds)
    assert adaptive.goodput >= 0.97 * plain.goodput


def ragged(positions: int, context: int) -> float:
    """Two cores at 32 sequences at once, as measured: the first draft token costs far more than each further one."""
    return 0.056 + 0.0003 * positions + 0.008 * (positions > 32)


@pytest.mark.parametrize("copied", [3, 5, 8])
def test_look_ups_are_never_slower_where_the_first_draft_token_of_a_step_is_dear(copied, monkeypatch):
    """In texts that copy one passage in so many from before, with mistakes: few look-ups at a time find something."""

    def text(seed: int, position: int) -> int:
        copies = token(seed + 1, position // 8) % copied == 0 and token(seed + 2, position) % 4
        return text(seed, position - 24) if copies and position >= 24 else token(seed, position)

    monkeypatch.setattr(target, "token", text)
    goodput = {}
    for length in (0, 4):
        hardware = Hardware(ragged, lambda rows: 1.0, jitter=0.1)
        settings = SchedulerSettings(draft_length=length)
        goodput[length] = Simulation(hardware, [], Load(32, 192), settings, drafters=0).run().goodput
    assert goodput[4] >= 0.985 * goodput[0]


@pytest.mark.parametrize("concurrency", [128, 512])
@pytest.mark.parametrize("rate", [0.05, 0.7])
def test_never_slower_on_a_crowded_gpu(rate, concurrency):
    options = {"max_running": concurrency, "max_tokens_per_step": 4096, "rounds": 1}
    plain = run(large_gpu, 0.3, rate, concurrency, draft_length=0, **options)
    adaptive = run(large_gpu, 0.3, rate, concurrency, **options)
    assert adaptive.goodput >= 0.97 * plain.goodput


@pytest.mark.parametrize(("concurrency", "least"), [(64, 0.98), (128, 0.98)])
def test_what_it_takes_to_decide_on_drafts_is_kept_small_where_a_device_waits_for_it(concurrency, least):
    """Steps of some 8 ms that are planned ahead where nothing is verified, a host that else needs half of that, and
    drafts that are not worth it: those who are asked to learn must not keep everybody from planning ahead."""
    hardware = Hardware(
        lambda positions, context: 0.006 + 11e-6 * positions,
        lambda rows: 0.0016 + 9e-6 * rows,
        round_trip_s=0.002,
        overhead_s=lambda rows: 0.0003 + 60e-6 * rows,
        plans_ahead=True,
    )
    goodput = {}
    for draft_length in (0, 4):
        options = {"draft_wait_ms": 1000, "lookup": False, "max_running": concurrency, "draft_length": draft_length}
        load = Load(concurrency, 8 * concurrency, 16, 200, warm_up=concurrency)
        goodput[draft_length] = Simulation(hardware, [0.5], load, SchedulerSettings(**options)).run().goodput
    assert goodput[4] >= least * goodput[0]


@pytest.mark.parametrize(
    ("step", "concurrency", "rate", "draft_share"),
    [
        (two_cores, 1, 0.9, 0.1),
        (two_cores, 8, 0.8, 0.3),
        *itertools.product([large_gpu], [1, 16], [0.7, 0.9], [0.3, 1.0]),
    ],
)
def test_where_speculation_pays_it_is_about_as_fast_as_the_best_fixed_way(step, concurrency, rate, draft_share):
    fixed = max(run(step, draft_share, rate, concurrency, draft_wait_ms=wait, **FIXED).goodput for wait in (0, 1000))
    assert run(step, draft_share, rate, concurrency).goodput >= 0.92 * fixed


def test_texts_do_not_depend_on_any_of_it():
    for rate, share in ((0.0, 0.1), (0.7, 0.3), (1.0, 1.0)):
        report = run(two_cores, share, rate, 4)
        assert len(report.requests) == 12
        for name, request in report.requests.items():
            assert request.tokens == [token(int(name), 16 + i) for i in range(200)]


def test_a_drafter_that_does_not_help_is_hardly_asked():
    first, longer = (run(two_cores, 0.1, 0.02, 1, rounds=rounds) for rounds in (10, 30))
    assert first.asked < 0.06 * first.tokens
    assert longer.asked - first.asked < 0.03 * (longer.tokens - first.tokens)


def test_a_drafter_that_becomes_good_is_noticed():
    simulation = quick_drafters(0.0, 12)
    take = simulation.submit
    learned = []

    def submit() -> bool:
        if simulation.left == 6:
            simulation.acceptance.rates = [0.9]
        learned.append(simulation.targets[0].planner._speculation.way is not None)
        return take()

    simulation.submit = submit
    simulation.run()
    assert not any(learned[:6])
    assert learned[-1]


def test_drafters_that_go_away_are_not_waited_for():
    simulation = quick_drafters(0.9, 8)
    take = simulation.submit

    def submit() -> bool:
        if simulation.left == 4:
            simulation.targets[0].tell(DraftersConnected(0))
        return take()

    simulation.submit = submit
    report = simulation.run()
    assert report.tokens == 8 * 200


def test_a_lost_block_holds_nobody_for_long():
    """Blocks that never come: the drafter hangs, its connection does not."""
    plain = run(large_gpu, 0.1, 0.9, 1, draft_length=0, rounds=6)
    simulation = quick_drafters(0.9, 6)
    take = simulation.submit

    def submit() -> bool:
        if simulation.left == 3:
            simulation.hardware.draft_step_s = lambda rows: 1e9
        return take()

    simulation.submit = submit
    assert simulation.run().seconds < plain.seconds


def test_the_load_shows_why_drafters_are_asked_or_not():
    helpful, useless = quick_drafters(0.9, 4), quick_drafters(0.005, 12)
    helpful.run()
    useless.run()
    good, bad = helpful.targets[0].planner.load(), useless.targets[0].planner.load()
    assert good.goodput_drafted > 1.5 * good.goodput_plain > 0
    assert 0 < bad.goodput_drafted < 1.03 * bad.goodput_plain
    assert good.draft_wait_seconds > 0.01 * helpful.report.seconds
    assert bad.draft_wait_seconds < 0.001 * useless.report.seconds
    assert good.draft_blocks_asked == helpful.report.asked
    assert helpful.report.asked / helpful.report.seconds > 2 * useless.report.asked / useless.report.seconds > 0


def test_what_drafters_are_asked_for_although_it_does_not_pay_is_verified_whole():
    """Positions that are taken to be too dear would never be measured again, and stay dear."""
    costs = Hardware(lambda positions, context: 0.02 * positions, lambda rows: 0.001)
    curious, plain = (
        Simulation(costs, [0.9], Load(1, 20), SchedulerSettings(draft_length=length, lookup=False)) for length in (4, 0)
    )
    assert curious.run().goodput > 0.99 * plain.run().goodput
    rows = curious.targets[0].planner.load().rows_by_draft_length
    assert rows[4] + rows[3] > 8  # one token of the block was decided while it was on its way
    assert rows[0] > 50 * sum(rows[1:])


@pytest.mark.parametrize("block", [0.2, 0.8])
def test_a_step_is_known_to_have_run_beside_drafters_whose_blocks_came_before_it_was_over(block):
    settings = SchedulerSettings(draft_wait_ms=1000, lookup=False, way=Way.OVERLAPPED)
    hardware = Hardware(large_gpu, lambda rows: 0.25 * block * large_gpu(1, 1))
    simulation = Simulation(hardware, [0.6], Load(1, 8), settings)
    costs = simulation.targets[0].planner._speculation.costs
    observe, beside = costs.observe_step, []

    def watched(positions, context, drafting, *rest):
        beside.append(drafting)
        observe(positions, context, drafting, *rest)

    costs.observe_step = watched
    simulation.run()
    assert sum(beside[40:]) > 0.9 * len(beside[40:])


def test_what_is_known_of_drawn_texts_says_nothing_of_greedy_ones():
    speculation = AdaptiveSpeculation(SchedulerSettings())

    def admitted(temperature: float) -> ActiveRequest:
        params = SamplingParams(temperature=temperature)
        active = ActiveRequest.start(GenerationRequest("r", [1, 2, 3], params, Stopping(10)), 1)
        speculation.admitted(active)
        return active

    before = admitted(0.0).acceptance[DraftSource.DRAFTER].survival(1)[0]
    for _ in range(200):
        admitted(0.8).acceptance[DraftSource.DRAFTER].note(0, 0, missed=True)
    assert admitted(0.8).acceptance[DraftSource.DRAFTER].survival(1)[0] < 0.1
    assert admitted(0.0).acceptance[DraftSource.DRAFTER].survival(1)[0] == before


def test_what_blocks_take_is_known_although_nobody_asks_for_them_in_earnest():
    """Beside steps that hold drafters up, and after gaps that they must read up on, blocks look dear."""
    step_s, token_s = 0.02, 0.002
    hardware = Hardware(
        lambda positions, context: step_s * positions, lambda rows: token_s, drafter_interference=3.0, jitter=0.05
    )
    settings = SchedulerSettings(draft_wait_ms=1000, lookup=False)
    simulation = Simulation(hardware, [0.9], Load(4, 40), settings)
    simulation.run()
    planner = simulation.targets[0].planner
    assert planner.load().steps_by_way[1:] == (0,) * 4
    assert planner._speculation.costs.block_s(4, 4) == pytest.approx(4 * token_s, rel=0.2)
