"""Metrics as Prometheus reads them: what is counted in plain numbers becomes a metric when somebody asks."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from workers.metrics.buckets import BucketCounts
from workers.metrics.spec import CounterSpec, GaugeSpec, HistogramSpec

Labels = tuple[str, ...]
"""Values of a metric's labels, in the order in which it names them."""

AnyLabels = TypeVar("AnyLabels", bound=Labels)


def family(spec: CounterSpec | GaugeSpec, samples: Mapping[AnyLabels, float]) -> Metric:
    """Return a metric with its values of this moment, by the values of its labels."""
    made = CounterMetricFamily if isinstance(spec, CounterSpec) else GaugeMetricFamily
    metric = made(spec.full_name, spec.help, labels=spec.labels, unit=spec.unit)
    for labels, value in samples.items():
        metric.add_metric(labels, value)
    return metric


def histogram_family(spec: HistogramSpec, samples: Iterable[tuple[Labels, BucketCounts]]) -> Metric:
    """Return a histogram with its counts of this moment."""
    metric = HistogramMetricFamily(spec.full_name, spec.help, labels=spec.labels, unit=spec.unit)
    for labels, counted in samples:
        add_buckets(metric, labels, counted.bounds, counted.counts, counted.total)
    return metric


def add_buckets(
    metric: HistogramMetricFamily, labels: Labels, bounds: Seq[float], counts: Seq[int], total: float
) -> None:
    """Add a series to a histogram: ``counts`` by bucket, not cumulative, one more than there are ``bounds``."""
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]  # as prometheus_client writes them
    metric.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), sum_value=total)
