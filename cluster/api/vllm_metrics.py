"""Our metrics under vLLM's names as well: dashboards, autoscalers and benchmarks that were made for it read these."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

NAMES = {
    "outrider_requests_running": "vllm:num_requests_running",
    "outrider_requests_waiting": "vllm:num_requests_waiting",
    "outrider_kv_cache_usage_ratio": "vllm:kv_cache_usage_perc",
    "outrider_prompt_tokens": "vllm:prompt_tokens",
    "outrider_generated_tokens": "vllm:generation_tokens",
    "outrider_preemptions": "vllm:num_preemptions",
    "outrider_spec_rounds": "vllm:spec_decode_num_drafts",
    "outrider_spec_draft_tokens": "vllm:spec_decode_num_draft_tokens",
    "outrider_spec_accepted_tokens": "vllm:spec_decode_num_accepted_tokens",
    "outrider_spec_accepted_per_position": "vllm:spec_decode_num_accepted_tokens_per_pos",
    "outrider_requests": "vllm:request_success",
    "outrider_admission_rejections": "vllm:admission_rejections",
    "outrider_ttft_seconds": "vllm:time_to_first_token_seconds",
    "outrider_queue_seconds": "vllm:request_queue_time_seconds",
    "outrider_itl_seconds": "vllm:inter_token_latency_seconds",
    "outrider_e2e_seconds": "vllm:e2e_request_latency_seconds",
    "outrider_request_prompt_tokens": "vllm:request_prompt_tokens",
    "outrider_request_generation_tokens": "vllm:request_generation_tokens",
}
PREFIX_CACHE = {
    "outrider_prompt_tokens": "vllm:prefix_cache_queries",
    "outrider_prompt_tokens_cached": "vllm:prefix_cache_hits",
}
"""Told once more: vLLM counts the tokens that the prefix cache was asked for, which are those of all prompts."""
LABELS = {"model": "model_name", "finish_reason": "finished_reason"}
REASONS = {"cancelled": "abort"}
"""vLLM's word for the requests that a client gave up."""


class VllmMetrics(Collector):
    """Reads registries and tells what vLLM has a name for; all targets together are its engine 0."""

    def __init__(self, registries: Iterable[CollectorRegistry]) -> None:
        """Tell of the metrics in ``registries``, none of which this is registered in."""
        self._registries = tuple(registries)

    def collect(self) -> Iterator[Metric]:
        """Yield the renamed metrics of this moment."""
        for metric in (metric for registry in self._registries for metric in registry.collect()):
            for names in (NAMES, PREFIX_CACHE):
                if metric.name in names:
                    yield _renamed(metric, names[metric.name])


def _renamed(metric: Metric, name: str) -> Metric:
    renamed = Metric(name, metric.documentation, metric.type)
    for sample in metric.samples:
        if not sample.name.endswith("_created"):
            labels = {LABELS.get(label, label): REASONS.get(value, value) for label, value in sample.labels.items()}
            renamed.samples.append(
                Sample(name + sample.name.removeprefix(metric.name), {**labels, "engine": "0"}, sample.value)
            )
    return renamed
