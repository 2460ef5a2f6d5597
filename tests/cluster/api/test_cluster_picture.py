"""GET /v1/cluster: what a person sees of the targets, with names instead of indexes."""

import time

from cluster.api.cluster_picture import describe
from cluster.links.generation.status import TargetStatus
from cluster.scheduler.load import EngineLoad
from workers.contract.identity import ModelIdentity


async def test_every_reachable_target_is_described(api):
    api.engine.pause()
    stream = await api.openai.completions.create(model="tiny", prompt="ask", max_tokens=5, stream=True)
    await api.eventually(lambda: api.router.load().running == 1)
    cluster = (await api.http.get("/v1/cluster")).raise_for_status().json()
    assert (cluster["object"], cluster["model"], cluster["targets_missing"]) == ("cluster", "tiny", 0)
    assert abs(cluster["now"] - time.time()) < 60
    [target] = cluster["targets"]
    assert target["id"] == f"{api.engine.incarnation:016x}"
    assert (target["state"], target["running"], target["waiting"]) == ("serving", 1, 0)
    assert (target["kv_usage"], target["drafters_connected"]) == (0.25, 2)
    assert 0 < target["load_at"] <= cluster["now"]
    api.engine.resume()
    assert len([chunk async for chunk in stream]) > 0


async def test_a_target_that_is_gone_is_missed(api):
    await api.target.stop()
    await api.eventually(lambda: not api.router.ready)
    cluster = (await api.http.get("/v1/cluster")).raise_for_status().json()
    assert (cluster["targets"], cluster["targets_missing"]) == ([], 1)


def test_lists_are_told_by_name():
    load = EngineLoad(
        steps_by_way=(5, 4, 3, 2, 1),
        draft_tokens_by_source=(0, 40, 8),
        accepted_tokens_by_source=(0, 30, 2),
        rows_by_draft_length=(6, 0, 4),
        goodput_plain=50.0,
        goodput_drafted=80.0,
        idle_seconds=1.5,
    )
    told = describe(TargetStatus(ModelIdentity("tiny", 9, "f", 128, "cpu"), 255, True, load, 12.5, {"b": 2, "a": 0}))
    assert (told["id"], told["state"], told["load_at"]) == ("00000000000000ff", "draining", 12.5)
    assert told["expected_tokens_per_second"] == {"plain": 50.0, "drafted": 80.0}
    assert told["drafters"] == {"a": 0, "b": 2}
    counted = told["since_start"]
    assert counted["steps_by_way"] == {"plain": 5, "in_turn": 4, "overlapped": 3, "run_ahead": 2, "two_groups": 1}
    assert counted["draft_tokens_by_source"] == {"drafter": 40, "lookup": 8}
    assert counted["accepted_tokens_by_source"] == {"drafter": 30, "lookup": 2}
    assert (counted["verifications"], counted["idle_seconds"]) == (10, 1.5)
