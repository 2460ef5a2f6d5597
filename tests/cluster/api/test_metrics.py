"""/metrics tells what happened, and the probes tell what is."""

import asyncio
import subprocess

from prometheus_client.parser import text_string_to_metric_families

from cluster.api.app import make_metrics
from cluster.api.settings import ApiSettings
from cluster.links.generation.router import Router
from cluster.metrics.discovery import ScrapeTarget, http_sd
from tests.cluster.api.conftest import running_api
from tests.support.prometheus import tool


async def scrape(api) -> dict[tuple[str, ...], float]:
    text = (await api.http.get("/metrics")).text
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k not in ("model", "le"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


async def test_requests_are_counted_by_how_they_ended_and_timed(api):
    api.engine.burst = 2
    api.script("ask", "abc")
    await api.openai.completions.create(model="tiny", prompt="ask")
    await api.openai.completions.create(model="tiny", prompt="x", max_tokens=6, n=2, extra_body={"ignore_eos": True})
    api.engine.max_requests = 0
    await api.http.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
    seen = await scrape(api)
    assert seen["outrider_requests_total", "finish_reason=stop"] == 1
    assert seen["outrider_requests_total", "finish_reason=length"] == 2
    assert seen["outrider_admission_rejections_total", "reason=overloaded"] == 1
    assert seen["outrider_ttft_seconds_count",] == 3
    assert seen["outrider_e2e_seconds_count",] == 3
    assert seen["outrider_itl_seconds_count",] == 2 + 2 * 4, "every token after the first step counts"
    assert 0 < seen["outrider_itl_seconds_sum",] < seen["outrider_e2e_seconds_sum",]


def test_an_ingress_without_a_target_reports_under_the_name_that_its_model_will_have():
    """Else it is another model to alerts, one that no target serves, while others of its kind serve well."""
    for settings, name in ((ApiSettings(), "org/model"), (ApiSettings(served_model_names=("mine",)), "mine")):
        text = make_metrics(Router(), settings, "org/model").exposition().decode()
        assert {s.labels["model"] for f in text_string_to_metric_families(text) for s in f.samples if s.labels} == {
            name
        }


async def test_cancelled_and_failed_requests_are_counted(api):
    api.engine.pause()
    stream = await api.openai.completions.create(model="tiny", prompt="x", stream=True)
    await stream.close()
    await api.eventually(lambda: not api.engine.requests)
    api.engine.fail_next = True
    api.engine.resume()
    await api.http.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
    seen = await scrape(api)
    assert seen["outrider_requests_total", "finish_reason=cancelled"] == 1
    assert seen["outrider_requests_total", "finish_reason=error"] == 1


async def test_the_targets_counters_are_there(api):
    await api.openai.completions.create(model="tiny", prompt="x", max_tokens=10, extra_body={"ignore_eos": True})
    await asyncio.sleep(0.7)
    seen = await scrape(api)
    assert seen["outrider_spec_rounds_total",] == 10
    assert seen["outrider_spec_draft_tokens_total",] == 40
    assert seen["outrider_spec_accepted_tokens_total",] == 30
    assert seen["outrider_spec_accepted_per_position_total", "position=0"] == 20
    assert seen["outrider_spec_accepted_per_position_total", "position=1"] == 10
    assert seen["outrider_kv_cache_usage_ratio",] == 0.25
    assert seen["outrider_drafters_connected",] == 2
    assert seen["outrider_targets_connected",] == 1
    assert seen["outrider_requests_running",] == 0


async def test_probes(api):
    assert (await api.http.get("/health")).json() == {"status": "ok"}
    assert (await api.http.get("/ready")).json() == {"status": "ready"}
    assert set((await api.http.get("/version")).json()) == {"version"}
    assert (await api.http.get("/openapi.json")).json()["paths"].keys() >= {"/v1/completions", "/v1/chat/completions"}
    await api.target.drain()
    await api.eventually(lambda: not api.router.ready)
    assert (await api.http.get("/ready")).status_code == 503
    assert (await api.http.get("/health")).status_code == 200


async def test_served_names_replace_the_targets_own(tokenizer):
    settings = ApiSettings(served_model_names=("small", "org/alias"))
    async with running_api(tokenizer, settings) as api:
        names = [model["id"] for model in (await api.http.get("/v1/models")).json()["data"]]
        assert names == ["small", "org/alias"]
        assert (await api.http.get("/v1/models/org/alias")).json()["root"] == "tiny"
        assert (await api.openai.completions.create(model="org/alias", prompt="x")).model == "org/alias"
        assert (await api.http.post("/v1/completions", json={"model": "tiny", "prompt": "x"})).status_code == 404
        assert 'model="small"' in (await api.http.get("/metrics")).text


async def test_prometheus_is_told_where_to_scrape(tokenizer):
    found = [ScrapeTarget("target", "10.0.0.1:9000"), ScrapeTarget("drafter", "10.0.0.2:9000")]
    async with running_api(tokenizer, scrape_targets=lambda: found) as api:
        assert (await api.http.get("/metrics/targets")).json() == http_sd(found)


async def test_promtool_finds_nothing_to_complain_about(tokenizer):
    async with running_api(tokenizer, ApiSettings(vllm_metrics=False)) as api:
        await api.openai.completions.create(model="tiny", prompt="x", max_tokens=3)
        text = (await api.http.get("/metrics")).content
    check = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert check.returncode == 0, check.stderr.decode() + check.stdout.decode()


async def test_vllms_names_tell_the_same(api):
    api.engine.burst = 2
    api.script("ask", "abc")
    await api.openai.completions.create(model="tiny", prompt="ask")
    await asyncio.sleep(0.7)
    seen = await scrape(api)
    engine = "engine=0"
    model = "model_name=tiny"
    assert seen["vllm:request_success_total", engine, "finished_reason=stop", model] == 1
    assert seen["vllm:spec_decode_num_drafts_total", engine, model] == seen["outrider_spec_rounds_total",] > 0
    assert seen["vllm:spec_decode_num_draft_tokens_total", engine, model] == seen["outrider_spec_draft_tokens_total",]
    assert seen["vllm:spec_decode_num_accepted_tokens_total", engine, model] == 3 * seen["outrider_spec_rounds_total",]
    assert seen["vllm:spec_decode_num_accepted_tokens_per_pos_total", engine, model, "position=1"] > 0
    assert seen["vllm:kv_cache_usage_perc", engine, model] == 0.25
    assert seen["vllm:num_requests_running", engine, model] == 0
    assert seen["vllm:time_to_first_token_seconds_count", engine, model] == 1
    assert seen["vllm:request_queue_time_seconds_sum", engine, model] == 0.25
    assert seen["vllm:request_prompt_tokens_sum", engine, model] == 3
    assert seen["vllm:request_generation_tokens_sum", engine, model] == 4
    assert ("vllm:prefix_cache_queries_total", engine, model) in seen
    text = (await api.http.get("/metrics")).text
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    assert "vllm:time_to_first_token_seconds_bucket" in text


async def test_vllms_names_can_be_left_out(tokenizer):
    async with running_api(tokenizer, ApiSettings(vllm_metrics=False)) as api:
        assert "vllm:" not in (await api.http.get("/metrics")).text
