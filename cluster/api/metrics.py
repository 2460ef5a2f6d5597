"""Prometheus metrics of one ingress: how requests end and how long they take, beside the targets' own."""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from cluster.api.target_metrics import TargetCollector
from cluster.api.text import TextDelta
from cluster.api.vllm_metrics import VllmMetrics
from cluster.links.generation.router import Router

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKENS = tuple(2.0**n for n in range(18))
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)


class ApiMetrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, router: Router, model: Callable[[], str]) -> None:
        """Make the registry; ``model`` returns the name that labels everything."""
        self.registry = CollectorRegistry()
        self._model = model
        self._requests = Counter(
            "outrider_requests",
            "Choices that ended, by how they ended.",
            ["model", "finish_reason"],
            registry=self.registry,
        )
        self._rejections = Counter(
            "outrider_admission_rejections",
            "Requests refused at the door.",
            ["model", "reason"],
            registry=self.registry,
        )
        self._ttft = self._histogram("ttft", "From a request's arrival to its first token.", _LATENCY)
        self._itl = self._histogram("itl", "Time per token after the first.", _PER_TOKEN)
        self._e2e = self._histogram("e2e", "From a request's arrival to its last token.", _LATENCY)
        self._prompt = self._lengths("prompt", "Tokens of a choice's prompt.")
        self._answer = self._lengths("generation", "Tokens of a choice.")
        self.registry.register(TargetCollector(router, model))
        self._vllm = CollectorRegistry()
        self._vllm.register(VllmMetrics(self.registry))

    def text(self, *, vllm_names: bool) -> bytes:
        """Return everything in Prometheus's text format, with ``vllm_names`` once more under vLLM's names."""
        return generate_latest(self.registry) + (generate_latest(self._vllm) if vllm_names else b"")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"outrider_{name}_seconds", text, ["model"], buckets=buckets, registry=self.registry)

    def _lengths(self, name: str, text: str) -> Histogram:
        name = f"outrider_request_{name}_tokens"
        return Histogram(name, text, ["model"], buckets=_TOKENS, registry=self.registry)

    def reject(self, reason: str) -> None:
        """Count a request that was refused before it began."""
        self._rejections.labels(self._model(), reason).inc()

    def end(self, reason: str) -> None:
        """Count a choice that ended."""
        self._requests.labels(self._model(), reason).inc()

    def first_token(self, seconds: float) -> None:
        """Note how long a choice waited for its first token."""
        self._ttft.labels(self._model()).observe(seconds)

    def later_tokens(self, seconds: float, count: int) -> None:
        """Note ``count`` tokens that came together ``seconds`` after those before them."""
        histogram = self._itl.labels(self._model())
        for _ in range(count):
            histogram.observe(seconds / count)

    def complete(self, seconds: float, prompt_tokens: int, tokens: int) -> None:
        """Note how long a whole choice took, and how long it became."""
        self._e2e.labels(self._model()).observe(seconds)
        self._prompt.labels(self._model()).observe(prompt_tokens)
        self._answer.labels(self._model()).observe(tokens)


async def metered(
    deltas: AsyncGenerator[TextDelta], metrics: ApiMetrics, arrived: float, prompt_tokens: int
) -> AsyncGenerator[TextDelta]:
    """Pass a choice's deltas on and time them from ``arrived``, a reading of ``time.monotonic``.

    A choice that was accepted is counted once, however it ends; one that was refused is not a choice.
    """
    last: float | None = None
    outcome = ""
    tokens = 0
    try:
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                now = time.monotonic()
                if delta.num_tokens and last is None:
                    metrics.first_token(now - arrived)
                elif delta.num_tokens and last is not None:
                    metrics.later_tokens(now - last, delta.num_tokens)
                last = now if delta.num_tokens else last
                tokens += delta.num_tokens
                outcome = "cancelled" if delta.finish_reason is None else delta.finish_reason.value
                yield delta
    except Exception:
        outcome = outcome and "error"
        raise
    finally:
        if outcome:
            metrics.end(outcome)
            metrics.complete(time.monotonic() - arrived, prompt_tokens, tokens)
