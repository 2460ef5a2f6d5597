"""The step loop over a toy target: real threads, real queues, no model."""

import threading
import time
from dataclasses import replace

import pytest

from cluster.admission import Admission
from cluster.engine import Engine
from cluster.inbox import RECENT
from cluster.scheduler.planner import Planner
from cluster.scheduler.settings import SchedulerSettings
from tests.support.toy_target import ToyTarget, plain_text
from workers.contract.errors import InvalidParameterError, OverloadedError, TargetBrokenError
from workers.contract.processing import Grammar, GrammarKind, ProcessorParams
from workers.contract.request import FinishReason, GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams

GRAMMAR = Grammar(GrammarKind.REGEX, "a+")


class Inbox:
    """A progress sink that collects per request and says when one has finished."""

    def __init__(self) -> None:
        self.progress: dict[str, list[Progress]] = {}
        self._changed = threading.Condition()

    def __call__(self, items: list[Progress]) -> None:
        with self._changed:
            for item in items:
                self.progress.setdefault(item.request_id, []).append(item)
            self._changed.notify_all()

    def wait_for(self, predicate, timeout: float = 10) -> None:
        with self._changed:
            assert self._changed.wait_for(predicate, timeout)

    def finish(self, name: str) -> Progress:
        self.wait_for(lambda: name in self.progress and self.progress[name][-1].finish_reason is not None)
        return self.progress[name][-1]

    def text(self, name: str) -> list[int]:
        return [token for item in self.progress[name] for token in item.tokens]


class SlowTarget(ToyTarget):
    def execute(self, plan):
        time.sleep(0.01)
        return super().execute(plan)


@pytest.fixture
def serve():
    engines = []

    def start(target: ToyTarget | None = None, **settings) -> Engine:
        engine = Engine(target or ToyTarget(), SchedulerSettings(**settings))
        engine.start()
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.stop()


def request(name: str, prompt=(1, 2, 3), n: int = 8, **kwargs) -> GenerationRequest:
    return GenerationRequest(name, list(prompt), SamplingParams(seed=2), Stopping(n), **kwargs)


def test_requests_from_several_threads_get_their_own_text(serve):
    engine, inbox = serve(), Inbox()
    names = [f"r{i}" for i in range(12)]
    threads = [threading.Thread(target=engine.submit, args=(request(n, [i, i]), inbox)) for i, n in enumerate(names)]
    for thread in threads:
        thread.start()
    for i, name in enumerate(names):
        assert inbox.finish(name).finish_reason is FinishReason.LENGTH
        assert inbox.text(name) == plain_text([i, i], SamplingParams(seed=2), 8)
    assert engine.load().generated_tokens == 12 * 8


@pytest.mark.parametrize(
    ("prompt", "n", "param"),
    [([], 4, "prompt"), ([50], 4, "prompt"), ([-1], 4, "prompt"), ([1] * 128, 1, "prompt"), ([1], 0, "max_tokens"),
     ([1], 128, "max_tokens"), ([1], 10**9, "max_tokens"), ([1], -5, "max_tokens")],
)  # fmt: skip
def test_what_can_never_be_served_is_refused_by_name(serve, prompt, n, param):
    engine = serve()
    with pytest.raises(InvalidParameterError) as refusal:
        engine.submit(request("bad", prompt, n), Inbox())
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"processors": ProcessorParams(min_tokens=9)}, "min_tokens"),
        ({"processors": ProcessorParams(banned=((7,),), allowed_token_ids=frozenset({7}))}, "bad_words"),
        ({"processors": ProcessorParams(banned=((7,),)), "grammar": GRAMMAR}, "bad_words"),
        ({"processors": ProcessorParams(min_tokens=2, allowed_token_ids=frozenset({7}))}, "allowed_token_ids"),
        ({"processors": ProcessorParams(min_tokens=2), "grammar": GRAMMAR}, "min_tokens"),
        ({"processors": ProcessorParams(allowed_token_ids=frozenset({7})), "grammar": GRAMMAR}, "allowed_token_ids"),
        ({"prompt": [1] * 60_000, "num_prompt_logprobs": 20}, "prompt_logprobs"),
    ],
)
def test_processors_that_would_leave_no_token_are_refused_at_the_door(fields, param):
    admission = Admission(8, 100_000, 50)
    stopping = Stopping(8, frozenset({7}))
    with pytest.raises(InvalidParameterError) as refusal:
        admission.admit(replace(request("bad"), stopping=stopping, **fields))
    assert refusal.value.param == param


