"""What is in the trace of an engine, whatever happens to its requests and its drafters."""

import itertools
import json
import logging
import random

import pytest

from cluster.tracing.draft_track import NAME
from cluster.tracing.loop_track import TRACK, Doing
from cluster.tracing.recorder import Recorder
from tests.cluster.tracing.engine_run import Watched
from tests.support.toy_target import ToyTarget, plain_text
from tests.support.traces import by_track, faults, load, slices
from workers.contract.sampling_params import SamplingParams


def request_events(events, name):
    (pid,) = {e["pid"] for e in events if e["ph"] == "B" and e["name"] == f"request {name}"}
    return [e for e in events if e["pid"] == pid]


def total(progress, field):
    return sum(getattr(item, field) for item in progress)


@pytest.mark.parametrize("seed", range(6))
def test_every_request_is_told_as_it_was(tmp_path, seed):
    """Prompts in chunks, preemption, drafts of every kind, cancellations: tracks nest, and their sums are true."""
    draw = random.Random(seed)
    target = ToyTarget(num_blocks=draw.choice([16, 24, 64]), max_model_len=60)
    settings = {"max_running": draw.choice([2, 8]), "max_tokens_per_step": draw.choice([7, 40])}
    names = [f"r{i}" for i in range(10)]
    with Watched(tmp_path / "t.json", seed, target=target, **settings) as run:
        for name in names:
            run.submit(name, [draw.randrange(50) for _ in range(draw.randrange(1, 30))], draw.randrange(1, 25))
        for name in names[::4]:
            run.engine.cancel(name)
        finished = [name for i, name in enumerate(names) if i % 4]
        for name in finished:
            run.wait_for(name)
        load_at_end = run.engine.load()
    events = load(run.tracer.path)
    assert faults(events) == []
    assert events == json.loads(run.tracer.path.read_text())
    for name in finished:
        own, told = request_events(events, name), run.progress[name]
        verified = slices(own, "verify")
        assert len(verified) == total(told, "num_drafts")
        assert sum(e["args"]["draft"] for e in verified) == total(told, "num_draft_tokens")
        (ended,) = [e for e in own if e["ph"] == "E"]
        assert ended["args"]["emitted"] == sum(len(item.tokens) for item in told)
        assert ended["args"]["reason"] == told[-1].finish_reason
    assert sum(e["args"]["accepted"] for e in slices(events, "verify")) == load_at_end.accepted_tokens
    assert load_at_end.accepted_tokens > 0
    assert sum(e["args"]["accepted"] for e in slices(events, "step")) == load_at_end.accepted_tokens
    cancelled = [e for e in events if e["ph"] == "E" and e["args"]["reason"] == "cancelled"]
    assert len(cancelled) <= len(names[::4])


def test_the_loops_slices_leave_no_gap(tmp_path):
    with Watched(tmp_path / "t.json") as run:
        run.submit("a", [1, 2, 3], 40)
        run.wait_for("a")
    own = [e for e in load(run.tracer.path) if e["ph"] == "X" and (e["pid"], e["tid"]) == TRACK]
    assert own[0]["ts"] == 0
    for before, after in itertools.pairwise(own):
        assert before["ts"] + before["dur"] == after["ts"]
    (mark,) = [e for e in load(run.tracer.path) if e["ph"] == "i"]
    assert own[-1]["ts"] + own[-1]["dur"] == mark["ts"]
    assert mark["args"]["why"] == "the target stopped"
    assert {e["cat"] for e in own} == set(Doing)


def test_steps_say_what_they_computed(tmp_path):
    with Watched(tmp_path / "t.json", max_tokens_per_step=8, draft_length=0) as run:
        run.submit("a", range(20), 3)
        run.wait_for("a")
    steps = slices(load(run.tracer.path), "step")
    assert [step["name"] for step in steps] == ["prefill", "prefill", "prefill", "decode", "decode"]
    assert [step["args"]["positions"] for step in steps] == [8, 8, 4, 1, 1]
    prompt = slices(request_events(load(run.tracer.path), "a"), "prefill")
    assert [(e["args"]["from"], e["args"]["positions"]) for e in prompt] == [(0, 8), (8, 8), (16, 4)]


def test_waiting_has_its_reason(tmp_path):
    """One place, two requests: the second queues; held-back time is told as such on the request's own track."""
    with Watched(tmp_path / "t.json", seed=3, max_running=1, lookup=False) as run:
        run.submit("a", [1, 2, 3], 40)
        run.submit("b", [1, 2, 3], 40)
        run.wait_for("b")
    events = load(run.tracer.path)
    queued = [e for e in request_events(events, "b") if e.get("cat") == "wait" and e["name"] == "queued"]
    last_of_a = max(e["ts"] + e["dur"] for e in request_events(events, "a") if e["ph"] == "X")
    assert len(queued) == 1
    assert queued[0]["ts"] + queued[0]["dur"] >= last_of_a
    held = slices(events, Doing.HELD)
    waits = [e for e in slices(events, "wait") if e["name"] == "waiting for drafts"]
    assert len(held) > 0
    for wait in waits:
        assert any(wait["ts"] <= h["ts"] and h["ts"] + h["dur"] <= wait["ts"] + wait["dur"] for h in held)
    assert len(waits) == len(held)


