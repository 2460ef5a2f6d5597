"""GET /v1/cluster: what the targets do now, for people who want to see it rather than to record it.

Counters run since the start of each target. Whoever wants to know what happens now reads twice and takes the
difference, over the difference of ``load_at``: no reader is in another's way, and nothing is kept for any of them.
"""

import time
from typing import Any

from fastapi import APIRouter

from cluster.api.context import ApiContext
from cluster.links.generation.status import TargetStatus
from cluster.scheduler.load import EngineLoad
from cluster.scheduler.settings import Way
from workers.contract.draft import DraftSource

Json = dict[str, Any]

PLAIN = "plain"
"""The way in which no drafter is asked."""
COUNTERS = (
    "steps",
    "generated_tokens",
    "prompt_tokens",
    "cached_prompt_tokens",
    "num_drafts",
    "draft_tokens",
    "accepted_tokens",
    "preemptions",
    "busy_seconds",
    "draft_wait_seconds",
    "idle_seconds",
)
"""Fields of EngineLoad that are shown as they are; idle time is counted when it ends."""


def cluster_routes(context: ApiContext) -> APIRouter:
    """Return the endpoint's route."""
    routes = APIRouter()

    @routes.get("/v1/cluster", summary="The targets, their queues, and what speculation brings")
    async def cluster() -> Json:
        """Describe every target that this ingress reaches."""
        return {
            "object": "cluster",
            "model": next(iter(context.model_names()), None),
            "now": time.time(),
            "targets": [describe(status) for status in context.router.targets()],
            "targets_missing": context.router.targets_missing,
        }

    return routes


def describe(status: TargetStatus) -> Json:
    """Return one target: what it is, its present load, and its counters."""
    load = status.load
    return {
        "id": f"{status.incarnation:016x}",
        "state": "draining" if status.draining else "serving",
        "max_model_len": status.identity.max_model_len,
        "numerics_class": status.identity.numerics_class,
        "load_at": status.load_at,
        "running": load.running,
        "waiting": load.waiting,
        "kv_usage": load.kv_usage,
        "drafters_connected": load.drafters_connected,
        "drafters": dict(sorted(status.drafters.items())),
        "draft_round_trip_seconds": load.round_trip_seconds,
        "expected_tokens_per_second": {"plain": load.goodput_plain, "drafted": load.goodput_drafted},
        "since_start": _counters(load),
    }


def _counters(load: EngineLoad) -> Json:
    return {
        **{name: getattr(load, name) for name in COUNTERS},
        "verifications": sum(load.rows_by_draft_length),
        "steps_by_way": dict(zip((PLAIN, *(way.value for way in Way)), load.steps_by_way, strict=False)),
        "draft_tokens_by_source": _by_source(load.draft_tokens_by_source),
        "accepted_tokens_by_source": _by_source(load.accepted_tokens_by_source),
    }


def _by_source(counts: tuple[int, ...]) -> dict[str, int]:
    names = {source.value: source.name.lower() for source in DraftSource if source is not DraftSource.NONE}
    return {names[i]: count for i, count in enumerate(counts) if i in names}