def test_a_grammar_is_refused_where_nobody_can_compile_it(serve):
    with pytest.raises(InvalidParameterError, match="grammar") as refusal:
        serve().submit(request("bad", grammar=GRAMMAR), Inbox())
    assert refusal.value.param == "response_format"


def test_a_grammar_that_was_prepared_is_not_compiled_again_at_the_door():
    engine = Engine(ToyTarget(), SchedulerSettings(), compile_grammar=lambda grammar: object())
    matcher = engine.prepare(GRAMMAR)
    arrived = []
    engine._compile_grammar = None
    engine._inbox.put = arrived.append
    engine.submit(request("a", grammar=GRAMMAR), Inbox(), matcher)
    assert arrived[0].grammar is matcher


def test_a_request_larger_than_the_kv_cache_is_refused(serve):
    engine = serve(ToyTarget(num_blocks=8, block_size=4, max_model_len=128))
    assert engine.identity.max_model_len == 32
    with pytest.raises(InvalidParameterError, match="context of 32"):
        engine.submit(request("big", [1] * 20, 20), Inbox())


def test_overload_is_said_at_the_door_and_room_is_made_again(serve):
    engine, inbox = serve(SlowTarget(), max_running=1, max_waiting=1), Inbox()
    engine.submit(request("a"), inbox)
    engine.submit(request("b"), inbox)
    with pytest.raises(OverloadedError):
        engine.submit(request("c"), inbox)
    inbox.finish("b")
    engine.submit(request("c"), inbox)
    assert inbox.finish("c").finish_reason is FinishReason.LENGTH


def test_a_tenant_that_floods_leaves_others_a_place(serve):
    engine, inbox = serve(SlowTarget(), max_running=1, max_waiting=8, max_requests_per_tenant=2), Inbox()
    engine.submit(request("a", tenant="flood"), inbox)
    engine.submit(request("b", tenant="flood"), inbox)
    with pytest.raises(OverloadedError, match="tenant"):
        engine.submit(request("c", tenant="flood"), inbox)
    engine.submit(request("d", tenant="other"), inbox)
    inbox.finish("b")
    engine.submit(request("c", tenant="flood"), inbox)
    for name in "cd":
        assert inbox.finish(name).finish_reason is FinishReason.LENGTH


def test_a_cancelled_request_gets_nothing_more_and_frees_its_blocks(serve):
    engine, inbox = serve(SlowTarget()), Inbox()
    engine.submit(request("a", n=100), inbox)
    inbox.wait_for(lambda: "a" in inbox.progress)
    engine.cancel("a")
    engine.cancel("never heard of")
    engine.submit(request("b"), inbox)
    inbox.finish("b")
    assert engine.load().kv_usage == 0
    assert inbox.progress["a"][-1].finish_reason is None


def test_a_sink_that_fails_hurts_nobody_else(serve):
    engine, inbox = serve(), Inbox()

    def failing(items: list[Progress]) -> None:
        raise ConnectionError("gone")

    engine.submit(request("a", n=100), failing)
    engine.submit(request("b", n=100), inbox)
    assert inbox.finish("b").finish_reason is FinishReason.LENGTH


def test_prompts_are_bounded_together_and_one_alone_is_let_in():
    admission = Admission(8, 1000, 50, max_prompt_tokens=100)
    admission.admit(request("long", [1] * 300))
    with pytest.raises(OverloadedError, match="300 tokens"):
        admission.admit(request("more", [1]))
    admission.leave("long")
    admission.admit(request("a", [1] * 60))
    admission.admit(request("b", [1] * 40))
    with pytest.raises(OverloadedError):
        admission.admit(request("c", [1]))
    admission.leave("a")
    admission.leave("a")
    admission.admit(request("c", [1] * 60))


def test_a_request_that_was_admitted_elsewhere_finds_room_in_any_case():
    admission = Admission(1, 1000, 50, per_tenant=1, max_prompt_tokens=10)
    admission.admit(request("a"))
    with pytest.raises(OverloadedError):
        admission.admit(request("b"))
    admission.admit(replace(request("lost its target", [1] * 60), attempt=1))
    admission.leave("a")
    with pytest.raises(OverloadedError):
        admission.admit(request("b"))


