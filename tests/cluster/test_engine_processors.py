"""Processors, grammars and log-probabilities through a real model and the step loop, with drafts and without."""

import json
import queue
import random
from collections.abc import Sequence as Seq
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from cluster.engine import Engine
from cluster.scheduler.settings import SchedulerSettings
from tests.support.tiny_models import EOS, make_tiny
from workers.contract.draft import CloseDraft, DraftBlock, DraftOp, OpenDraft, Outcome
from workers.contract.prefix_hash import prefix_hash
from workers.contract.processing import Grammar, GrammarKind, ProcessorParams
from workers.contract.request import FinishReason, GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.grammar.compiler import GrammarCompiler
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

PROMPT = [72, 101, 108, 108, 111, 44, 32]
STOPS = frozenset({EOS})
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"word": {"type": "string", "maxLength": 6}, "n": {"type": "integer", "maximum": 999}},
        "required": ["word", "n"],
        "additionalProperties": False,
    }
)
JSON = Grammar(GrammarKind.JSON_SCHEMA, SCHEMA)
WARM = {"temperature": 1.0}
LIKED = {65: 60.0, 66: 60.0, 67: 60.0}
REQUESTS = {
    "bias": {"processors": ProcessorParams(logit_bias={65: 100.0, 66: 99.0, 67: 98.5})},
    "only a few": {"processors": ProcessorParams(allowed_token_ids=frozenset({65, 66, 67}), frequency_penalty=0.3)},
    "penalties": {"processors": ProcessorParams(repetition_penalty=1.3, presence_penalty=0.7, frequency_penalty=0.9)},
    "anti-penalties": {"processors": ProcessorParams(presence_penalty=-2.0, frequency_penalty=-1.0)},
    "banned sequences": {"processors": ProcessorParams(logit_bias=LIKED, banned=((65, 66), (67, 67), (66, 66, 65)))},
    "min tokens": {"processors": ProcessorParams(logit_bias={EOS: 100.0}, min_tokens=9)},
    "grammar": {"grammar": JSON},
    "grammar and penalties": {"grammar": JSON, "processors": ProcessorParams(repetition_penalty=1.5)},
    "logprobs": {"num_logprobs": 3},
    "nothing": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"), scale=4.0)


@pytest.fixture(scope="module")
def runner(folder):
    return ModelRunner.from_settings(
        RunnerSettings(model=str(folder), block_size=4, max_model_len=256, kv_cache_bytes=1 << 21)
    )


class Forger:
    """Proposes what plain decoding said, with mistakes; so half of a draft is right and the rest may be illegal."""

    def __init__(self, known: dict[int, list[int]]) -> None:
        self.known = known
        """By seed: the whole text of the request with that seed."""
        self.engine: Engine | None = None
        self.proposed = 0
        self._random = random.Random(7)
        self._open: dict[int, tuple[list[int], int]] = {}

    def post(self, ops: Seq[DraftOp]) -> None:
        for op in ops:
            if isinstance(op, CloseDraft):
                self._open.pop(op.seq_id)
                continue
            if isinstance(op, OpenDraft):
                self._open[op.seq_id] = (list(op.tokens), op.params.seed)
            else:
                self._open[op.seq_id][0].extend(op.tokens)
            text, seed = self._open[op.seq_id]
            draft = list(self.known[seed][len(text) : len(text) + op.draft_length]) or [EOS]
            if self._random.random() < 0.5:
                draft[self._random.randrange(len(draft))] = self._random.choice([EOS, 34, 125, 200, 258])
            self.proposed += len(draft)
            outcome = Outcome(len(text), prefix_hash(text), tuple(draft))
            assert self.engine is not None
            self.engine.deliver([DraftBlock(op.seq_id, (outcome,))])


def serve(
    runner: ModelRunner, requests: list[GenerationRequest], forger: Forger | None = None, **settings
) -> tuple[dict[str, list[Progress]], Engine]:
    scheduler = SchedulerSettings(
        policy="fixed", lookup=False, draft_length=4 if forger else 0, draft_wait_ms=2000, **settings
    )
    grammars = GrammarCompiler(runner.tokenizer, runner.vocab_size)
    engine = Engine(runner, scheduler, forger.post if forger else None, compile_grammar=grammars.compile)
    if forger:
        forger.engine = engine
        engine.drafters_connected(1)
    progress: dict[str, list[Progress]] = {request.request_id: [] for request in requests}
    done: queue.SimpleQueue[str] = queue.SimpleQueue()

    def sink(items: list[Progress]) -> None:
        for item in items:
            progress[item.request_id].append(item)
            if item.finish_reason is not None:
                done.put(item.request_id)

    for request in requests:
        engine.submit(request, sink)
    engine.start()
    try:
        for _ in requests:
            done.get(timeout=60)
    finally:
        engine.stop()
    return progress, engine


def make(name: str, seed: int, temperature: float, **fields) -> GenerationRequest:
    params = SamplingParams(temperature=temperature, seed=seed)
    return GenerationRequest(name, PROMPT, params, Stopping(40, STOPS), **fields)


def text(progress: list[Progress]) -> list[int]:
    return [token for item in progress for token in item.tokens]


@pytest.fixture(scope="module")
def requests() -> list[GenerationRequest]:
    cases = [(name, fields, t) for name, fields in REQUESTS.items() for t in (0.0, 1.0)]
    return [make(f"{name} at {t}", seed, t, **fields) for seed, (name, fields, t) in enumerate(cases)]


@pytest.fixture(scope="module")
def plain(runner, requests):
    return serve(runner, requests)[0]


def test_the_text_is_the_same_with_drafts_and_without(runner, requests, plain):
    known = {request.params.seed: PROMPT + text(plain[request.request_id]) for request in requests}
    forger = Forger(known)
    drafted, engine = serve(runner, requests, forger)
    for request in requests:
        assert text(drafted[request.request_id]) == text(plain[request.request_id]), request.request_id
        assert drafted[request.request_id][-1].finish_reason == plain[request.request_id][-1].finish_reason
    load = engine.load()
    assert load.accepted_tokens > 100
    assert load.draft_tokens > load.accepted_tokens + 20
    grammars = [name for name in drafted if name.startswith("grammar")]
    verified = sum(item.num_draft_tokens for name in grammars for item in drafted[name])
    accepted = sum(source.value > 0 for name in grammars for item in drafted[name] for source in item.sources)
    assert accepted > 0.5 * verified, "illegal tokens were cut off before they were verified"


def test_processors_do_what_they_say(plain, runner):
    assert set(text(plain["only a few at 1.0"])) <= {65, 66, 67}
    assert set(text(plain["bias at 0.0"])) <= {65, 66, 67}
    assert len(text(plain["min tokens at 1.0"])) == 10
    assert text(plain["min tokens at 1.0"])[-1] == EOS
    assert len(set(text(plain["penalties at 0.0"]))) > len(set(text(plain["anti-penalties at 0.0"])))
    for name in ("grammar at 0.0", "grammar at 1.0", "grammar and penalties at 1.0"):
        answer = json.loads(runner.tokenizer.decode(text(plain[name])))
        assert set(answer) == {"word", "n"}
        assert plain[name][-1].finish_reason is FinishReason.STOP


def test_text_is_the_same_with_logprobs_and_without(plain, runner):
    with_logprobs = make("a", 3, 1.0, num_logprobs=5)
    without = make("b", 3, 1.0)
    progress, _ = serve(runner, [with_logprobs, without])
    assert text(progress["a"]) == text(progress["b"])
    assert not any(item.logprobs for item in progress["b"])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logprobs_are_those_of_a_hugging_face_forward(folder, runner, temperature):
    requests = [make("r", 5, temperature, num_logprobs=4, num_prompt_logprobs=2)]
    progress, _ = serve(runner, requests, max_tokens_per_step=5)
    tokens = PROMPT + text(progress["r"])
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].float()
    expected = logits.log_softmax(-1)
    found = [*progress["r"][0].prompt_logprobs, *(item for step in progress["r"] for item in step.logprobs)]
    assert [item.token for item in found] == tokens[1:]
    assert len(progress["r"][0].prompt_logprobs) == len(PROMPT) - 1
    for position, item in enumerate(found):
        count = 2 if position + 1 < len(PROMPT) else 4
        best = expected[position].topk(count)
        assert item.logprob == pytest.approx(expected[position, item.token].item(), abs=1e-3)
        assert item.rank == 1 + int((expected[position] > expected[position, item.token]).sum())
        assert [token for token, _ in item.top] == best.indices.tolist()
        assert [value for _, value in item.top] == pytest.approx(best.values.tolist(), abs=1e-3)


