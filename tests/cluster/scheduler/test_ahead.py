"""Steps that are planned before the ones before them are over: the text is that of plain decoding all the same."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.scheduler.events import Cancelled, DraftersConnected, Wait
from cluster.scheduler.speculation import rest
from cluster.scheduler.speculation.rest import OFTEN, SELDOM, TIRED_AFTER, Rest
from tests.cluster.scheduler.test_planner import STEP_S, Rig, request, toy_block
from tests.support.toy_target import VOCAB, ToyTarget, plain_text
from workers.contract.processing import ProcessorParams
from workers.contract.request import FinishReason
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import StepPlan


class Ahead(Rig):
    """Does as the engine does on a device: the next step begins before the last one is committed, if it can."""

    plans_ahead = True

    def __init__(self, target: ToyTarget | None = None, **settings_) -> None:
        super().__init__(target, **settings_)
        self.between: Callable[[], None] = lambda: None
        """What happens while a step is computed."""
        self.followed: list[StepPlan] = []

    def step(self) -> StepPlan | Wait:
        first = plan = self.planner.plan(self.now)
        if isinstance(plan, Wait):
            return plan
        ended = None
        while plan is not None:
            started, self.now = self.now, self.now + STEP_S
            output = self.target.execute(plan)
            if ended is not None:
                self.commit(*ended)
            self.between()
            self.planner.plan_ahead(plan)
            self.between()
            ended = plan, output, started, self.now
            plan = self.planner.follow(output, self.now)
            self.followed += [plan] if plan is not None else []
        self.commit(*ended)
        return first

    def commit(self, *ended) -> None:
        for item in self.planner.commit(*ended):
            self.note(item)


def test_a_step_follows_without_a_decision_and_requests_end_as_they_would():
    rig = Ahead(draft_length=0)
    texts = {name: plain_text([i], SamplingParams(seed=3), 20) for i, name in enumerate("abc")}
    rig.add(
        request("a", [0], 20, seed=3),
        request("b", [1], 9, seed=3),
        request("c", [2], 20, seed=3, stop=[texts["c"][12]]),
    )
    assert isinstance(rig.step(), StepPlan)
    assert len(rig.followed) == 19, "the whole of the longest text, behind one decision"
    assert rig.text["a"] == texts["a"]
    assert rig.text["b"] == texts["b"][:9]
    assert rig.text["c"] == texts["c"][: texts["c"].index(texts["c"][12]) + 1]
    assert rig.finished == {"a": FinishReason.LENGTH, "b": FinishReason.LENGTH, "c": FinishReason.STOP}
    assert rig.pool.num_free == rig.target.num_blocks
    assert isinstance(rig.step(), Wait)


def test_no_row_is_computed_for_a_request_that_has_ended():
    text = plain_text([2], SamplingParams(), 20)
    rig = Ahead(draft_length=0)
    rig.add(request("a", [1], 20), request("b", [2], 20, stop=[text[4]]), request("c", [3], 5))
    rig.step()
    assert sum(plan.num_tokens for plan in rig.target.plans) == 20 + text.index(text[4]) + 1 + 5


def test_a_newcomer_for_whom_there_is_a_place_is_in_the_very_next_step():
    rig = Ahead(draft_length=0)
    rig.add(request("a", [1], 30))

    def arrive() -> None:
        if len(rig.target.plans) == 5 and "b" not in rig.text:
            rig.add(request("b", [2], 4))

    rig.between = arrive
    rig.step()
    assert [len(plan.rows) for plan in rig.target.plans] == [1] * 5 + [2] * 4 + [1] * 21
    assert rig.text == {"a": plain_text([1], SamplingParams(), 30), "b": plain_text([2], SamplingParams(), 4)}
    assert len(rig.followed) == 29


def test_a_newcomer_with_a_long_prompt_gets_what_the_step_has_room_for():
    rig = Ahead(draft_length=0, max_tokens_per_step=8)
    rig.add(request("a", [1], 30))
    prompt = [i % VOCAB for i in range(40)]

    def arrive() -> None:
        if len(rig.target.plans) == 5 and "b" not in rig.text:
            rig.add(request("b", prompt, 4))

    rig.between = arrive
    rig.run()
    assert [plan.num_tokens for plan in rig.target.plans][5:11] == [8] * 5 + [6]
    assert rig.text == {"a": plain_text([1], SamplingParams(), 30), "b": plain_text(prompt, SamplingParams(), 4)}


def test_whoever_waits_for_a_place_gets_it_one_step_after_it_is_free():
    rig = Ahead(draft_length=0, max_running=2)
    rig.add(request("a", [1], 6), request("b", [2], 20), request("c", [3], 6))
    rig.run()
    assert [len(plan.rows) for plan in rig.target.plans] == [2] * 6 + [1] + [2] * 6 + [1] * 7
    assert rig.text["c"] == plain_text([3], SamplingParams(), 6)


def test_rows_that_need_the_text_are_decided_on_with_the_text():
    rig = Ahead(draft_length=0)
    rig.add(request("a", [1], 12, processors=ProcessorParams(repetition_penalty=1.5)), request("b", [2], 12))
    rig.run()
    assert [row.processing is not None for row in rig.target.plans[-1].rows] == [True, False]
    assert not rig.followed


def test_where_blocks_run_out_somebody_is_preempted_and_no_text_changes():
    rig = Ahead(ToyTarget(num_blocks=12, block_size=4, max_model_len=40), draft_length=0)
    rig.add(*(request(str(i), [i], 30) for i in range(3)))
    rig.run()
    assert rig.planner.load().preemptions > 0
    assert rig.followed
    assert rig.text == {str(i): plain_text([i], SamplingParams(), 30) for i in range(3)}


def test_a_request_that_is_cancelled_in_the_middle_of_a_step_gets_nothing_more():
    rig = Ahead(draft_length=0)
    rig.add(request("a", [1], 20), request("b", [2], 20))

    def cancel() -> None:
        if len(rig.target.plans) == 6:
            rig.planner.observe(Cancelled("b"))

    rig.between = cancel
    rig.step()
    assert rig.text["a"] == plain_text([1], SamplingParams(), 20)
    assert rig.text["b"] == plain_text([2], SamplingParams(), 20)[:5], "that of the step before, and no more"
    assert rig.pool.num_free == rig.target.num_blocks


@pytest.mark.parametrize("adaptive", [False, True])
@given(seed=st.integers(0, 2**32), num_blocks=st.integers(9, 40), budget=st.integers(2, 40))
@settings(deadline=None)
def test_any_mix_of_requests_and_cancellations_gives_plain_decodings_text(adaptive, seed, num_blocks, budget):
    """With an adaptive policy that rests after every decision to verify nothing, and drafters all the same."""
    rng = random.Random(seed)
    target = ToyTarget(num_blocks, block_size=4, max_model_len=36)
    policy = {"policy": "adaptive"} if adaptive else {"policy": "fixed", "draft_length": 0}
    prompts = {f"r{i}": [rng.randrange(3)] * rng.randint(1, 18) for i in range(8)}
    lengths = {name: rng.randint(1, 36 - len(p)) for name, p in prompts.items()}
    stops = {name: [rng.randrange(VOCAB)] if rng.random() < 0.5 else [] for name in prompts}
    mirror: dict[int, list[int]] = {}
    names = list(prompts)

    def happen() -> None:
        if names and rng.random() < 0.2:
            name = names.pop()
            rig.add(request(name, prompts[name], lengths[name], seed=1, stop=stops[name]))
        if rng.random() < 0.02 and (alive := [n for n in rig.text if n not in rig.finished]):
            rig.planner.observe(Cancelled(rng.choice(alive)))
        rig.mirror_orders(mirror)
        rig.draft([b for b in (toy_block(rng, s, t) for s, t in mirror.items()) if b])
        rig.now += rng.random() * 0.001

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rest, "TIRED_AFTER", 1)
        rig = Ahead(target, max_tokens_per_step=budget, max_running=5, **policy)
        rig.between = happen
        rig.planner.observe(DraftersConnected(1))
        for _ in range(2000):
            happen()
            plan = rig.step()
            if isinstance(plan, Wait) and plan.until is None and not names:
                break
        else:
            raise AssertionError("the planner never came to rest")
    for name, text in rig.text.items():
        whole = plain_text(prompts[name], SamplingParams(seed=1), lengths[name])
        if stops[name] and stops[name][0] in whole:
            whole = whole[: whole.index(stops[name][0]) + 1]
        assert text == (whole if name in rig.finished else whole[: len(text)])
    assert rig.pool.num_free == num_blocks


@pytest.mark.parametrize(("price", "every"), [(0.001, OFTEN), (0.1, 39), (2.0, SELDOM)])
def test_a_policy_that_found_nothing_for_long_looks_as_often_as_is_cheap_and_when_it_is_woken(price, every):
    resting = Rest()
    for _ in range(TIRED_AFTER):
        assert not resting.rests
        resting.note_decision(verifies=False)
        resting.note_cost(price * 0.01, 0.01)
    for _ in range(every - 1):
        assert resting.rests
        resting.note_unseen()
    assert not resting.rests
    resting.note_decision(verifies=False)
    assert resting.rests
    resting.wake()
    assert not resting.rests
    resting.note_decision(verifies=True)
    assert not resting.rests