class Device(ToyTarget):
    """A target that computes beside its host, and notes what its host had handed out by then."""

    overlaps = True

    def __init__(self) -> None:
        super().__init__()
        self.ready = threading.Event()
        self.inbox = Inbox()
        self.seen: list[int] = []

    def execute(self, plan, meanwhile=None):
        self.ready.wait(10)
        output = super().execute(plan)
        if meanwhile is not None:
            meanwhile()
            self.seen.append(len(self.inbox.progress.get("a", ())))
        return output


class Listener(Device):
    """A device whose steps take a while; at the middle of one of them a drafter connects."""

    step_s = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.ready.set()
        self.steps = 0
        self.engine: Engine | None = None
        self.connected_at_the_end: list[int] = []

    def execute(self, plan, meanwhile=None):
        ends = time.monotonic() + self.step_s
        self.steps += 1
        if self.steps == RECENT + 2:
            threading.Timer(self.step_s / 2, lambda: self.engine.drafters_connected(3)).start()
        output = super().execute(plan, meanwhile)
        time.sleep(max(ends - time.monotonic(), 0))
        self.connected_at_the_end.append(self.engine._planner.load().drafters_connected)
        return output


def test_what_arrives_while_the_device_computes_is_seen_to_before_it_is_done(serve):
    target = Listener()
    target.engine = serve(target, lookup=False)
    target.engine.submit(request("a", n=RECENT + 4), target.inbox)
    target.inbox.finish("a")
    before, after = target.connected_at_the_end[: RECENT + 1], target.connected_at_the_end[RECENT + 1 :]
    assert set(before) == {0}
    assert set(after) == {3}


def answered(serve, target: Device, **settings) -> Inbox:
    """Let a device answer one request, and return what came of it."""
    engine = serve(target, lookup=False, **settings)
    engine.submit(request("a"), target.inbox)
    target.ready.set()
    target.inbox.finish("a")
    return target.inbox


PLANNED_IN_TIME_OR_AHEAD = pytest.mark.parametrize("draft_length", [4, 0])
"""Where nothing is ever drafted, steps are planned while the ones before them are computed."""


@PLANNED_IN_TIME_OR_AHEAD
def test_tokens_are_handed_out_while_the_device_computes_the_next_step(serve, draft_length):
    target = Device()
    inbox = answered(serve, target, draft_length=draft_length)
    assert inbox.finish("a").finish_reason is FinishReason.LENGTH
    assert inbox.text("a") == plain_text([1, 2, 3], SamplingParams(seed=2), 8)
    assert [item.offset for item in inbox.progress["a"]] == list(range(8)), "in order, each once"
    assert target.seen == list(range(8)), "what the step before has given is out before this one is over"


@PLANNED_IN_TIME_OR_AHEAD
@pytest.mark.parametrize(
    ("error", "reason"),
    [(TargetBrokenError("gone"), FinishReason.CANCELLED), (RuntimeError("this row"), FinishReason.ERROR)],
)
def test_what_was_kept_back_is_handed_out_when_a_step_fails(serve, error, reason, draft_length):
    class Breaking(Device):
        def execute(self, plan, meanwhile=None):
            if len(self.plans) == 4:
                raise error
            return super().execute(plan, meanwhile)

        def probe(self):
            """Other steps would go well."""

    inbox = answered(serve, Breaking(), draft_length=draft_length)
    assert inbox.finish("a").finish_reason is reason
    assert inbox.text("a") == plain_text([1, 2, 3], SamplingParams(seed=2), 4)


def test_steps_of_plain_decoding_are_planned_while_the_ones_before_them_are_computed(serve, monkeypatch):
    """Texts of many requests that end by length, by a stop token or because nobody wants them any more."""
    planned = []
    plan = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda planner, now: planned.append(now) or plan(planner, now))
    target, whole = Device(), {}
    target.num_blocks = 1000
    target.ready.set()
    engine = serve(target, draft_length=0)
    for i in range(40):
        name, prompt, n = f"r{i}", [i, 7], 20 + i
        text = plain_text(prompt, SamplingParams(seed=2), n)
        stop = frozenset(text[15:16] if i % 3 == 0 else ())
        whole[name] = text[: text.index(text[15]) + 1] if stop else text
        engine.submit(replace(request(name, prompt, n), stopping=Stopping(n, stop)), target.inbox)
    engine.cancel("r39")
    for name, text in whole.items():
        if name != "r39":
            target.inbox.finish(name)
            assert target.inbox.text(name) == text
    assert len(planned) < len(target.plans) / 2
    assert engine.load().kv_usage == 0
