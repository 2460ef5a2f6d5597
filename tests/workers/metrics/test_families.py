"""What we count ourselves must look to Prometheus exactly like what its own client counts."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from workers.metrics import catalog
from workers.metrics.families import family, histogram_family
from workers.metrics.server import disable_created_metrics


class Fixed:
    """A collector of metrics that are made already."""

    def __init__(self, *metrics):
        self.metrics = metrics

    def collect(self):
        return self.metrics


def exposed(*metrics) -> str:
    registry = CollectorRegistry()
    registry.register(Fixed(*metrics))
    return generate_latest(registry).decode()


@given(st.lists(st.floats(min_value=0, max_value=1000) | st.sampled_from(catalog.TTFT.buckets), max_size=30))
def test_a_histogram_of_ours_is_that_of_the_client_library(values):
    disable_created_metrics()
    registry = CollectorRegistry()
    spec, ours = catalog.TTFT, catalog.TTFT.counts()
    theirs = Histogram(spec.full_name, spec.help, spec.labels, buckets=spec.buckets, registry=registry)
    theirs.labels("m")
    for value in values:
        theirs.labels("m").observe(value)
        ours.observe(value)
    assert exposed(histogram_family(catalog.TTFT, [(("m",), ours)])) == generate_latest(registry).decode()


def test_several_equal_observations_count_as_so_many():
    once, together = catalog.ITL.counts(), catalog.ITL.counts()
    for _ in range(3):
        once.observe(0.25)
    together.observe(0.25, 3)
    assert (once.counts, once.total) == (together.counts, together.total)


def test_a_counter_of_ours_is_that_of_the_client_library():
    disable_created_metrics()
    registry = CollectorRegistry()
    spec = catalog.REQUESTS
    Counter(spec.full_name, spec.help, spec.labels, registry=registry).labels("m", "stop").inc(3)
    ours = family(catalog.REQUESTS, {("m", "stop"): 3})
    assert exposed(ours) == generate_latest(registry).decode()
    assert 'outrider_requests_total{finish_reason="stop",model="m"} 3.0' in exposed(ours)


def test_a_gauge_keeps_its_name():
    assert 'outrider_kv_cache_usage_ratio{model="m"} 0.25' in exposed(family(catalog.KV_CACHE_USAGE, {("m",): 0.25}))
