"""The planner against a toy target: whatever is drafted, cancelled or preempted, the text is plain decoding's."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.scheduler.estimates.acceptance import Guess
from cluster.scheduler.events import Arrived, Cancelled, DraftersConnected, DraftsArrived, Wait
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings, Way
from cluster.scheduler.speculation.fixed import PATIENCE
from tests.support.toy_target import VOCAB, ToyTarget, plain_text
from workers.contract.draft import (
    MAX_DRAFT_LENGTH,
    CloseDraft,
    CommitDraft,
    DraftBlock,
    DraftSource,
    OpenDraft,
    Outcome,
)
from workers.contract.prefix_hash import prefix_hash
from workers.contract.request import FinishReason, GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import StepOutput, StepPlan
from workers.kv.block_pool import BlockPool

STEP_S = 1e-9
"""What a step takes here: more than nothing, for the policy that measures it."""


def request(name: str, prompt: list[int], n: int = 10, seed: int = 0, **kwargs) -> GenerationRequest:
    stop = frozenset(kwargs.pop("stop", ()))
    return GenerationRequest(name, prompt, SamplingParams(seed=seed), Stopping(n, stop), **kwargs)


class Rig:
    """A planner and a toy target in lock-step, with a clock that only moves when told."""

    plans_ahead = False

    def __init__(self, target: ToyTarget | None = None, **settings_) -> None:
        self.target = target or ToyTarget()
        self.pool = BlockPool(self.target.num_blocks, self.target.block_size)
        settings_ = {"policy": "fixed", "draft_wait_ms": 4.0, **settings_}
        length = self.target.max_model_len
        self.planner = Planner(SchedulerSettings(**settings_), self.pool, length, self.plans_ahead)
        self.now = 0.0
        self.text: dict[str, list[int]] = {}
        self.sources: dict[str, list[DraftSource]] = {}
        self.steps: list[Progress] = []
        self.finished: dict[str, FinishReason] = {}

    def add(self, *requests: GenerationRequest) -> None:
        for r in requests:
            self.text[r.request_id], self.sources[r.request_id] = list(r.emitted), []
            self.planner.observe(Arrived(r, at=self.now))

    def draft(self, blocks: list[DraftBlock]) -> None:
        self.planner.observe(DraftsArrived(blocks, self.now))

    def step(self) -> StepPlan | Wait:
        plan = self.planner.plan(self.now)
        if isinstance(plan, StepPlan):
            started, self.now = self.now, self.now + STEP_S
            for item in self.planner.commit(plan, self.target.execute(plan), started, self.now):
                self.note(item)
        return plan

    def mirror_orders(self, mirror: dict[int, list[int]]) -> None:
        """Follow the orders since the last call as a drafter does: what it knows of each text, by sequence."""
        for op in self.planner.take_draft_ops():
            if isinstance(op, OpenDraft):
                mirror[op.seq_id] = list(op.tokens)
            elif isinstance(op, CommitDraft):
                assert len(mirror[op.seq_id]) == op.base_len
                mirror[op.seq_id] += op.tokens
            else:
                del mirror[op.seq_id]

    def note(self, item: Progress) -> None:
        assert item.offset == len(self.text[item.request_id])
        assert len(item.sources) == len(item.tokens)
        self.text[item.request_id] += item.tokens
        self.sources[item.request_id] += item.sources
        self.steps.append(item)
        if item.finish_reason:
            self.finished[item.request_id] = item.finish_reason

    def run(self, max_steps: int = 10_000) -> None:
        for _ in range(max_steps):
            plan = self.step()
            if isinstance(plan, Wait):
                if plan.until is None:
                    return
                self.now = plan.until
        raise AssertionError("the planner never came to rest")


def test_plain_decoding_emits_the_targets_own_choices():
    rig = Rig(draft_length=0)
    rig.add(request("a", [1, 2, 3], 7, seed=5))
    rig.run()
    assert rig.text["a"] == plain_text([1, 2, 3], SamplingParams(seed=5), 7)
    assert rig.finished == {"a": FinishReason.LENGTH}
    assert rig.pool.num_free == rig.target.num_blocks


def test_a_stop_token_ends_the_request_and_is_the_last_one():
    text = plain_text([9], SamplingParams(), 20)
    rig = Rig()
    rig.add(request("a", [9], 20, stop=[text[6]]))
    rig.run()
    first = text.index(text[6])
    assert rig.text["a"] == text[: first + 1]
    assert rig.finished["a"] is FinishReason.STOP


def test_a_resumed_request_goes_on_where_it_was():
    whole = plain_text([4, 4], SamplingParams(seed=3), 12)
    rig = Rig()
    rig.add(request("a", [4, 4], 12, seed=3, emitted=whole[:5]))
    rig.run()
    assert rig.text["a"] == whole


def test_a_long_prompt_is_fed_in_chunks_beside_decoding_rows():
    rig = Rig(max_tokens_per_step=8, draft_length=0)
    rig.add(request("short", [1], 30))
    rig.step()
    rig.add(request("long", [i % VOCAB for i in range(40)], 3))
    rig.run()
    assert all(plan.num_tokens <= 8 for plan in rig.target.plans)
    assert any(len(plan.rows) == 2 and plan.rows[1].num_samples == 0 for plan in rig.target.plans)
    assert rig.text["short"] == plain_text([1], SamplingParams(), 30)
    assert rig.text["long"] == plain_text([i % VOCAB for i in range(40)], SamplingParams(), 3)


def test_the_first_tokens_tell_how_long_their_request_waited_for_a_place():
    rig = Rig(max_running=1, draft_length=0)
    rig.add(request("a", [1], 3), request("b", [2], 3))
    rig.run()
    waited = [(step.request_id, step.queued_s) for step in rig.steps]
    assert waited == [("a", 0.0)] * 3 + [("b", pytest.approx(3 * STEP_S)), ("b", 0.0), ("b", 0.0)]


def test_a_shared_prompt_is_computed_once():
    prompt = list(range(17))
    rig = Rig(draft_length=0)
    rig.add(request("a", prompt, 3))
    rig.run()
    rig.add(request("b", prompt, 3))
    rig.run()
    assert rig.text["a"] == rig.text["b"]
    assert rig.planner.counters.cached_prompt_tokens == 16


def test_drafts_are_asked_for_verified_and_counted():
    rig = Rig(lookup=False, draft_length=4)
    params = SamplingParams(seed=1)
    text = plain_text([7, 8], params, 12)
    rig.planner.observe(DraftersConnected(1))
    rig.add(request("a", [7, 8], 12, seed=1))
    rig.step()
    opened, committed = rig.planner.take_draft_ops()
    assert isinstance(opened, OpenDraft) and opened.tokens == (7, 8) and opened.draft_length == 4
    assert isinstance(committed, CommitDraft) and committed.tokens == (text[0],)
    right = Outcome(3, prefix_hash([7, 8, text[0]]), tuple(text[1:5]))
    rig.draft([DraftBlock(opened.seq_id, (right,))])
    rig.step()
    assert rig.text["a"] == text[:6]
    assert rig.sources["a"][1:] == [DraftSource.DRAFTER] * 4 + [DraftSource.NONE]
    wrong = Outcome(8, prefix_hash([7, 8, *text[:6]]), (text[6], VOCAB - 1 - text[7], 0, 0))
    rig.draft([DraftBlock(opened.seq_id, (wrong,))])
    rig.step()
    assert rig.text["a"] == text[:8]
    rig.run()
    assert rig.text["a"] == text
    assert rig.planner.load().accepted_per_position == (2, 1, 1, 1), "no longer than a draft can be"
    assert isinstance(rig.planner.take_draft_ops()[-1], CloseDraft)


def test_a_drafter_that_was_asked_for_by_name_is_ordered_and_told_of():
    rig = Rig(lookup=True, draft_length=4)
    text = plain_text([7, 8], SamplingParams(), 6)
    rig.planner.observe(DraftersConnected(1))
    rig.add(replace(request("a", [7, 8], 6), draft_from=DraftSource.DRAFTER, drafter="small"))
    rig.step()
    opened = rig.planner.take_draft_ops()[0]
    assert opened.drafter == "small"
    right = Outcome(3, prefix_hash([7, 8, text[0]]), tuple(text[1:4]))
    rig.draft([DraftBlock(opened.seq_id, (right,), drafter="small")])
    rig.run()
    assert rig.text["a"] == text
    assert [(step.drafter, step.num_drafts) for step in rig.steps][:3] == [("", 0), ("small", 1), ("", 0)]


def test_a_block_that_comes_a_step_late_is_still_used_where_it_guessed_right():
    rig = Rig(lookup=False, draft_wait_ms=0)
    text = plain_text([7, 8], SamplingParams(), 12)
    rig.add(request("a", [7, 8], 12))
    rig.step()
    seq_id = rig.planner.take_draft_ops()[0].seq_id
    rig.step()
    late = Outcome(3, prefix_hash([7, 8, text[0]]), tuple(text[1:5]))
    rig.draft([DraftBlock(seq_id, (late,))])
    rig.step()
    assert rig.text["a"] == text[:6]
    assert rig.sources["a"] == [DraftSource.NONE] * 2 + [DraftSource.DRAFTER] * 3 + [DraftSource.NONE]


def test_a_stale_or_forged_outcome_does_nothing():
    rig = Rig(lookup=False, draft_wait_ms=0)
    rig.add(request("a", [7, 8], 6))
    rig.step()
    forged = [
        Outcome(3, 123, (1, 2)),
        Outcome(2, prefix_hash([7, 9]), (1,)),
        Outcome(0, 0, (1,)),
        Outcome(99, 1, (5,)),
    ]
    rig.draft([DraftBlock(1, tuple(forged)), DraftBlock(77, tuple(forged))])
    rig.run()
    assert rig.text["a"] == plain_text([7, 8], SamplingParams(), 6)
    assert rig.planner.counters.num_drafts == 0


def test_a_sequence_waits_for_its_block_but_not_for_ever_nor_again_and_again():
    rig = Rig(lookup=False, draft_wait_ms=10)
    rig.planner.observe(DraftersConnected(1))
    rig.add(request("a", [7, 8], 40))
    rig.step()
    waits = 0
    for _ in range(30):
        plan = rig.step()
        if isinstance(plan, Wait) and plan.until is not None:
            assert plan.until == pytest.approx(rig.now + 0.01)
            rig.now = plan.until
            waits += 1
    assert waits == PATIENCE
    slow = [7, 8, *rig.text["a"]]
    rig.step()
    rig.now += 0.02
    rig.draft([DraftBlock(1, (Outcome(len(slow), prefix_hash(slow), ()),))])
    assert isinstance(rig.step(), StepPlan), "an answer that takes longer than the wait is not worth waiting for"
    quick = [7, 8, *rig.text["a"]]
    rig.now += 0.005
    block = DraftBlock(1, (Outcome(len(quick), prefix_hash(quick), ()),))
    rig.step()
    rig.draft([block])
    assert isinstance(rig.step(), Wait), "one that came soon enough is, even if a step was running meanwhile"


def test_a_request_may_turn_speculation_off():
    rig = Rig()
    rig.planner.observe(DraftersConnected(1))
    rig.add(request("a", [1, 1, 1, 1], 10, max_draft_tokens=0))
    rig.run()
    assert rig.planner.take_draft_ops() == []
    assert rig.planner.counters.num_drafts == 0


def test_when_blocks_run_out_the_youngest_yields_and_its_text_stays():
    rig = Rig(ToyTarget(num_blocks=12, block_size=4, max_model_len=48), draft_length=0)
    rig.add(*(request(f"r{i}", [i] * 5, 30, seed=i) for i in range(4)))
    rig.run()
    assert rig.planner.counters.preemptions > 0
    assert list(rig.finished) == ["r0", "r1", "r2", "r3"]
    for i in range(4):
        assert rig.text[f"r{i}"] == plain_text([i] * 5, SamplingParams(seed=i), 30)
    assert rig.pool.num_free == 12


def test_a_row_that_failed_ends_its_own_request_only():
    rig = Rig(max_running=1)
    rig.add(request("a", [1], 5), request("b", [2], 5))
    plan = rig.planner.plan(0.0)
    assert isinstance(plan, StepPlan)
    [failed] = rig.planner.commit(plan, StepOutput([[]], errors={0: "broken"}), 0.0, 0.0)
    assert (failed.request_id, failed.finish_reason, failed.message) == ("a", FinishReason.ERROR, "broken")
    rig.run()
    assert rig.text["b"] == plain_text([2], SamplingParams(), 5)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_blocks=st.integers(9, 40),
    budget=st.integers(2, 40),
    wait=st.sampled_from([0, 5]),
    policy=st.sampled_from([{"policy": "fixed"}, *({"policy": "adaptive", "way": way} for way in (None, *Way))]),
)
def test_any_mix_of_requests_drafts_and_cancellations_gives_plain_decodings_text(
    seed, num_blocks, budget, wait, policy
):
    rng = random.Random(seed)
    target = ToyTarget(num_blocks, block_size=4, max_model_len=36)
    limits = {"max_tokens_per_step": budget, "max_running": 5, "max_draft_tokens_per_step": 12}
    rig = Rig(target, draft_wait_ms=wait, **policy, **limits)
    rig.planner.observe(DraftersConnected(1))
    prompts = {f"r{i}": [rng.randrange(3)] * rng.randint(1, 18) for i in range(8)}
    lengths = {name: rng.randint(1, 36 - len(p)) for name, p in prompts.items()}
    mirror: dict[int, list[int]] = {}
    names = list(prompts)
    cancelled: set[str] = set()
    for _ in range(2000):
        if names and rng.random() < 0.3:
            name = names.pop()
            rig.add(request(name, prompts[name], lengths[name], seed=1))
        if rng.random() < 0.02 and (alive := [n for n in rig.text if n not in rig.finished]):
            name = rng.choice(alive)
            rig.planner.observe(Cancelled(name))
            cancelled.add(name)
        plan = rig.step()
        rig.mirror_orders(mirror)
        rig.draft([b for b in (toy_block(rng, s, t) for s, t in mirror.items()) if b])
        rig.now += rng.random() * 0.004
        if isinstance(plan, Wait) and plan.until is None and not names:
            break
    else:
        raise AssertionError("the planner never came to rest")
    for name, text in rig.text.items():
        whole = plain_text(prompts[name], SamplingParams(seed=1), lengths[name])
        assert text == (whole[: len(text)] if name in cancelled else whole)
    assert rig.pool.num_free == num_blocks
    assert not mirror


def toy_block(rng: random.Random, seq_id: int, tokens: list[int]) -> DraftBlock | None:
    """A block that is right, half right, late, forged or missing."""
    kind = rng.random()
    if kind < 0.3:
        return None
    base = max(1, len(tokens) - rng.randrange(3))
    continuation = plain_text(tokens[:base], SamplingParams(seed=1), 5)
    if kind < 0.6:
        continuation[rng.randrange(5)] = rng.randrange(VOCAB)
    digest = prefix_hash(tokens[:base]) if kind < 0.9 else 1
    if rng.random() < 0.4:  # for a verdict that may come: some of the draft, then a token of the target's own
        verdict = plain_text(tokens, SamplingParams(seed=1), 1 + rng.randrange(3))
        digest = prefix_hash([*tokens, *verdict])
        continuation = plain_text([*tokens, *verdict], SamplingParams(seed=1), 4)
        outcome = Outcome(len(tokens) + len(verdict), digest, tuple(continuation))
        return DraftBlock(seq_id, (outcome,), ahead_of=len(tokens))
    return DraftBlock(seq_id, (Outcome(base, digest, tuple(continuation)),))


@pytest.mark.parametrize("policy", ["fixed", "adaptive"])
def test_a_request_may_want_the_drafts_of_some_only(policy):
    """The text repeats itself, so that look-ups have something to say; a drafter's block is always at hand."""
    verified = {}
    for wanted in (None, DraftSource.DRAFTER, DraftSource.LOOKUP):
        rig = Rig(policy=policy, lookup=True, draft_length=2, draft_wait_ms=0, way=Way.IN_TURN)
        rig.planner.observe(DraftersConnected(1))
        rig.add(request("r", [1, 2, 3, 1, 2, 3, 1, 2], n=24, draft_from=wanted))
        opened, sources = 0, set()
        while "r" not in rig.finished:
            active = rig.planner._by_request["r"].sequence
            text = list(active.tokens)
            guess = Outcome(len(text), prefix_hash(text), (7, 7))
            if len(text) % 3 == 0:
                rig.draft([DraftBlock(active.seq_id, (guess,))])
            plan = rig.step()
            opened += sum(isinstance(op, OpenDraft) for op in rig.planner.take_draft_ops())
            sources |= {row.draft_source for row in plan.rows} if isinstance(plan, StepPlan) else set()
        assert rig.text["r"] == plain_text([1, 2, 3, 1, 2, 3, 1, 2], SamplingParams(seed=0), 24)
        verified[wanted] = (opened > 0, sources - {DraftSource.NONE})
    assert not verified[DraftSource.LOOKUP][0], "nobody is asked for what may not be used"
    assert verified[DraftSource.DRAFTER][0]
    assert DraftSource.DRAFTER not in verified[DraftSource.LOOKUP][1]
    assert DraftSource.LOOKUP not in verified[DraftSource.DRAFTER][1]
    if policy == "fixed":
        assert verified[DraftSource.DRAFTER][1] == {DraftSource.DRAFTER}
        assert verified[DraftSource.LOOKUP][1] == {DraftSource.LOOKUP}
        assert verified[None][1] == {DraftSource.DRAFTER, DraftSource.LOOKUP}


def test_a_drafter_that_repeats_itself_is_judged_once_per_guess(monkeypatch):
    judged = []
    judge = Guess.judge
    monkeypatch.setattr(Guess, "judge", lambda guess, text: judged.append(guess) or judge(guess, text))
    rig = Rig(policy="adaptive", draft_length=4, lookup=False)
    rig.planner.observe(DraftersConnected(1))
    rig.add(request("a", [1, 2, 3], 50))
    for _ in range(20):
        rig.step()
    active = rig.planner._by_request["a"]
    text = list(active.sequence.tokens)
    bases = range(4, len(text) + 1)
    for token in range(30):
        outcomes = [Outcome(n, prefix_hash(text[:n]), (*text[n:], *[token] * 16)[:16]) for n in bases]
        rig.draft([DraftBlock(active.sequence.seq_id, (outcome,)) for outcome in outcomes])
    assert len(active.guesses) == MAX_DRAFT_LENGTH, "one for each base from which a draft reaches beyond the text"
    assert len(judged) <= 30 * len(bases)
    rig.run()
    assert rig.text["a"] == plain_text([1, 2, 3], SamplingParams(), 50)
