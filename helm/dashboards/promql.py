"""Queries over the catalogue's metrics, so that a dashboard cannot ask for one that does not exist."""

from workers.metrics.spec import CounterSpec, GaugeSpec, HistogramSpec

WINDOW = "$__rate_interval"
OF_RELEASE = 'namespace=~"$namespace",release=~"$release"'
"""The dashboard's choice of installations, by labels that the chart's monitors add; without them it is all."""
OF_MODEL = f'model=~"$model",{OF_RELEASE}'
"""And its choice of models, by the name under which they are served. A drafter's metrics carry its own model's name,
which that choice knows nothing of."""


def gauge(spec: GaugeSpec, aggregate: str = "sum", by: str = "", where: str = OF_MODEL) -> str:
    """Return a gauge over all processes."""
    return f"{aggregate}{_by(by)} ({spec.full_name}{{{where}}})"


def rate(spec: CounterSpec, by: str = "", where: str = OF_MODEL) -> str:
    """Return how much a counter grows per second, over all processes."""
    return f"sum{_by(by)} (rate({spec.full_name}_total{{{where}}}[{WINDOW}]))"


def ratio(part: str, whole: str) -> str:
    """Return a share; nothing, rather than a division by zero, while there is nothing to have a share of."""
    return f"{part} / ({whole} > 0)"


def quantile(share: float, spec: HistogramSpec, by: str = "", where: str = OF_MODEL) -> str:
    """Return a quantile of a histogram; nothing while nothing is observed."""
    labels = f"le, {by}" if by else "le"
    seen = f"sum{_by(by)} (rate({spec.full_name}_count{{{where}}}[{WINDOW}])) > 0"
    buckets = f"sum by ({labels}) (rate({spec.full_name}_bucket{{{where}}}[{WINDOW}]))"
    matched = f"and on({by}) " if by else "and on() "
    return f"histogram_quantile({share}, {buckets}) {matched}({seen})"


def mean(spec: HistogramSpec, by: str = "", where: str = OF_MODEL) -> str:
    """Return the mean of a histogram's observations."""
    sums, counts = (f"sum{_by(by)} (rate({spec.full_name}_{x}{{{where}}}[{WINDOW}]))" for x in ("sum", "count"))
    return ratio(sums, counts)


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
