"""Prompts beside sequences that decode, in simulated time: nobody stutters, and no prompt starves."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduler.events import Arrived, Wait
from cluster.scheduler.planner import Planner
from cluster.scheduler.prefill import MIN_CHUNK, share
from cluster.scheduler.settings import SchedulerSettings
from tests.support.toy_target import VOCAB, ToyTarget, plain_text
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.kv.block_pool import BlockPool

TOLERANCE = 1.1
"""Costs are learned, so a bound on them is kept about."""


def two_cores(positions: int, context: int) -> float:
    return 0.016 + 0.0009 * positions


def large_gpu(positions: int, context: int) -> float:
    return 0.02 * max(1.0, positions / 160)


def slow_attention(positions: int, context: int) -> float:
    return two_cores(positions, context) + 1e-5 * context


@dataclass(frozen=True)
class Step:
    """What a step was made of, in positions."""

    decoding: int
    prompts: dict[str, int]
    seconds: float
    bare: float
    """What it would have taken without prompts."""

    @property
    def positions(self) -> int:
        return self.decoding + sum(self.prompts.values())


class Run:
    """A planner without drafters on a toy target whose steps take simulated time."""

    def __init__(self, step_s, **settings) -> None:
        self.step_s = step_s
        self.target = ToyTarget(num_blocks=4096, block_size=16, max_model_len=4096)
        pool = BlockPool(self.target.num_blocks, self.target.block_size)
        self.planner = Planner(SchedulerSettings(lookup=False, **settings), pool, self.target.max_model_len)
        self.now = 0.0
        self.steps: list[Step] = []
        self.requests: dict[str, GenerationRequest] = {}
        self.texts: dict[str, list[int]] = {}
        self.first_token_at: dict[str, float] = {}
        self.finished: set[str] = set()
        self._names: dict[int, str] = {}

    def add(self, name: str, prompt: int, answer: int) -> None:
        number = len(self.requests) + 1
        tokens = [(number * 7 + i * i) % VOCAB for i in range(prompt)]
        self.requests[name] = GenerationRequest(name, tokens, SamplingParams(seed=number), Stopping(answer))
        self.texts[name] = []
        self._names[number] = name
        self.planner.observe(Arrived(self.requests[name]))

    def step(self) -> None:
        plan = self.planner.plan(self.now)
        assert not isinstance(plan, Wait)
        assert all(row.tokens for row in plan.rows)
        prompts = {self._names[row.seq_id]: len(row.tokens) for row in plan.rows if self._in_prompt(row)}
        rest = [row for row in plan.rows if not self._in_prompt(row)]
        seconds, bare = self._seconds(plan.rows), self._seconds(rest)
        self.steps.append(Step(sum(len(row.tokens) for row in rest), prompts, seconds, bare))
        started, self.now = self.now, self.now + seconds
        for item in self.planner.commit(plan, self.target.execute(plan), started, self.now):
            self.texts[item.request_id] += item.tokens
            self.first_token_at.setdefault(item.request_id, self.now)
            if item.finish_reason:
                self.finished.add(item.request_id)

    def until_first_token(self, name: str) -> list[Step]:
        """Run until a request has its first token; return the steps that it took."""
        before = len(self.steps)
        while name not in self.first_token_at:
            self.step()
        return self.steps[before:]

    def until_all_end(self) -> None:
        while len(self.finished) < len(self.requests):
            self.step()
        for name, request in self.requests.items():
            length = request.stopping.max_tokens
            assert self.texts[name] == plain_text(request.prompt, request.params, length)

    def _seconds(self, rows) -> float:
        return self.step_s(sum(len(row.tokens) for row in rows), sum(row.start + len(row.tokens) for row in rows))

    def _in_prompt(self, row) -> bool:
        return row.start < len(self.requests[self._names[row.seq_id]].prompt)


def decoding(step_s, sequences: int = 4, **settings) -> Run:
    """Return a run in which so many sequences decode and costs are known, also those of long prompts."""
    run = Run(step_s, **settings)
    run.add("learned", 600, 1)
    run.until_first_token("learned")
    for i in range(sequences):
        run.add(f"decoding{i}", 10, 400)
    for _ in range(20):
        run.step()
    run.add("learned beside others", 600, 1)
    run.until_first_token("learned beside others")
    return run


@pytest.mark.parametrize("step_s", [two_cores, large_gpu, slow_attention])
@pytest.mark.parametrize(("slowdown", "step_ms"), [(3.0, 0.0), (1.5, 100.0), (4.0, 50.0)])
def test_a_long_prompt_stretches_others_steps_by_no_more_than_allowed(step_s, slowdown, step_ms):
    run = decoding(step_s, prefill_slowdown=slowdown, prefill_step_ms=step_ms)
    run.add("long", 1500, 5)
    steps = run.until_first_token("long")
    for step in steps:
        assert step.decoding == 4
        assert step.seconds <= TOLERANCE * max(slowdown * step.bare, step_ms / 1000)
    run.until_all_end()


@pytest.mark.parametrize("step_s", [two_cores, large_gpu])
@pytest.mark.parametrize("slowdown", [1.5, 3.0, 6.0])
def test_its_first_token_comes_as_soon_as_the_time_that_is_left_allows(step_s, slowdown):
    run = decoding(step_s, prefill_slowdown=slowdown, prefill_step_ms=0.0)
    asked_at = run.now
    run.add("long", 1500, 1)
    last = run.until_first_token("long")[-1]
    needed = step_s(1500, 0) - step_s(0, 0)
    assert run.now - asked_at <= TOLERANCE * needed / (1 - 1 / slowdown) + slowdown * last.bare


@pytest.mark.parametrize("settings", [{"prefill_slowdown": 1000.0}, {"policy": "fixed"}])
def test_without_a_bound_or_known_costs_a_step_is_filled_to_its_budget(settings):
    run = decoding(two_cores, **settings)
    run.add("long", 1500, 5)
    steps = run.until_first_token("long")
    assert [step.positions for step in steps[:-1]] == [512] * (len(steps) - 1)


def test_where_there_is_no_time_for_prompts_they_still_move_on():
    run = decoding(two_cores, prefill_slowdown=1.0, prefill_step_ms=0.0)
    run.add("long", 20 * MIN_CHUNK, 1)
    assert [step.prompts for step in run.until_first_token("long")] == [{"long": MIN_CHUNK}] * 20
    run.until_all_end()


def test_where_nobody_decodes_prompts_get_everything():
    run = decoding(two_cores)
    run.until_all_end()
    run.add("long", 1000, 1)
    run.add("short", 100, 1)
    steps = [step.prompts for step in run.until_first_token("long")]
    assert steps == [{"long": 412, "short": 100}, {"long": 512}, {"long": 76}]


def test_a_short_prompt_need_not_wait_for_the_end_of_a_long_one():
    run = decoding(two_cores)
    run.add("long", 1500, 1)
    run.step()
    run.add("short", 60, 1)
    assert len(run.until_first_token("short")) <= 4
    assert "long" not in run.first_token_at


def test_a_stream_of_short_prompts_does_not_starve_a_long_one():
    run = decoding(two_cores, max_running=1000)
    run.add("long", 1500, 1)
    for i in itertools.count():
        run.add(f"short{i}", 60, 1)
        run.step()
        if "long" in run.first_token_at:
            break
    shares = [step.prompts.get("long", 0) / sum(step.prompts.values()) for step in run.steps if "long" in step.prompts]
    assert min(shares[:-1]) >= 0.5
    assert len(shares) > 10
    assert len([name for name in run.first_token_at if name.startswith("short")]) > 5


@given(st.integers(1, 600), st.lists(st.integers(1, 500), min_size=1, max_size=8))
def test_no_position_is_lost_the_first_gets_half_and_the_shortest_come_next(room, needs):
    shares = share(room, needs)
    assert sum(shares) == min(room, sum(needs))
    assert all(0 <= given <= need for given, need in zip(shares, needs, strict=True))
    assert shares[0] >= min(needs[0], room / 2)
    for a, b in itertools.permutations(range(1, len(needs)), 2):
        if needs[a] < needs[b] and shares[b]:
            assert shares[a] == needs[a]
