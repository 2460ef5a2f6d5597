"""The metrics of one drafter process."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from workers.drafting.batching import DraftBatcher
from workers.metrics import catalog
from workers.metrics.families import family, histogram_family


class DrafterMetrics(Collector):
    """Reads plain counters whenever it is asked; nothing is done for it while drafts are made."""

    def __init__(self, batcher: DraftBatcher, max_sequences: int) -> None:
        """Report of a drafter's thread; ``model`` is the name that the drafter announces."""
        self._batcher = batcher
        self._max_sequences = max_sequences

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        model = self._batcher.identity.name
        load, key = self._batcher.load(), (model,)
        yield family(catalog.DRAFTER_OPEN, {key: load.open_sequences})
        yield family(catalog.DRAFTER_QUEUED, {key: load.queued_sequences})
        yield family(catalog.DRAFTER_CAPACITY, {key: self._max_sequences})
        yield family(catalog.DRAFTER_DRAFTED, {key: load.drafted_tokens})
        blocks = {(model, "asked"): load.blocks_asked, (model, "prepared"): load.blocks_prepared}
        yield family(catalog.DRAFTER_BLOCKS, blocks)
        yield family(catalog.DRAFTER_BUSY, {key: load.busy_seconds})
        yield family(catalog.DRAFTER_REFUSED, {key: load.refused})
        yield histogram_family(catalog.DRAFTER_STEP, [(key, self._batcher.step_seconds)])
