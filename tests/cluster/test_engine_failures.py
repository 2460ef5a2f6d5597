"""What goes wrong inside a target: a request's own trouble stays its own, and a broken model ends nobody's text."""

import threading

import pytest

from cluster.engine import Engine
from cluster.scheduler.settings import SchedulerSettings
from tests.cluster.test_engine import Inbox, request
from tests.support.toy_target import ToyTarget, plain_text
from workers.contract.errors import TargetBrokenError, UnavailableError
from workers.contract.processing import Grammar, GrammarKind
from workers.contract.request import FinishReason
from workers.contract.sampling_params import SamplingParams

POISON = 13
NAMES = [f"r{i}" for i in range(7)]


class FailingTarget(ToyTarget):
    """A toy target that fails on every step for which ``fails`` is true, and computes nothing once it is ``dead``."""

    def __init__(self, fails=lambda plan: False) -> None:
        super().__init__()
        self.fails = fails
        self.dead = False
        self.begin = threading.Event()

    def execute(self, plan):
        self.begin.wait(10)  # until a test has submitted all of its requests
        if self.dead or self.fails(plan):
            raise RuntimeError("/srv/secret.py exploded")
        return super().execute(plan)

    def probe(self) -> None:
        if self.dead:
            raise RuntimeError("no device")


