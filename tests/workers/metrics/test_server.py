import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.workers.metrics.test_families import Fixed
from workers.metrics import catalog
from workers.metrics.families import family
from workers.metrics.server import MetricsServer, process_registry


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {sample.name: sample.value for found in families for sample in found.samples}


@pytest.fixture
def registry():
    return process_registry([Fixed(family(catalog.PREEMPTIONS, {("m",): 7}))])


def test_a_scrape_gets_the_metrics_and_what_the_process_takes(registry):
    server = MetricsServer(registry, "127.0.0.1", 0)
    seen = scrape(server.address)
    assert seen["outrider_preemptions_total"] == 7
    assert seen["process_resident_memory_bytes"] > 2**20
    assert "outrider_preemptions_created" not in seen
    server.close()
    with pytest.raises(OSError):
        scrape(server.address)


def test_a_port_that_is_taken_is_replaced_by_a_free_one(registry, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = MetricsServer(registry, "127.0.0.1", port)
        assert server.address and not server.address.endswith(f":{port}")
        assert str(port) in caplog.text
        assert scrape(server.address)
        server.close()


def test_no_port_no_server(registry):
    server = MetricsServer(registry, "127.0.0.1", None)
    assert server.address == ""
    server.close()


def test_a_host_that_is_not_ours_costs_the_metrics_and_nothing_else(registry):
    assert MetricsServer(registry, "192.0.2.1", 0).address == ""
