"""A model drafter on a real (tiny) model against Hugging Face's own forward, one sequence and token at a time."""

import asyncio
import random

import pytest
import torch
from transformers import AutoModelForCausalLM

from cluster.links.drafting.cause import Cause
from cluster.links.drafting.pool import DrafterPool
from tests.support.tiny_models import make_tiny
from workers.contract.draft import CommitDraft, OpenDraft
from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.drafting import model_drafter
from workers.drafting.desk import DraftDesk
from workers.drafting.drafter import DraftPeer, DraftState
from workers.drafting.model_drafter import ModelDrafter
from workers.drafting.server import DrafterServer
from workers.model_runner import ModelRunner
from workers.sampling.coupled import SamplingBatch, choose_tokens
from workers.settings import DrafterSettings, RunnerSettings
from workers.tokenizer import Tokenizer

PARAMS = [
    SamplingParams(temperature=0.0),
    SamplingParams(seed=2**64 - 5),
    SamplingParams(temperature=0.7, top_p=0.9, seed=11),
    SamplingParams(temperature=1.3, top_k=20, min_p=0.01, seed=12),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("drafter"), scale=3.0, seed=5)


@pytest.fixture(scope="module")
def settings(folder):
    return RunnerSettings(model=str(folder), kv_cache_bytes=4 * 2**20, max_model_len=256, threads=1)


@pytest.fixture(scope="module")
def naive(folder):
    """Autoregressive drafting by definition: no cache, no batch, no pages."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    @torch.inference_mode()
    def draft(tokens, params, k):
        text = list(tokens)
        for _ in range(k):
            logits = model(torch.tensor([text])).logits[0, -1:]
            batch = SamplingBatch.from_params([(params, len(text))])
            text += choose_tokens(logits, batch).tolist()
        return text[len(tokens) :]

    return draft


def draft_all(drafter, states):
    wanting = list(states)
    while wanting:
        finished = drafter.advance(wanting).finished
        wanting = [state for state in wanting if state not in finished]


def test_drafts_are_naive_drafts_through_accepts_and_rejects(settings, naive, monkeypatch):
    monkeypatch.setattr(model_drafter, "MAX_STEP_TOKENS", 24)
    rng = random.Random(3)
    drafter = ModelDrafter(ModelRunner.from_settings(settings))
    peer = DraftPeer(vocab_size=259, deliver=lambda replies: None)
    shared = [rng.randrange(256) for _ in range(20)]
    states = []
    for i, params in enumerate(PARAMS * 2):
        prompt = [*shared, *(rng.randrange(256) for _ in range(rng.randrange(1, 20)))]
        states.append(DraftState.start(peer, OpenDraft(i, prompt, params, rng.randrange(1, 6))))
    rejected = 0
    for _ in range(5):
        draft_all(drafter, states)
        for state in states:
            assert state.draft[: state.wanted] == naive(state.tokens, state.params, state.wanted)
            accepted = rng.randrange(len(state.draft) + 1)
            rejected += accepted < len(state.draft)
            state.commit([*state.draft[:accepted], rng.randrange(256)], rng.randrange(1, 6))
    assert rejected > 10


def test_what_is_prepared_are_naive_drafts_after_the_verdict(settings, naive):
    """Branches share blocks, copy others and are adopted when their verdict comes: none of it changes a guess."""
    rng = random.Random(4)
    drafter = ModelDrafter(ModelRunner.from_settings(settings))
    desk = DraftDesk(drafter, 8, run_ahead_rows=64)
    peer = DraftPeer(vocab_size=259, deliver=lambda replies: None)
    texts = [[rng.randrange(256) for _ in range(rng.randrange(10, 40))] for _ in PARAMS]
    for i, params in enumerate(PARAMS):
        desk.apply(peer, OpenDraft(i, tuple(texts[i]), params, 3, "", 8))
    outcomes = hits = 0
    for _ in range(6):
        while not desk.idle:
            desk.step()
        prepared = {b.seq_id: b for b in desk.take_replies()[peer] if b.ahead_of == len(texts[b.seq_id])}
        for i, params in enumerate(PARAMS):
            text, draft = texts[i], naive(texts[i], params, 4)
            verdicts = {}
            for outcome in prepared[i].outcomes:
                accepted = outcome.base_len - len(text) - 1
                known = next(
                    [*text, *draft[:accepted], token]
                    for token in range(259)
                    if prefix_hash([*text, *draft[:accepted], token]) == outcome.base_hash
                )
                assert list(outcome.continuation) == naive(known, params, 3)
                verdicts[accepted] = known
                outcomes += 1
            accepted = rng.randrange(4)
            missed = [*text, *draft[:accepted], rng.randrange(256)]
            texts[i] = verdicts[accepted] if accepted in verdicts and rng.random() < 0.8 else missed
            hits += texts[i] is not missed
            desk.apply(peer, CommitDraft(i, len(text), tuple(texts[i][len(text) :]), 3, 8))
    assert outcomes > 100
    assert hits > 10
    desk.leave(peer)
    assert drafter._kv._pool.usage == 0.0


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_target_gets_its_drafts_over_grpc(settings, naive, folder):
    server = DrafterServer(DrafterSettings(model=str(folder), runner=settings))
    address = await server.start("127.0.0.1")
    fingerprint = Tokenizer.from_folder(folder).fingerprint
    blocks = []
    target = DrafterPool(ModelIdentity("target", 259, fingerprint, 256), 5, blocks.extend)
    stranger = DrafterPool(ModelIdentity("stranger", 259, "another", 256), 6, blocks.extend)
    for pool in (target, stranger):
        await pool.start()
        pool.set_drafters([address])
    await until(lambda: target.connected)
    tokens = list(b"Once upon a time")
    target.post([OpenDraft(1, tuple(tokens), PARAMS[2], 4)])
    for _ in range(3):
        await until(lambda: blocks)
        (outcome,) = blocks.pop().outcomes
        assert outcome.base_len == len(tokens)
        assert list(outcome.continuation) == naive(tokens, PARAMS[2], 4)
        new = (*outcome.continuation[:2], 65)
        target.post([CommitDraft(1, len(tokens), new, 4)])
        tokens += new
    assert stranger.connected == 0
    assert stranger.stats.disconnects == {Cause.INCOMPATIBLE: 1}
    for pool in (target, stranger):
        await pool.stop()
    await server.stop()
