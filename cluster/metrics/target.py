"""The metrics of one target process: its engine's counters, its steps, and each of its drafters."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cluster.engine import Engine
from cluster.links.drafting.cause import Cause
from cluster.links.drafting.pool import DrafterPool
from cluster.metrics.load import load_metrics
from workers.metrics import catalog
from workers.metrics.families import family, histogram_family


class TargetMetrics(Collector):
    """Reads plain counters whenever it is asked; nothing is done for it while the engine runs."""

    def __init__(self, engine: Engine, pool: DrafterPool, served_name: str = "") -> None:
        """Report of an engine and its links to drafters.

        ``served_name`` is the name under which ingresses report of the model; empty: the one that it announces.
        """
        self._engine = engine
        self._pool = pool
        self._model = served_name or engine.identity.name

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        key, sizes = (self._model,), self._engine.step_sizes
        yield from load_metrics(self._engine.load(), self._model)
        yield histogram_family(catalog.VERIFY_STEP, [(key, sizes.seconds)])
        yield histogram_family(catalog.VERIFY_BATCH_SEQUENCES, [(key, sizes.sequences)])
        yield histogram_family(catalog.VERIFY_BATCH_TOKENS, [(key, sizes.positions)])
        yield from self._links()
        yield from self._drafters()

    def _links(self) -> Iterator[Metric]:
        key, stats = (self._model,), self._pool.stats
        yield family(catalog.DRAFTER_CONNECTS, {key: stats.connects})
        # Every cause is there from the start: Prometheus sees no growth in a series that begins with its first event.
        lost = {(self._model, str(cause)): stats.disconnects[cause] for cause in Cause}
        yield family(catalog.DRAFTER_DISCONNECTS, lost)
        yield family(catalog.DRAFT_ORDERS_OVERDUE, {key: stats.overdue})
        refusals = {(self._model, "busy"): stats.busy, (self._model, "unknown"): stats.unknown}
        yield family(catalog.DRAFT_REFUSALS, refusals)
        yield family(catalog.DRAFT_SEQUENCES_OPENED, {key: stats.opened})
        yield family(catalog.DRAFT_SEQUENCES_REOPENED, {key: stats.reopened})
        yield family(catalog.DRAFT_REPLIES_STALE, {key: stats.stale_replies})

    def _drafters(self) -> Iterator[Metric]:
        """Yield what is known of the drafters that are listed now: those that are gone leave no series behind."""
        drafters = {(self._model, address): record for address, record in self._pool.drafters().items()}
        known = {key: record for key, record in drafters.items() if record is not None}
        yield family(catalog.DRAFTER_UP, {key: float(key in known) for key in drafters})
        standings = {(self._model, address): standing for address, standing in self._pool.standings().items()}
        probation = {key: float(standing.breaker.on_probation) for key, standing in standings.items()}
        yield family(catalog.DRAFTER_PROBATION, probation)
        deadlines = {key: standing.deadline.seconds() for key, standing in standings.items()}
        yield family(catalog.DRAFTER_DEADLINE, deadlines)
        yield family(catalog.DRAFTER_SEQUENCES, {key: record.own for key, record in known.items()})
        rates = {key: record.rate.measured() for key, record in known.items()}
        yield family(catalog.DRAFTER_ACCEPTED_RATE, rates)
        yield histogram_family(catalog.DRAFT_RTT, [(key, record.flights) for key, record in known.items()])
        yield histogram_family(catalog.DRAFT_COMPUTE, [(key, record.drafting) for key, record in known.items()])
