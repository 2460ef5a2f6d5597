"""Prometheus metrics of one ingress: how requests end and how long they take."""

import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cluster.api.reply.text import TextDelta
from cluster.api.vllm_metrics import VllmMetrics
from cluster.links.generation.router import Router
from cluster.metrics.cluster_view import ClusterView, RouterMetrics
from workers.contract.request import FinishReason
from workers.metrics import catalog
from workers.metrics.families import family, histogram_family
from workers.metrics.server import process_registry

REJECTIONS = ("invalid", "overloaded", "unavailable")
"""Why requests are refused."""


class ApiMetrics(Collector):
    """The metrics of one ingress process, and the cluster's view beside them.

    Every reason is there from the start, at 0: Prometheus sees no growth in a series that begins with its first event.
    """

    def __init__(self, router: Router, model: Callable[[], str]) -> None:
        """Make the registries; ``model`` returns the name that labels everything."""
        self._model = model
        self._ended: Counter[str] = Counter({str(reason): 0 for reason in FinishReason})
        self._rejected: Counter[str] = Counter(dict.fromkeys(REJECTIONS, 0))
        self._ttft, self._itl, self._e2e = catalog.TTFT.counts(), catalog.ITL.counts(), catalog.E2E.counts()
        self._queue = catalog.QUEUE.counts()
        self._prompts, self._answers = catalog.PROMPT_TOKENS_EACH.counts(), catalog.GENERATED_TOKENS_EACH.counts()
        self.own = process_registry([self, RouterMetrics(router, model)])
        """What this process alone knows: for the port where each process is scraped."""
        self._cluster = CollectorRegistry()
        self._cluster.register(ClusterView(router, model))
        self._vllm = CollectorRegistry()
        self._vllm.register(VllmMetrics((self.own, self._cluster)))

    def collect(self) -> Iterator[Metric]:
        """Yield this process's own metrics of this moment."""
        model = self._model()
        yield family(catalog.REQUESTS, {(model, reason): count for reason, count in dict(self._ended).items()})
        yield family(catalog.REJECTIONS, {(model, reason): count for reason, count in dict(self._rejected).items()})
        yield histogram_family(catalog.TTFT, [((model,), self._ttft)])
        yield histogram_family(catalog.QUEUE, [((model,), self._queue)])
        yield histogram_family(catalog.ITL, [((model,), self._itl)])
        yield histogram_family(catalog.E2E, [((model,), self._e2e)])
        yield histogram_family(catalog.PROMPT_TOKENS_EACH, [((model,), self._prompts)])
        yield histogram_family(catalog.GENERATED_TOKENS_EACH, [((model,), self._answers)])

    def exposition(self, *, vllm_names: bool = False) -> bytes:
        """Return this process's metrics and the sums over all targets, in Prometheus's text format.

        With ``vllm_names`` what vLLM has a name for is told under that name as well.
        """
        text = generate_latest(self.own) + generate_latest(self._cluster)
        return text + (generate_latest(self._vllm) if vllm_names else b"")

    def reject(self, reason: str) -> None:
        """Count a request that was refused before it began."""
        self._rejected[reason] += 1

    def end(self, reason: str) -> None:
        """Count a choice that ended."""
        self._ended[reason] += 1

    def first_token(self, seconds: float, queued: float) -> None:
        """Note how long a choice waited for its first token, and how much of that for a place at its target."""
        self._ttft.observe(seconds)
        self._queue.observe(queued)

    def later_tokens(self, seconds: float, count: int) -> None:
        """Note ``count`` tokens that came together ``seconds`` after those before them."""
        self._itl.observe(seconds / count, count)

    def complete(self, seconds: float, prompt_tokens: int, tokens: int) -> None:
        """Note how long a whole choice took, and how long it became."""
        self._e2e.observe(seconds)
        self._prompts.observe(prompt_tokens)
        self._answers.observe(tokens)


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
                    metrics.first_token(now - arrived, delta.queued_s)
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