def test_a_verification_reports_the_logprobs_of_plain_decoding(runner, requests, plain):
    request = next(r for r in requests if r.request_id == "logprobs at 1.0")
    forger = Forger({request.params.seed: PROMPT + text(plain[request.request_id])})
    drafted, _ = serve(runner, [request], forger)
    before = [item for step in plain[request.request_id] for item in step.logprobs]
    after = [item for step in drafted[request.request_id] for item in step.logprobs]
    assert len(after) == len(text(drafted[request.request_id]))
    assert [item.token for item in after] == [item.token for item in before]
    assert [item.logprob for item in after] == pytest.approx([item.logprob for item in before], abs=1e-4)


@pytest.mark.parametrize("name", [f"{name} at 1.0" for name in REQUESTS])
@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_resumed_request_goes_on_as_it_would_have(runner, requests, plain, name, cut):
    """What an ingress does when a target is lost: the same request with what has been emitted."""
    request = next(r for r in requests if r.request_id == name)
    whole = text(plain[name])
    cut = min(cut, len(whole) - 1)
    resumed, _ = serve(runner, [replace(request, emitted=whole[:cut])])
    assert text(resumed[name]) == whole[cut:]


def test_a_grammar_that_goes_wrong_ends_its_own_request_only(runner):
    class Broken:
        def advance(self, tokens):
            pass

        def legal_prefix(self, draft):
            return 0

        def masks(self, draft):
            raise RuntimeError("no more")

    engine = Engine(runner, SchedulerSettings(draft_length=0), compile_grammar=lambda grammar: Broken())
    done: queue.SimpleQueue[Progress] = queue.SimpleQueue()

    def sink(items):
        for item in items:
            if item.finish_reason is not None:
                done.put(item)

    engine.submit(make("broken", 1, 1.0, grammar=JSON), sink)
    engine.submit(make("whole", 2, 1.0), sink)
    engine.start()
    ends = {item.request_id: item for item in (done.get(timeout=30), done.get(timeout=30))}
    engine.stop()
    assert ends["broken"].finish_reason is FinishReason.ERROR
    assert ends["whole"].finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert engine.load().running == 0


def test_prompt_scoring_survives_the_prefix_cache_and_preemption(folder):
    """Several requests with the same prompt in a cache too small for them all."""
    small = ModelRunner.from_settings(
        RunnerSettings(model=str(folder), block_size=4, max_model_len=64, kv_cache_bytes=17 * 4 * 2 * 2 * 24 * 4)
    )
    requests = [make(f"r{i}", i, 1.0, num_prompt_logprobs=1) for i in range(3)]
    progress, engine = serve(small, requests, max_tokens_per_step=5)
    alone, _ = serve(small, requests[:1])
    assert engine.load().preemptions > 0
    for request in requests:
        found = progress[request.request_id][0].prompt_logprobs
        assert [item.token for item in found] == PROMPT[1:]
        assert [i.logprob for i in found] == pytest.approx(
            [i.logprob for i in alone["r0"][0].prompt_logprobs], abs=1e-3
        )
