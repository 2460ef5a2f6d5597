"""The targets' counters and load as Prometheus metrics, read from the router whenever they are asked for.

The counters are cumulative per incarnation and summed by the router, so any ingress tells the whole truth.
Two ingresses report the same target counters: take the maximum over ingresses, not the sum.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.links.generation.router import Router
from cluster.scheduler.settings import Way
from workers.contract.draft import DraftSource

GAUGES = (
    ("requests_running", "Requests that the targets are working on.", "running"),
    ("requests_waiting", "Requests that wait at the targets.", "waiting"),
    ("kv_cache_usage_ratio", "KV blocks in use at the fullest target, 0 to 1.", "kv_usage"),
    ("drafters_connected", "Drafters of the best connected target.", "drafters_connected"),
    ("expected_goodput_plain", "Tokens per second that schedulers expect without drafters.", "goodput_plain"),
    ("draft_round_trip_seconds", "What draft blocks take besides the drafter's own time.", "round_trip_seconds"),
    ("expected_goodput_drafted", "The same with drafters: asked where it is more by 1 %.", "goodput_drafted"),
)
COUNTERS = (
    ("target_steps", "Model steps of the targets.", "steps"),
    ("target_busy_seconds", "Time spent in model steps.", "busy_seconds"),
    ("generated_tokens", "Tokens emitted by the targets.", "generated_tokens"),
    ("prompt_tokens", "Prompt tokens of requests.", "prompt_tokens"),
    ("prompt_tokens_cached", "Prompt tokens found in prefix caches.", "cached_prompt_tokens"),
    ("preemptions", "Requests set back because the KV cache was full.", "preemptions"),
    ("spec_rounds", "Verified drafts, one per sequence and step.", "num_drafts"),
    ("spec_draft_tokens", "Draft tokens verified.", "draft_tokens"),
    ("spec_accepted_tokens", "Draft tokens accepted.", "accepted_tokens"),
    ("draft_blocks_asked", "Draft blocks that drafters were asked for.", "draft_blocks_asked"),
    ("draft_wait_seconds", "Time in which steps were held back for draft blocks.", "draft_wait_seconds"),
    ("draft_blocks_received", "Draft blocks that came from drafters.", "draft_blocks_received"),
    (
        "draft_outcomes_stale",
        "Draft outcomes that came late, were wrong, or were prepared in vain.",
        "draft_outcomes_stale",
    ),
    ("verdicts_prepared", "Verdicts that drafters were asked to prepare for.", "verdicts_prepared"),
    ("verdicts_hit", "Those that found the next draft at hand.", "verdicts_hit"),
)
ROUTER_COUNTERS = (
    ("migrations", "Requests that went on at a target after theirs was lost.", "resumed"),
    ("migrations_other_numerics", "Those that went on in another numerics class.", "resumed_elsewhere"),
    ("requests_lost", "Requests that no target could go on with.", "lost"),
)
LISTS = (
    ("spec_accepted_per_position", "Draft tokens accepted, by position.", "position", "accepted_per_position"),
    ("spec_draft_tokens_by_source", "Draft tokens verified, by guesser.", "source", "draft_tokens_by_source"),
    ("spec_accepted_tokens_by_source", "Draft tokens accepted, by guesser.", "source", "accepted_tokens_by_source"),
    ("target_steps_by_way", "Model steps, by the way in which drafters were asked.", "way", "steps_by_way"),
)


class TargetCollector(Collector):
    """Reads the router's sums; every metric has the label ``model``."""

    def __init__(self, router: Router, model: Callable[[], str]) -> None:
        """Report what ``router`` knows under the name that ``model`` returns."""
        self._router = router
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        load = self._router.load()
        yield self._gauge("targets_connected", "Targets that take requests.", self._router.targets_connected)
        for name, text, field in GAUGES:
            yield self._gauge(name, text, getattr(load, field))
        for name, text, field in COUNTERS:
            yield self._counter(name, text, getattr(load, field))
        for name, text, field in ROUTER_COUNTERS:
            yield self._counter(name, text, getattr(self._router.stats, field))
        for name, text, label, field in LISTS:
            yield self._list(name, text, label, getattr(load, field))

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"outrider_{name}", text, labels=["model"])
        family.add_metric([self._model()], value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"outrider_{name}", text, labels=["model"])
        family.add_metric([self._model()], value)
        return family

    def _list(self, name: str, text: str, label: str, counts: tuple[int, ...]) -> Metric:
        family = CounterMetricFamily(f"outrider_{name}", text, labels=["model", label])
        for i, count in enumerate(counts):
            key = _KEYS[label](i)
            if key:
                family.add_metric([self._model(), key], count)
        return family


def _way_name(index: int) -> str:
    """Return how drafters were asked; none for ways not known here."""
    names = ["plain", *(way.value for way in Way)]
    return names[index] if index < len(names) else ""


def _source_name(index: int) -> str:
    """Return a draft source's label; none for the target's own tokens and for sources not known here."""
    names = {source.value: source.name.lower() for source in DraftSource if source is not DraftSource.NONE}
    return names.get(index, "")


_KEYS: dict[str, Callable[[int], str]] = {"position": str, "source": _source_name, "way": _way_name}
