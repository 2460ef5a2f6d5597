"""A load as metrics: what one target shows of itself, and an ingress of all of them, under the same names."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from enum import IntEnum

from prometheus_client.core import HistogramMetricFamily, Metric

from cluster.scheduler.fallback import Fallback
from cluster.scheduler.load import EngineLoad
from cluster.scheduler.settings import Way
from workers.contract.draft import DraftSource, Waste
from workers.metrics import catalog
from workers.metrics.families import add_buckets, family
from workers.metrics.spec import CounterSpec, GaugeSpec, HistogramSpec

GAUGES: tuple[tuple[GaugeSpec, str], ...] = (
    (catalog.REQUESTS_RUNNING, "running"),
    (catalog.REQUESTS_WAITING, "waiting"),
    (catalog.KV_CACHE_USAGE, "kv_usage"),
    (catalog.DRAFTERS_CONNECTED, "drafters_connected"),
    (catalog.GOODPUT_PLAIN, "goodput_plain"),
    (catalog.GOODPUT_DRAFTED, "goodput_drafted"),
    (catalog.DRAFT_ROUND_TRIP, "round_trip_seconds"),
)
COUNTERS: tuple[tuple[CounterSpec, str], ...] = (
    (catalog.TARGET_STEPS, "steps"),
    (catalog.TARGET_STEPS_FAILED, "steps_failed"),
    (catalog.TARGET_BUSY, "busy_seconds"),
    (catalog.TARGET_IDLE, "idle_seconds"),
    (catalog.TARGET_BUBBLE, "draft_wait_seconds"),
    (catalog.GENERATED_TOKENS, "generated_tokens"),
    (catalog.PROMPT_TOKENS, "prompt_tokens"),
    (catalog.PROMPT_TOKENS_CACHED, "cached_prompt_tokens"),
    (catalog.PREEMPTIONS, "preemptions"),
    (catalog.SPEC_ROUNDS, "num_drafts"),
    (catalog.SPEC_DRAFT_TOKENS, "draft_tokens"),
    (catalog.SPEC_ACCEPTED_TOKENS, "accepted_tokens"),
    (catalog.DRAFT_BLOCKS_ASKED, "draft_blocks_asked"),
    (catalog.DRAFT_BLOCKS_RECEIVED, "draft_blocks_received"),
    (catalog.DRAFT_TOKENS_RECEIVED, "draft_tokens_received"),
    (catalog.DRAFT_OUTCOMES_STALE, "draft_outcomes_stale"),
    (catalog.VERDICTS_PREPARED, "verdicts_prepared"),
    (catalog.VERDICTS_HIT, "verdicts_hit"),
)


def _names(kinds: type[IntEnum]) -> Callable[[int], str]:
    known = {kind.value: kind.name.lower() for kind in kinds}
    return lambda index: known.get(index, "")


def _way_name(index: int) -> str:
    names = ["plain", *(way.value for way in Way)]
    return names[index] if index < len(names) else ""


def _source_name(index: int) -> str:
    """Name a draft source; the target's own tokens are not drafts."""
    return "" if index == DraftSource.NONE else _names(DraftSource)(index)


LISTS: tuple[tuple[CounterSpec, str, Callable[[int], str]], ...] = (
    (catalog.SPEC_ACCEPTED_PER_POSITION, "accepted_per_position", str),
    (catalog.SPEC_DRAFT_TOKENS_BY_SOURCE, "draft_tokens_by_source", _source_name),
    (catalog.SPEC_ACCEPTED_TOKENS_BY_SOURCE, "accepted_tokens_by_source", _source_name),
    (catalog.TARGET_STEPS_BY_WAY, "steps_by_way", _way_name),
    (catalog.SPEC_WASTED_DRAFT_TOKENS, "wasted_draft_tokens", _names(Waste)),
    (catalog.FALLBACK_ROUNDS, "fallback_rounds", _names(Fallback)),
)
"""Metrics with one more label, and what an index of the list means: none for indexes that are not known here."""


def load_metrics(load: EngineLoad, model: str) -> Iterator[Metric]:
    """Yield the metrics of one load."""
    for gauge, field in GAUGES:
        yield family(gauge, {(model,): getattr(load, field)})
    for counter, field in COUNTERS:
        yield family(counter, {(model,): getattr(load, field)})
    for counter, field, name in LISTS:
        counts = enumerate(getattr(load, field))
        yield family(counter, {(model, name(i)): count for i, count in counts if name(i)})
    yield _lengths(catalog.SPEC_DRAFT_LENGTH, load.rows_by_draft_length, model)


def _lengths(spec: HistogramSpec, rows: Seq[int], model: str) -> Metric:
    """Return the histogram of counts that are listed by length already."""
    metric = HistogramMetricFamily(spec.full_name, spec.help, labels=spec.labels, unit=spec.unit)
    size = len(spec.buckets)
    counts = [*rows[:size], *([0] * (size - len(rows))), sum(rows[size:])]
    add_buckets(metric, (model,), spec.buckets, counts, sum(k * count for k, count in enumerate(rows)))
    return metric