class FussyGrammar:
    """A grammar that raises what no grammar should, once it has seen ``limit`` tokens."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen = 0

    def advance(self, tokens) -> None:
        self.seen += len(tokens)
        if self.seen >= self.limit:
            raise ZeroDivisionError

    def legal_prefix(self, draft) -> int:
        return len(draft)

    def masks(self, draft):
        return [b"\xff" * 7 for _ in range(len(draft) + 1)]


@pytest.fixture
def serve():
    engines = []

    def start(target: ToyTarget, **options) -> Engine:
        engine = Engine(target, SchedulerSettings(draft_length=0), **options)
        engine.start()
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.stop()


def poisoned(plan) -> bool:
    return any(POISON in row.tokens for row in plan.rows)


def test_a_row_that_cannot_be_computed_fails_alone_and_its_neighbours_keep_their_text(serve):
    target = FailingTarget(lambda plan: poisoned(plan) and any(row.start == 0 for row in plan.rows))
    engine, inbox = serve(target), Inbox()
    for i, name in enumerate(NAMES):
        engine.submit(request(name, [POISON if name == "r3" else i, i]), inbox)
    target.begin.set()
    for i, name in enumerate(NAMES):
        end = inbox.finish(name)
        if name == "r3":
            assert end.finish_reason is FinishReason.ERROR
            assert "RuntimeError" in end.message and "secret" not in end.message
        else:
            assert inbox.text(name) == plain_text([i, i], SamplingParams(seed=2), 8)
    assert engine.load().steps_failed > 0
    assert engine.load().kv_usage == 0
    assert not engine.hangs(10)


def test_a_request_that_fails_while_it_is_alone_does_not_end_the_target(serve):
    target = FailingTarget(poisoned)
    target.begin.set()
    engine, inbox = serve(target), Inbox()
    for name in ("a", "b", "c", "d"):
        engine.submit(request(name, [POISON]), inbox)
        assert inbox.finish(name).finish_reason is FinishReason.ERROR
    engine.submit(request("well", [2]), inbox)
    assert inbox.finish("well").finish_reason is FinishReason.LENGTH


class PanicError(BaseException):
    """No Exception, as a panic in Rust."""


@pytest.mark.parametrize("error", [RuntimeError, TargetBrokenError, PanicError])
def test_a_target_that_is_broken_gives_its_requests_back(serve, error):
    class Broken(FailingTarget):
        def execute(self, plan):
            if self.dead:
                raise error("the link to rank 1 is gone")
            return super().execute(plan)

    target = Broken()
    target.begin.set()
    engine, inbox = serve(target), Inbox()
    for name in NAMES:
        engine.submit(request(name, n=100), inbox)
    inbox.wait_for(lambda: all(name in inbox.progress for name in NAMES))
    target.dead = True
    for name in NAMES:
        assert inbox.finish(name).finish_reason is FinishReason.CANCELLED, "its ingress has it go on elsewhere"
    assert engine.hangs(10**6)
    with pytest.raises(UnavailableError):
        engine.submit(request("late"), inbox)


@pytest.mark.parametrize("error", [ZeroDivisionError, PanicError])
def test_a_loop_that_fails_gives_its_requests_back(serve, error):
    def hold(running, now):
        raise error

    target = FailingTarget()
    engine, inbox = serve(target), Inbox()
    engine._planner._speculation.hold = hold
    engine.submit(request("a"), inbox)
    assert inbox.finish("a").finish_reason is FinishReason.CANCELLED
    assert engine.hangs(10**6)


@pytest.mark.parametrize("fails", ["commit", "plan_ahead"])
def test_a_loop_that_fails_while_a_step_is_computed_gives_its_requests_back(serve, fails):
    class Device(ToyTarget):
        overlaps = True

        def execute(self, plan, meanwhile=None):
            output = super().execute(plan)
            if len(self.plans) == 5:
                setattr(engine._planner, fails, lambda *_: 1 / 0)
            meanwhile()
            return output

    engine = serve(Device())
    inbox = Inbox()
    engine.submit(request("a"), inbox)
    assert inbox.finish("a").finish_reason is FinishReason.CANCELLED
    text = plain_text([1, 2, 3], SamplingParams(seed=2), 8)
    assert inbox.text("a") == text[: len(inbox.text("a"))]
    assert engine.hangs(10**6)


@pytest.mark.parametrize(("limit", "emitted"), [(3, ()), (2, (1, 2, 3))], ids=["while it decides", "as it arrives"])
def test_a_grammar_that_raises_ends_its_own_request(serve, limit, emitted):
    target = FailingTarget()
    target.begin.set()
    engine, inbox = serve(target, compile_grammar=lambda grammar: FussyGrammar(limit)), Inbox()
    engine.submit(request("well", n=60), inbox)
    engine.submit(request("bad", grammar=Grammar(GrammarKind.REGEX, "a+"), emitted=emitted), inbox)
    end = inbox.finish("bad")
    assert (end.finish_reason, end.message) == (
        FinishReason.ERROR,
        "the request could not be handled: ZeroDivisionError",
    )
    inbox.finish("well")
    assert inbox.text("well") == plain_text([1, 2, 3], SamplingParams(seed=2), 60)
    assert engine.load().kv_usage == 0


def test_a_draft_that_makes_a_row_raise_ends_its_own_request(serve, monkeypatch):
    target = FailingTarget()
    engine, inbox = serve(target), Inbox()
    choose = engine._planner._speculation.choose

    def raising(active, room):
        if active.request.request_id == "bad" and active.num_emitted == 4:
            raise IndexError
        return choose(active, room)

    monkeypatch.setattr(engine._planner._speculation, "choose", raising)
    for name in ("bad", "well"):
        engine.submit(request(name), inbox)
    target.begin.set()
    assert inbox.finish("bad").finish_reason is FinishReason.ERROR
    assert len(inbox.text("bad")) == 4
    inbox.finish("well")
    assert inbox.text("well") == plain_text([1, 2, 3], SamplingParams(seed=2), 8)


def test_a_step_hangs_by_its_deadline_or_by_what_steps_have_taken():
    now = [0.0]
    engine = Engine(ToyTarget(), SchedulerSettings(), clock=lambda: now[0])
    now[0] = 4.0
    assert not engine.hangs(5)
    now[0] = 6.0
    assert engine.hangs(5)
    engine.beat()
    now[0] = 10.0
    assert not engine.hangs(5)
    now[0] = 12.0
    assert engine.hangs(5)
    engine._lengths.note(1, 3.0, 6.0)
    assert not engine.hangs(5)
