"""Tenants and priorities in the planner: everybody is served, nobody livelocks, and texts stay what they are."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.scheduler.events import Cancelled, DraftersConnected, Wait
from tests.cluster.scheduler.test_planner import Rig, request
from tests.support.toy_target import ToyTarget, plain_text
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import StepPlan


def first_rows(rig: Rig) -> list[int]:
    """Sequences (numbered by arrival from 1) in the order in which they first ran."""
    return list(dict.fromkeys(row.seq_id for plan in rig.target.plans for row in plan.rows))


def test_the_lone_request_of_another_tenant_passes_a_flood():
    rig = Rig(max_running=2, draft_length=0)
    rig.add(*(request(f"a{i}", [i], 5, tenant="a", priority=-1000) for i in range(20)))
    rig.step()
    rig.add(request("b", [7], 5, tenant="b"))
    rig.run()
    assert first_rows(rig).index(21) <= 3


def test_tokens_are_charged_so_short_answers_get_more_turns_than_long_ones():
    rig = Rig(max_running=1, draft_length=0)
    rig.add(*(request(f"a{i}", [i], 30, tenant="a") for i in range(10)))
    rig.add(*(request(f"b{i}", [i], 10, tenant="b") for i in range(10)))
    while len(rig.finished) < 8:
        rig.step()
    assert sum(name.startswith("b") for name in rig.finished) == 6


def test_a_cached_prompt_is_not_charged():
    """What nobody had to compute costs its tenant nothing."""
    prompt = [i % 7 for i in range(101)]
    rig = Rig(ToyTarget(num_blocks=200), max_running=1, draft_length=0)
    rig.add(request("warm", prompt, 1, tenant="c"))
    rig.run()
    rig.add(*(request(f"a{i}", prompt, 1, tenant="a") for i in range(6)))
    rig.add(*(request(f"b{i}", [9, 9], 1, tenant="b") for i in range(6)))
    while len(rig.finished) < 9:
        rig.step()
    assert sum(name.startswith("a") for name in rig.finished) == 5


def test_priorities_order_one_tenants_requests_and_ageing_limits_them():
    rig = Rig(max_running=1, draft_length=0, priority_step_s=10.0)
    rig.add(request("running", [1], 2))
    rig.step()
    rig.add(request("patient", [2], 2, priority=1))
    rig.add(request("urgent", [3], 2, priority=-1))
    rig.step()
    rig.now = 19.0
    rig.add(request("late", [4], 2, priority=-1))
    rig.run()
    assert list(rig.finished) == ["running", "urgent", "late", "patient"]
    rig.finished.clear()
    rig.add(request("again", [1], 2), request("old", [2], 2, priority=1))
    rig.step()
    rig.now += 21.0
    rig.add(request("new", [4], 2, priority=-1))
    rig.run()
    assert list(rig.finished) == ["again", "old", "new"]


def test_a_flood_takes_kv_from_itself():
    """Where blocks run out, the tenant that was served most yields, though the other came last."""
    rig = Rig(ToyTarget(num_blocks=12, block_size=4, max_model_len=48), draft_length=0)
    rig.add(*(request(f"a{i}", [i] * 5, 30, seed=i, tenant="a") for i in range(3)))
    for _ in range(3):
        rig.step()
    rig.add(request("b", [9] * 5, 30, tenant="b"))
    while not rig.planner.counters.preemptions:
        plan = rig.step()
    assert sorted(row.seq_id for row in plan.rows) == [1, 2, 4]
    rig.run()
    assert rig.text["b"] == plain_text([9] * 5, SamplingParams(), 30)
    assert rig.text["a2"] == plain_text([2] * 5, SamplingParams(seed=2), 30)


@pytest.mark.parametrize("policy", ["fixed", "adaptive"])
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_blocks=st.integers(9, 30),
    budget=st.integers(2, 40),
    max_running=st.integers(1, 6),
)
def test_any_mix_of_tenants_and_priorities_comes_to_its_end_with_plain_decodings_text(
    policy, seed, num_blocks, budget, max_running
):
    rng = random.Random(seed)
    target = ToyTarget(num_blocks, block_size=4, max_model_len=36)
    rig = Rig(target, policy=policy, max_tokens_per_step=budget, max_running=max_running, priority_step_s=1e-8)
    rig.planner.observe(DraftersConnected(1))
    prompts = {f"r{i}": [rng.randrange(3)] * rng.randint(1, 18) for i in range(10)}
    lengths = {name: rng.randint(1, 36 - len(prompt)) for name, prompt in prompts.items()}
    names = list(prompts)
    cancelled: set[str] = set()
    for _ in range(2000):
        if names and rng.random() < 0.4:
            name = names.pop()
            claim = {"tenant": rng.choice("abc"), "priority": rng.randint(-3, 3)}
            rig.add(request(name, prompts[name], lengths[name], seed=1, **claim))
        if rng.random() < 0.02 and (alive := [n for n in rig.text if n not in rig.finished]):
            name = rng.choice(alive)
            rig.planner.observe(Cancelled(name))
            cancelled.add(name)
        plan = rig.step()
        load = rig.planner.load()
        if isinstance(plan, StepPlan):
            blocks = [block for row in plan.rows for block in set(row.block_ids[row.start // 4 :])]
            assert len(blocks) == len(set(blocks)), "two rows write to one block"
        elif plan.until is None:
            assert (load.running, load.waiting) == (0, 0), "somebody waits and nobody runs"
            if not names:
                break
        else:
            rig.now = plan.until
    else:
        raise AssertionError("the planner never came to rest")
    assert isinstance(plan, Wait)
    for name, text in rig.text.items():
        whole = plain_text(prompts[name], SamplingParams(seed=1), lengths[name])
        assert text == (whole[: len(text)] if name in cancelled else whole)
    assert rig.pool.num_free == num_blocks
