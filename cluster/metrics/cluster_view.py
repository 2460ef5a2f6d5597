"""The targets' counters and load as any ingress knows them, read from its router whenever they are asked for.

The counters are cumulative per incarnation and summed by the router, so any ingress tells the whole truth, and
several tell the same one: scrape one of them, or every process on its own port, but not both.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cluster.links.generation.router import Router
from cluster.metrics.load import load_metrics
from workers.metrics import catalog
from workers.metrics.families import family


class ClusterView(Collector):
    """The sums over all targets; every metric has the label ``model``."""

    def __init__(self, router: Router, model: Callable[[], str]) -> None:
        """Report what ``router`` knows under the name that ``model`` returns."""
        self._router = router
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        yield from load_metrics(self._router.load(), self._model())


class RouterMetrics(Collector):
    """What happened to requests on their way from one ingress to the targets."""

    def __init__(self, router: Router, model: Callable[[], str]) -> None:
        """Report of ``router`` under the name that ``model`` returns."""
        self._router = router
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        key, stats = (self._model(),), self._router.stats
        yield family(catalog.TARGETS_CONNECTED, {key: self._router.targets_connected})
        yield family(catalog.MIGRATIONS, {key: stats.resumed})
        yield family(catalog.MIGRATIONS_OTHER_NUMERICS, {key: stats.resumed_elsewhere})
        yield family(catalog.REQUESTS_LOST, {key: stats.lost})
