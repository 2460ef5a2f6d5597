"""Prometheus metrics of one ingress: how requests end and how long they take."""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from prometheus_client import CollectorRegistry, generate_latest

from cluster.api.text import TextDelta
from cluster.links.generation.router import Router
from cluster.metrics.cluster_view import ClusterView, RouterMetrics
from workers.metrics import catalog
from workers.metrics.families import counter, histogram
from workers.metrics.server import process_registry


class ApiMetrics:
    """The metrics of one ingress process, and the cluster's view beside them."""

    def __init__(self, router: Router, model: Callable[[], str]) -> None:
        """Make the registries; ``model`` returns the name that labels everything."""
        self.own = process_registry([RouterMetrics(router, model)])
        """What this process alone knows: for the port where each process is scraped."""
        self._cluster = CollectorRegistry()
        self._cluster.register(ClusterView(router, model))
        self._model = model
        self._requests = counter(catalog.REQUESTS, self.own)
        self._rejections = counter(catalog.REJECTIONS, self.own)
        self._ttft = histogram(catalog.TTFT, self.own)
        self._itl = histogram(catalog.ITL, self.own)
        self._e2e = histogram(catalog.E2E, self.own)

    def exposition(self) -> bytes:
        """Return this process's metrics and the sums over all targets, in Prometheus's text format."""
        return generate_latest(self.own) + generate_latest(self._cluster)

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

    def complete(self, seconds: float) -> None:
        """Note how long a whole choice took."""
        self._e2e.labels(self._model()).observe(seconds)


async def metered(deltas: AsyncGenerator[TextDelta], metrics: ApiMetrics, arrived: float) -> AsyncGenerator[TextDelta]:
    """Pass a choice's deltas on and time them from ``arrived``, a reading of ``time.monotonic``.

    A choice that was accepted is counted once, however it ends; one that was refused is not a choice.
    """
    last: float | None = None
    outcome = ""
    try:
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                now = time.monotonic()
                if delta.num_tokens and last is None:
                    metrics.first_token(now - arrived)
                elif delta.num_tokens and last is not None:
                    metrics.later_tokens(now - last, delta.num_tokens)
                last = now if delta.num_tokens else last
                outcome = "cancelled" if delta.finish_reason is None else delta.finish_reason.value
                yield delta
    except Exception:
        outcome = outcome and "error"
        raise
    finally:
        if outcome:
            metrics.end(outcome)
            metrics.complete(time.monotonic() - arrived)
