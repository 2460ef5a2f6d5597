"""The drafter against plain decoding of the same model, which reads its tokens back through the block table."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.toy_target import VOCAB, ToyTarget, choice, plain_text
from workers.contract.draft import OpenDraft
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.drafting import draft_kv, model_drafter
from workers.drafting.drafter import DraftPeer, DraftState
from workers.drafting.model_drafter import ModelDrafter

PEER = DraftPeer(VOCAB, lambda replies: None)


def opened(seq_id, tokens, k=4, peer=PEER, seed=None, salt=""):
    params = SamplingParams(seed=seq_id if seed is None else seed)
    return DraftState.start(peer, OpenDraft(seq_id, tokens, params, k, salt))


def draft_all(drafter, states):
    """Step until every block is finished; return the number of steps."""
    wanting, steps = list(states), 0
    while wanting:
        result = drafter.advance(wanting)
        assert not result.refused
        wanting = [state for state in wanting if state not in result.finished]
        steps += 1
        assert steps < 200
    return steps


def assert_naive(state):
    assert state.draft[: state.wanted] == plain_text(state.tokens, state.params, state.wanted)


def test_a_block_takes_one_step_per_token_for_all_sequences_together():
    runner = ToyTarget()
    drafter = ModelDrafter(runner)
    states = [opened(i, [i + 1, 2, 3, 4, 5][: i + 2], k=4) for i in range(3)]
    assert draft_all(drafter, states) == 4
    for state in states:
        assert_naive(state)
    assert [len(plan.rows) for plan in runner.plans] == [3, 3, 3, 3]
    assert [plan.num_tokens for plan in runner.plans] == [9, 3, 3, 3]


def test_where_the_host_need_not_wait_for_the_model_blocks_are_made_in_one_go():
    runner = ToyTarget(overlaps=True)
    drafter = ModelDrafter(runner)
    states = [opened(i, [i + 1, 2, 3, 4, 5][: i + 2], k) for i, k in enumerate((4, 1, 3))]
    assert draft_all(drafter, states) == 1
    for state in states:
        assert len(state.draft) == state.wanted
        assert_naive(state)
    assert [len(plan.rows) for plan in runner.plans] == [3, 2, 2, 1]


@pytest.mark.parametrize("overlaps", [False, True])
def test_accepted_guesses_are_not_computed_again(overlaps):
    runner = ToyTarget(overlaps=overlaps)
    drafter = ModelDrafter(runner)
    state = opened(0, [1, 2, 3], k=4)
    draft_all(drafter, [state])
    state.commit([*state.draft, 7], 4)
    runner.plans.clear()
    draft_all(drafter, [state])
    assert runner.plans[0].rows[0].start == 6  # the last guess was never fed; it and the 7 are
    assert list(runner.plans[0].rows[0].tokens) == state.tokens[6:]
    assert_naive(state)


def test_a_commit_that_bears_out_the_guesses_keeps_the_rest_of_them():
    runner = ToyTarget()
    drafter = ModelDrafter(runner)
    state = opened(0, [1, 2, 3], k=4)
    draft_all(drafter, [state])
    state.commit(state.draft[:1], 4)
    assert draft_all(drafter, [state]) == 1
    assert_naive(state)
    state.commit(state.draft[:1], 3)
    runner.plans.clear()
    draft_all(drafter, [state])
    assert runner.plans == []
    assert_naive(state)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_drafts_are_plain_decodings_whatever_is_committed_and_when(data):
    drafter = ModelDrafter(ToyTarget(num_blocks=200, overlaps=data.draw(st.booleans())))
    states, counter = [], 0
    for _ in range(data.draw(st.integers(1, 20))):
        action = data.draw(st.sampled_from(["open", "commit", "commit", "step", "step", "forget"]))
        if action == "open" and len(states) < 5:
            prompt = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=14))
            states.append(opened(counter, prompt, data.draw(st.integers(1, 5)), salt=str(counter % 2)))
            counter += 1
        elif action == "commit" and states:
            state = data.draw(st.sampled_from(states))
            accepted = data.draw(st.integers(0, len(state.draft)))
            own = data.draw(st.lists(st.integers(0, VOCAB - 1), max_size=1))
            state.commit([*state.draft[:accepted], *own], data.draw(st.integers(1, 5)))
        elif action == "step" and states:
            drafter.advance(states)
            for state in states:
                assert state.draft == plain_text(state.tokens, state.params, len(state.draft))
        elif action == "forget" and states:
            drafter.forget(states.pop())
    draft_all(drafter, states)
    for state in states:
        assert_naive(state)


def test_a_long_prompt_is_computed_in_chunks_while_others_get_their_tokens(monkeypatch):
    monkeypatch.setattr(model_drafter, "MAX_STEP_TOKENS", 8)
    runner = ToyTarget()
    drafter = ModelDrafter(runner)
    long = opened(0, [i % 7 for i in range(30)], k=2)
    short = opened(1, [5, 6], k=3)
    states = [long, short]
    assert drafter.advance(states).finished == []
    assert (len(long.draft), len(short.draft)) == (0, 1)
    draft_all(drafter, states)
    assert all(plan.num_tokens <= 8 for plan in runner.plans)
    assert_naive(long)
    assert_naive(short)


def test_a_shared_prompt_is_computed_once_per_salt():
    runner = ToyTarget()
    drafter = ModelDrafter(runner)
    prompt = [i % 5 for i in range(17)]
    starts = []
    for seq_id, salt in enumerate(["a", "a", "b"]):
        state = opened(seq_id, prompt, salt=salt)
        runner.plans.clear()
        draft_all(drafter, [state])
        assert_naive(state)
        starts.append(runner.plans[0].rows[0].start)
    assert starts == [0, 16, 0]


@pytest.mark.parametrize("overlaps", [False, True])
def test_rejected_guesses_never_reach_the_prefix_cache(overlaps):
    drafter = ModelDrafter(ToyTarget(overlaps=overlaps))
    state = opened(0, [1, 2, 3], k=9, seed=1)
    draft_all(drafter, [state])
    wrong = [1, 2, 3, *state.draft]
    state.commit([(state.draft[0] + 1) % VOCAB], 9)
    draft_all(drafter, [state])
    other = opened(1, wrong, k=3, seed=1)
    draft_all(drafter, [other])
    assert_naive(other)


@pytest.mark.parametrize("overlaps", [False, True])
def test_ids_that_the_target_does_not_have_end_the_draft(overlaps):
    """A draft model's head may be padded beyond the target's vocabulary."""
    small = DraftPeer(20, lambda replies: None)
    short = 0
    for seed in range(20):
        state = opened(0, [1, 2, 3], k=6, peer=small, seed=seed)
        drafter = ModelDrafter(ToyTarget(overlaps=overlaps))
        draft_all(drafter, [state])
        assert all(token < 20 for token in state.draft)
        assert state.draft == plain_text(state.tokens, state.params, len(state.draft))
        if len(state.draft) < 6:
            short += 1
            assert choice(state.tokens + state.draft, state.params) >= 20
            state.commit([], 6)
            draft_all(drafter, [state])
            state.commit([7], 1)
            draft_all(drafter, [state])
    assert short


def test_ids_that_the_model_does_not_have_are_refused():
    drafter = ModelDrafter(ToyTarget())
    good, bad = opened(0, [1, 2]), opened(1, [1, VOCAB])
    result = drafter.advance([bad, good])
    assert result.refused == [bad]
    assert len(good.draft) == 1
    good.commit([VOCAB + 3], 4)
    assert drafter.advance([good]).refused == [good]


@pytest.mark.parametrize("overlaps", [False, True])
def test_the_models_context_ends_a_draft(overlaps):
    drafter = ModelDrafter(ToyTarget(max_model_len=8, overlaps=overlaps))
    state = opened(0, [1, 2, 3, 4, 5, 6], k=6)
    draft_all(drafter, [state])
    assert state.draft == plain_text(state.tokens, state.params, 3)
    state.commit([*state.draft, 9], 4)
    draft_all(drafter, [state])
    assert [outcome.continuation for outcome in state.block().outcomes] == [()]


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.mark.parametrize("overlaps", [False, True])
def test_an_idle_sequence_makes_room(clock, overlaps):
    drafter = ModelDrafter(ToyTarget(num_blocks=6, overlaps=overlaps), clock)
    first, second, third = (opened(i, [i] * 9, k=2) for i in range(3))
    draft_all(drafter, [first])
    clock.now += 1.0
    draft_all(drafter, [second])
    clock.now += draft_kv.IDLE_S - 0.5
    result = drafter.advance([third])
    assert result.refused == [first]
    draft_all(drafter, [third])
    assert_naive(third)
    second.commit([3], 2)
    draft_all(drafter, [second])
    assert_naive(second)


def test_without_an_idle_sequence_the_newcomer_is_refused(clock):
    drafter = ModelDrafter(ToyTarget(num_blocks=6), clock)
    first, second, third = (opened(i, [i] * 9, k=2) for i in range(3))
    result = drafter.advance([first, second, third])
    assert result.refused == [third]
    drafter.forget(third)
    draft_all(drafter, [first, second])
    drafter.forget(first)
    draft_all(drafter, [second, third])
    assert_naive(third)


def test_a_sequence_that_was_just_worked_on_does_not_make_room(clock):
    drafter = ModelDrafter(ToyTarget(num_blocks=6), clock)
    first, second, third = (opened(i, [i] * 9, k=2) for i in range(3))
    draft_all(drafter, [first, second])
    clock.now += draft_kv.IDLE_S - 0.1
    assert drafter.advance([third]).refused == [third]
    drafter.forget(third)
    clock.now += 0.1
    assert drafter.advance([third]).refused == [first]


def test_a_sequence_longer_than_the_cache_is_refused(clock):
    drafter = ModelDrafter(ToyTarget(num_blocks=2), clock)
    long, short = opened(0, [1] * 9), opened(1, [2] * 4, k=2)
    assert drafter.advance([long, short]).refused == [long]
    drafter.forget(long)
    draft_all(drafter, [short])
    assert_naive(short)


def test_blocks_carry_the_base_that_they_were_drafted_from():
    drafter = ModelDrafter(ToyTarget())
    state = opened(4, [1, 2, 3], k=4)
    draft_all(drafter, [state])
    state.commit([state.draft[0], (state.draft[1] + 1) % VOCAB], 2)
    draft_all(drafter, [state])
    (outcome,) = state.block().outcomes
    assert outcome.base_len == 5
    assert outcome.base_hash == prefix_hash(state.tokens)
    assert list(outcome.continuation) == plain_text(state.tokens, state.params, 2)