def test_drafts_are_shown_from_the_order_to_the_block(tmp_path):
    with Watched(tmp_path / "t.json") as run:
        run.submit("a", [1, 2, 3], 40)
        run.wait_for("a")
        asked = run.engine.load().draft_blocks_asked
    events = load(run.tracer.path)
    begun = [e for e in request_events(events, "a") if e["ph"] == "b" and e["name"] == NAME]
    ended = [e for e in request_events(events, "a") if e["ph"] == "e" and e["name"] == NAME]
    assert len(begun) == len(ended) == asked
    answered = [e for e in ended if e["args"]["answered"]]
    assert 0 < len(answered) < asked, "some were never answered"
    assert {e["args"]["guessed"] for e in answered} <= {1, 2, 3, 4}
    in_flight = [e["args"]["value"] for e in events if e["ph"] == "C" and e["name"] == "draft blocks on their way"]
    assert max(in_flight) >= 1
    assert min(in_flight) == 0


def test_a_cut_off_trace_still_tells_what_had_happened(tmp_path):
    with Watched(tmp_path / "t.json") as run:
        run.submit("a", [1, 2, 3], 40)
        run.wait_for("a")
        run.submit("b", [1, 2, 3], 40)
        run.wait_for("b")
    path = run.tracer.path
    path.write_text(path.read_text()[:-2000])
    events = load(path)
    assert len(slices(events, "step")) > 10
    left_open = [fault for fault in faults(events) if "without an end" not in fault]
    assert left_open == []


def test_the_limit_ends_the_trace_in_order_and_the_engine_goes_on(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    with Watched(tmp_path / "t.json", max_bytes=50_000) as run:
        for i in range(40):
            run.submit(f"r{i}", [1, 2, i], 60)
        for i in range(40):
            run.wait_for(f"r{i}")
        told = [m for m in caplog.messages if "the trace ends here: the file has reached its limit" in m]
        assert len(told) == 1
        run.tracer._file._thread.join(20)
        assert json.loads(run.tracer.path.read_text()), "complete while the engine still runs"
    events = load(run.tracer.path)
    assert faults(events) == []
    assert 50_000 <= run.tracer.path.stat().st_size < 400_000
    assert [e["args"]["why"] for e in events if e["ph"] == "i"] == ["the file has reached its limit of 50000 bytes"]
    text = [token for item in run.progress["r39"] for token in item.tokens]
    assert text == plain_text([1, 2, 39], SamplingParams(seed=3), 60)


def test_a_fault_in_the_recorder_ends_the_trace_alone(tmp_path, caplog, monkeypatch):
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Recorder, "stepped", stumble)
    with Watched(tmp_path / "t.json") as run:
        run.submit("a", [1, 2, 3], 20)
        run.wait_for("a")
    assert [m for m in caplog.messages if "fault of its own" in m]
    assert isinstance(json.loads(run.tracer.path.read_text()), list)


def test_a_failed_step_is_shown_and_ends_its_requests(tmp_path):
    class Unlucky(ToyTarget):
        def execute(self, plan):
            raise RuntimeError("out of luck")

        def probe(self):
            """Other steps would go well."""

    with Watched(tmp_path / "t.json", target=Unlucky()) as run:
        run.submit("a", [1, 2, 3], 20)
        run.wait_for("a")
    events = load(run.tracer.path)
    assert faults(events) == []
    assert [e["args"].get("failed") for e in slices(events, "step")] == [True]
    assert [e["args"]["reason"] for e in request_events(events, "a") if e["ph"] == "E"] == ["error"]


def test_unfinished_requests_end_with_the_engine(tmp_path):
    with Watched(tmp_path / "t.json") as run:
        run.submit("a", [1, 2, 3], 100)
        run.wait_for("a", tokens=5)
        run.submit("b", [1] * 40, 80)
    events = load(run.tracer.path)
    assert faults(events) == []
    assert by_track(events).keys() >= {TRACK}


def test_an_engine_that_never_ran_leaves_an_empty_trace(tmp_path):
    run = Watched(tmp_path / "t.json")
    run.engine.stop()
    assert [e["name"] for e in load(run.tracer.path) if e["ph"] != "M"] == ["trace ends"]
