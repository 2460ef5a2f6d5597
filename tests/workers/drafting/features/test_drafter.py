"""A drafter that conditions on states against the same drafting with everything computed anew for each token."""

import os
import random

import pytest
import torch

from tests.support.recorder import Recorder, use_recorder
from tests.support.tiny_draft_model import TINY, draft_by_definition, make_draft_model
from workers.attention.gather import GatherAttention
from workers.contract.draft import CommitDraft, OpenDraft
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.draft_model import runner
from workers.drafting import model_drafter
from workers.drafting.desk import DraftDesk
from workers.drafting.drafter import DraftPeer, DraftState
from workers.drafting.features.drafter import FeatureDrafter
from workers.drafting.features.runner import FeatureRunner
from workers.sampling import proposal
from workers.settings import RunnerSettings
from workers.steps.graph_buckets import Bucket

PARAMS = [
    SamplingParams(temperature=0.0),
    SamplingParams(seed=2**64 - 5),
    SamplingParams(temperature=0.7, top_p=0.9, seed=11),
    SamplingParams(temperature=1.3, top_k=20, min_p=0.01, seed=12),
]
PEER = DraftPeer(vocab_size=259, deliver=lambda replies: None)


class Target:
    """Texts with a random state for each token, as a target would send them."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def tokens(self, count):
        return [self.rng.randrange(256) for _ in range(count)]

    def states(self, count):
        return torch.randn(count, TINY.features_width, generator=self.generator).bfloat16()


def as_bytes(states):
    return states.view(torch.uint16).numpy().tobytes()


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return make_draft_model()


WINDOW, PAGES, REPLAYED = "gathered window", "pages", "replayed"
BUCKETS = [Bucket(8, 24), Bucket(8, 8), Bucket(2, 6)]


@pytest.fixture
def attention(request, monkeypatch):
    """What guesses look back on; returns what a runner is told."""
    kind = request.param
    if kind == "kernels":
        if os.environ.get("TRITON_INTERPRET") != "1":
            pytest.skip("the definition is computed on a CPU; tests/workers/test_on_gpu.py has states on GPUs")
        backend = pytest.importorskip("workers.attention.triton").TritonAttention
        monkeypatch.setattr(runner, "make_attention", lambda wanted, cache, layers, length: backend(cache, length))
    elif kind != WINDOW:
        monkeypatch.setattr(GatherAttention, "name", "pages")
    recorder = Recorder()
    if kind == REPLAYED:
        monkeypatch.setattr(GatherAttention, "replayable", True)
        use_recorder(monkeypatch, BUCKETS, recorder)
    yield {"cuda_graphs": kind == REPLAYED}
    assert (recorder.replays > 1) == (kind == REPLAYED)  # one is a trial


def make_drafter(monkeypatch, **settings):
    monkeypatch.setattr(proposal, "WIDTH", TINY.draft_vocab_size)  # as exact as the definition
    return FeatureDrafter(
        FeatureRunner(make_draft_model(), "tiny", RunnerSettings(kv_cache_bytes=4 * 2**20, threads=1, **settings))
    )


@pytest.fixture
def drafter(model, monkeypatch):
    return make_drafter(monkeypatch)


def draft_all(drafter, states):
    wanting = list(states)
    while wanting:
        advance = drafter.advance(wanting)
        assert not advance.refused
        wanting = [state for state in wanting if state not in advance.finished]


@pytest.mark.parametrize(
    "attention", [WINDOW, PAGES, REPLAYED, pytest.param("kernels", marks=pytest.mark.kernels)], indirect=True
)
def test_drafts_are_those_by_definition(attention, model, monkeypatch, request):
    interpreted = request.node.callspec.params["attention"] == "kernels"  # which takes long
    drafter = make_drafter(monkeypatch, **attention)
    monkeypatch.setattr(model_drafter, "MAX_STEP_TOKENS", 24)
    target = Target(1)
    texts = []
    for i, params in enumerate(PARAMS if interpreted else PARAMS * 2):
        tokens = target.tokens(target.rng.randrange(12, 90))
        known = target.states(target.rng.randrange(1, len(tokens)))
        op = OpenDraft(i, tokens, params, target.rng.randrange(1, 6), features=as_bytes(known))
        texts.append((DraftState.start(PEER, op), known))
    lengths = set()
    for _ in range(4 if interpreted else 6):
        draft_all(drafter, [state for state, _ in texts])
        for i, (state, known) in enumerate(texts):
            assert state.draft[: state.wanted] == draft_by_definition(
                model, state.tokens, known, state.params, state.wanted
            )
            accepted = target.rng.randrange(len(state.draft) + 1)
            lengths.add(accepted)
            news = [*state.draft[:accepted], target.rng.randrange(256)]
            states = target.states(len(news))
            state.commit(news, target.rng.randrange(1, 6), features=as_bytes(states))
            texts[i] = (state, torch.cat((known, states)))
    assert len(lengths) > 3


def test_a_text_begins_anew_behind_a_gap(drafter, model):
    target = Target(2)
    state = DraftState.start(PEER, OpenDraft(1, target.tokens(30), PARAMS[1], 3, features=as_bytes(target.states(29))))
    draft_all(drafter, [state])
    state.commit(target.tokens(4), 3, features=as_bytes(known := target.states(2)))
    draft_all(drafter, [state])
    assert state.draft == draft_by_definition(model, state.tokens, known, state.params, 3)


def test_without_states_there_is_nothing_to_propose_and_with_them_there_is(drafter, model):
    target = Target(3)
    state = DraftState.start(PEER, OpenDraft(1, target.tokens(30), PARAMS[0], 3))
    draft_all(drafter, [state])
    assert state.draft == []
    state.commit(target.tokens(1), 3, features=as_bytes(known := target.states(1)))
    draft_all(drafter, [state])
    assert state.draft == draft_by_definition(model, state.tokens, known, state.params, 3)
    state.commit(target.tokens(2), 3)
    draft_all(drafter, [state])
    assert state.draft == []


def test_states_of_commits_that_asked_for_nothing_count_later(drafter, model):
    target = Target(4)
    known = target.states(19)
    state = DraftState.start(PEER, OpenDraft(1, target.tokens(20), PARAMS[0], 0, features=as_bytes(known)))
    for count in (3, 1, 2):
        states = target.states(count)
        state.commit(target.tokens(count), 0, features=as_bytes(states))
        known = torch.cat((known, states))
    state.commit(target.tokens(1), 4, features=as_bytes(last := target.states(1)))
    draft_all(drafter, [state])
    assert state.draft == draft_by_definition(model, state.tokens, torch.cat((known, last)), state.params, 4)


def test_who_asks_again_gets_the_same_draft_and_more_of_it(drafter, model):
    """A commit that decides nothing ends all preparations; of the lanes one may take the place of the draft."""
    target = Target(8)
    text = target.tokens(20)
    known = target.states(19)
    desk = DraftDesk(drafter, 8, run_ahead_rows=64)
    desk.apply(PEER, OpenDraft(1, tuple(text), PARAMS[1], 3, "", 8, as_bytes(known)))
    for length, next_length in ((3, 6), (6, 5), (5, 8), (8, 1)):
        while not desk.idle:
            desk.step()
        block, *_ = desk.take_replies()[PEER]
        (outcome,) = block.outcomes
        assert list(outcome.continuation) == draft_by_definition(model, text, known, PARAMS[1], length)
        desk.apply(PEER, CommitDraft(1, len(text), (), next_length, 8))
    desk.leave(PEER)
    assert drafter._kv._pool.usage == 0.0


@pytest.mark.parametrize(
    ("attention", "seed"), [(WINDOW, 5), (WINDOW, 6), (WINDOW, 7), (PAGES, 5), (REPLAYED, 6)], indirect=["attention"]
)
def test_what_is_prepared_follows_the_verdict_by_definition(attention, model, monkeypatch, seed):
    """A branch goes on from the states of the lane that it leaves; after a hit, from those of what was prepared."""
    drafter = make_drafter(monkeypatch, **attention)
    target = Target(seed)
    desk = DraftDesk(drafter, 8, run_ahead_rows=64)
    texts = {}
    for i, params in enumerate(PARAMS):
        tokens = target.tokens(target.rng.randrange(10, 40))
        texts[i] = (tokens, target.states(len(tokens) - 1))
        desk.apply(PEER, OpenDraft(i, tuple(tokens), params, 3, "", 8, as_bytes(texts[i][1])))
    outcomes = hits = 0
    hit = dict.fromkeys(texts, False)
    for _ in range(8):
        while not desk.idle:
            desk.step()
        prepared = {b.seq_id: b for b in desk.take_replies()[PEER] if b.ahead_of == len(texts[b.seq_id][0])}
        for i, params in enumerate(PARAMS):
            text, known = texts[i]
            draft = desk._states[PEER, i].draft
            if not hit[i]:
                assert draft[:3] == draft_by_definition(model, text, known, params, 3)
            verdicts = []
            for outcome in prepared[i].outcomes:
                accepted = outcome.base_len - len(text) - 1
                token = next(t for t in range(259) if prefix_hash([*text, *draft[:accepted], t]) == outcome.base_hash)
                verdicts.append([*draft[:accepted], token])
                assert list(outcome.continuation) == draft_by_definition(
                    model, text, known, params, 3, guesses=verdicts[-1]
                )
                outcomes += 1
            other = [*draft[: target.rng.randrange(4)], target.rng.randrange(256)]
            news = target.rng.choice([*verdicts, *[other] * len(verdicts)])
            hit[i] = news in verdicts
            hits += hit[i]
            states = target.states(len(news))
            texts[i] = ([*text, *news], torch.cat((known, states)))
            desk.apply(PEER, CommitDraft(i, len(text), tuple(news), 3, 8, as_bytes(states)))
    assert outcomes > 150
    assert hits > 10
    desk.leave(PEER)
    assert drafter._kv._pool.usage == 0.0
