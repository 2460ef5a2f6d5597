"""What a metric is called, what it means and in which unit. Plain values: `families` shows them to Prometheus."""

from dataclasses import dataclass

from workers.metrics.buckets import BucketCounts

PREFIX = "outrider_"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric, whatever process exposes it."""

    name: str
    """Without the common prefix, and for a counter without ``_total``."""
    help: str
    labels: tuple[str, ...] = ("model",)
    unit: str = ""
    """Base unit with which the name ends; empty where the name says what is counted."""

    @property
    def full_name(self) -> str:
        """The name under which Prometheus stores it, but for what a type adds (``_total``, ``_bucket``)."""
        return PREFIX + self.name


class CounterSpec(MetricSpec):
    """Only grows while its process lives."""

    __slots__ = ()


class GaugeSpec(MetricSpec):
    """Tells of the present."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class HistogramSpec(MetricSpec):
    """Counts observations by size."""

    buckets: tuple[float, ...] = ()
    """Upper bounds, in rising order."""

    def counts(self) -> BucketCounts:
        """Return an empty count of such observations, for a hot path."""
        return BucketCounts(self.buckets)
