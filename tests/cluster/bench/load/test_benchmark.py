"""The whole benchmark against a real ingress, and against an endpoint that is not ours."""

import contextlib

import pytest

from cluster.bench.load.benchmark import run_benchmark
from cluster.bench.load.client import Client, base_url
from cluster.bench.load.counters import Counters
from cluster.bench.load.endpoint import Endpoint
from cluster.bench.load.errors import BenchError
from cluster.bench.load.modes import Mode
from cluster.bench.load.prompts import Prompt
from cluster.bench.load.run import Runner
from cluster.bench.load.settings import ApiKind, BenchSettings, parse_loads
from tests.cluster.bench.load.conftest import foreign_endpoint
from workers.contract.errors import ConfigurationError

PROMPTS = [Prompt("one"), Prompt("two"), Prompt("three")]


class Watcher:
    """Notes what a sweep tells."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.ended = 0
        self.stages = []

    def begin(self, stage: str) -> None:
        self.stages.append(stage)

    def advance(self) -> None:
        self.ended += 1


async def bench(url, watchers=None, concurrency="2", rate=None, **options):
    """Run a small benchmark."""
    fields = {"rounds": 1, "requests": 3, "new_tokens": 8, "timeout_s": 20.0}
    names = fields.keys() | {"temperature", "seed", "api"}
    fields |= {name: options.pop(name) for name in list(options) if name in names}

    def watch(requests):
        watcher = Watcher(requests)
        if watchers is not None:
            watchers.append(watcher)
        return contextlib.nullcontext(watcher)

    loads = parse_loads(None if rate else concurrency, rate)
    settings = BenchSettings(loads=loads, **fields)
    return await run_benchmark(url, settings, PROMPTS, command="outrider bench", watch=watch, **options)


async def test_outrider_is_measured_in_both_modes_in_turn(api):
    api.engine.burst = 2
    watchers = []
    report = await bench(api.url, watchers, rounds=2, seed=40)
    (figures,) = report.loads
    assert report.endpoint.outrider
    assert report.endpoint.model == "tiny"
    assert [mode.mode for mode in figures.modes] == [Mode.PLAIN, Mode.SPECULATION]
    assert all(item.tokens == 24 and item.failed == 0 for mode in figures.modes for item in mode.rounds)
    assert len(figures.comparison.goodput.values) == 2
    assert watchers[0].expected == watchers[0].ended == 2 * 2 + 2 * 2 * 3
    assert [stage.split(", ")[0] for stage in watchers[0].stages[::2]] == ["warm-up", "round 1 of 2", "round 2 of 2"]
    assert [stage.split(", ")[2] for stage in watchers[0].stages[2:]] == [
        *("speculation", "plain"),
        *("plain", "speculation"),
    ]
    assert (report.texts.compared, report.texts.different) == (6, 0)
    assert (report.texts.repeated, report.texts.repeated_different) == (3, 0)


async def test_requests_differ_in_their_mode_alone_and_share_no_cached_prefix(api):
    await bench(api.url, temperature=0.5, seed=40)
    sent = api.engine.submitted[-6:]
    assert [request.max_draft_tokens for request in sent] == [None] * 3 + [0] * 3
    for one, other in zip(sent[:3], sent[3:], strict=True):
        assert (one.prompt, one.params, one.stopping) == (other.prompt, other.params, other.stopping)
    assert [request.params.seed for request in sent[:3]] == [40, 41, 42]
    assert all(not request.stopping.stop_token_ids for request in sent)
    assert len({request.salt for request in sent} - {""}) == 6


async def test_acceptance_comes_from_the_endpoints_counters(api):
    report = await bench(api.url)
    acceptance = report.loads[0].modes[1].acceptance
    assert acceptance.generated == 24
    assert acceptance.length == 1 + 3, "the scripted engine reports three accepted tokens per draft"
    assert any("drafts were verified during plain runs" in note for note in report.notes)


async def test_a_text_that_speculation_changes_is_reported(api):
    letters, (lie,) = api.tokenizer.encode("abcdefgh"), api.tokenizer.encode("!")
    api.engine._token = lambda request, index: (
        lie if request.max_draft_tokens is None and index == 5 else letters[index]
    )
    report = await bench(api.url)
    assert (report.texts.compared, report.texts.different) == (3, 3)
    assert [(item.at, item.plain, item.speculation) for item in report.texts.examples] == [
        (5, "abcdefgh", "abcde!gh")
    ] * 3


async def test_completions_and_an_open_loop(api):
    report = await bench(api.url, rate="500", api=ApiKind.COMPLETIONS)
    assert [mode.rounds[0].tokens for mode in report.loads[0].modes] == [24, 24]
    prompts = {tuple(request.prompt) for request in api.engine.submitted[-6:]}
    assert prompts == {tuple(api.tokenizer.encode(prompt.text)) for prompt in PROMPTS}


async def test_what_fails_under_load_is_counted(api):
    api.engine.max_requests = 1
    report = await bench(api.url, requests=6)
    failures = [mode.failures for mode in report.loads[0].modes]
    assert all(set(causes) == {"HTTP 429"} and causes["HTTP 429"] < 6 for causes in failures)
    assert any("FAILED at 2 at once, plain" in note and "HTTP 429" in note for note in report.notes)


async def test_an_endpoint_that_answers_nothing_ends_the_run(api):
    honest = api.engine.submit

    def submit(request, sink, matcher):
        api.engine.max_requests = 0 if len(api.engine.submitted) == 2 else 64
        honest(request, sink, matcher)

    api.engine.submit = submit
    with pytest.raises(BenchError, match=r"no request of the warm-up at 2 at once was answered \(HTTP 429\)"):
        await bench(api.url)


async def test_a_request_that_is_refused_ends_the_run_with_the_endpoints_words(api):
    with pytest.raises(BenchError, match=r"HTTP 400: max_tokens is 5000, but after the .* only .* are left"):
        await bench(api.url, new_tokens=5000)
    with pytest.raises(BenchError, match="HTTP 404: the model 'other' is not served here; served: tiny"):
        await bench(api.url, model="other")


async def test_another_server_is_measured_as_served_and_that_is_said():
    async with foreign_endpoint() as (url, bodies):
        report = await bench(url)
    (figures,) = report.loads
    assert not report.endpoint.outrider
    assert [mode.mode for mode in figures.modes] == [Mode.AS_SERVED]
    assert figures.comparison is None
    assert report.texts is None
    assert figures.modes[0].rounds[0].tokens == 9, "three chunks for each of three requests"
    assert any("is not Outrider" in note for note in report.notes)
    assert any("reports no usage" in note for note in report.notes)
    assert len(bodies) == 1 + 2 + 3


async def test_an_outrider_that_ignores_the_field_is_measured_as_served():
    async with foreign_endpoint(ignored="seed,speculation") as (url, bodies):
        report = await bench(url)
    assert [mode.mode for mode in report.loads[0].modes] == [Mode.AS_SERVED]
    assert any("it ignores the request field speculation" in note for note in report.notes)
    assert all("speculation" not in body for body in bodies[2:])


async def test_counters_that_lag_behind_the_tokens_are_waited_for(api, monkeypatch):
    readings = iter([Counters(7, 1, 2, 1), Counters(7, 1, 2, 1), Counters(20, 4, 9, 8), Counters(31, 9, 22, 13)])

    async def counters(client):
        return next(readings)

    monkeypatch.setattr(Client, "counters", counters)
    (load,) = parse_loads("2", None)
    settings = BenchSettings(loads=(load,), requests=3, new_tokens=8)
    endpoint = Endpoint(url=f"{api.url}/v1", model="tiny", owner="outrider", outrider=True)
    async with Client(endpoint.url, ApiKind.CHAT) as client:
        run = await Runner(client, endpoint, settings, PROMPTS).run(load, Mode.SPECULATION, 1, 3, lambda: None)
    assert run.tokens == 24
    assert run.gained == Counters(24, 8, 20, 12)


async def test_usage_counts_tokens_where_it_is_reported():
    async with foreign_endpoint(usage=True) as (url, _):
        report = await bench(url)
    assert report.loads[0].modes[0].rounds[0].tokens == 27
    assert report.loads[0].modes[0].tokens_per_chunk == 3.0


async def test_a_key_is_sent_and_asked_for():
    async with foreign_endpoint(key="secret") as (url, _):
        with pytest.raises(BenchError, match="HTTP 401: give its key with --api-key"):
            await bench(url)
        report = await bench(url, api_key="secret")
    assert "secret" not in report.model_dump_json()


async def test_nobody_there_is_a_sentence(unused_tcp_port):
    with pytest.raises(BenchError, match=f"cannot reach http://127.0.0.1:{unused_tcp_port}/v1/models"):
        await bench(f"http://127.0.0.1:{unused_tcp_port}")


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://", "http://x:99999", "http://x/v1?a=b"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ConfigurationError, match="is not the URL of an endpoint"):
        base_url(url)


def test_a_password_in_a_url_is_refused_without_repeating_it():
    with pytest.raises(ConfigurationError) as refused:
        base_url("http://me:secret@host/v1")
    assert "--api-key" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_path_may_be_left_out():
    assert base_url("http://host:8000") == "http://host:8000/v1"
    assert base_url("http://host:8000/") == "http://host:8000/v1"
    assert base_url("https://host/other/v1/") == "https://host/other/v1"
