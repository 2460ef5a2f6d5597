"""``/metrics`` of one process, on a port of its own."""

import logging
from collections.abc import Iterable
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, start_http_server
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

ANY_PORT = 0


def process_registry(collectors: Iterable[Collector]) -> CollectorRegistry:
    """Return a registry of these collectors and of what the process takes: CPU time, memory, open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    return registry


class MetricsServer:
    """Answers scrapes in threads of its own. Metrics are a by-product: whatever fails here is logged, not raised."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int | None) -> None:
        """Listen at once. ``port`` 0 takes any free one, and so does one that is taken already; None: no server."""
        self._server: WSGIServer | None = None
        self.address = ""
        """``host:port`` where Prometheus finds this process; empty where there is no server."""
        if port is None:
            return
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, which no query of ours asks for
        for attempt in dict.fromkeys((port, ANY_PORT)):
            try:
                self._server, _ = start_http_server(attempt, addr=host, registry=registry)
            except OSError as error:
                log.warning("metrics cannot be served on %s port %d: %s", host, attempt, error)
            else:
                bound = f"[{host}]" if ":" in host else host
                self.address = f"{bound}:{self._server.server_port}"
                return

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
