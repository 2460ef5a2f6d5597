"""A drafter as a server, in this process or as one of its own: ``python -m workers.drafting.server``."""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable

import grpc
from prometheus_client import CollectorRegistry

from workers.contract.errors import ConfigurationError, DrafterBrokenError
from workers.contract.identity import new_incarnation
from workers.drafting.batching import DraftBatcher
from workers.drafting.desk import DrafterLoad
from workers.drafting.drafter import Drafter
from workers.drafting.metrics import DrafterMetrics
from workers.drafting.ngram_drafter import NgramDrafter
from workers.drafting.service import DraftingService
from workers.metrics.server import MetricsServer, process_registry
from workers.rpc.channel import RpcServer
from workers.rpc.roles import PeerRole
from workers.rpc.stubs import drafting_pb2_grpc
from workers.rpc.tls import TlsSettings, server_credentials
from workers.settings import DrafterSettings
from workers.threads import claim_threads, usable_cpus

SERVICE = "outrider.v1.DraftingService"
NGRAM = "ngram"
DRAIN_POLL_S = 0.02
HEALTH_POLL_S = 1.0

log = logging.getLogger(__name__)


def make_drafter(settings: DrafterSettings) -> Drafter:
    """Build the drafter that the settings ask for, loading its model if it has one; takes seconds then.

    Raises ModelRefusedError or ConfigurationError as the model's loading does.
    """
    if settings.model == NGRAM:
        return NgramDrafter(settings.ngram_max, settings.ngram_min)
    threads = settings.runner.threads or max(1, usable_cpus() // 2)  # it may share its machine with a target
    claim_threads(threads)
    settings = settings.model_copy(update={"runner": settings.runner.model_copy(update={"threads": threads})})
    # Only here: a drafter without a model starts without torch, in a fifth of a second instead of several.
    from workers.drafting.load import load_drafter

    return load_drafter(settings)


class DrafterServer:
    """Serves one drafter to any number of targets."""

    def __init__(
        self,
        settings: DrafterSettings,
        credentials: grpc.ServerCredentials | None = None,
        make: Callable[[DrafterSettings], Drafter] = make_drafter,
    ) -> None:
        """Prepare a server; nothing is loaded before ``start``, which calls ``make``."""
        self._make = make
        self.incarnation = new_incarnation()
        self._settings = settings
        self._credentials = credentials
        self._rpc: RpcServer | None = None
        self._batcher: DraftBatcher | None = None
        self._service: DraftingService | None = None

    @property
    def trouble(self) -> str | None:
        """Why there will be no more drafts until the process starts anew; None where all is well."""
        return "the drafter has not been started" if self._batcher is None else self._batcher.trouble

    @property
    def metrics(self) -> CollectorRegistry:
        """What there is to scrape of this process; ConfigurationError before the start."""
        if self._batcher is None:
            raise ConfigurationError("the drafter has not been started")
        return process_registry([DrafterMetrics(self._batcher, self._settings.max_sequences)])

    @property
    def load(self) -> DrafterLoad:
        """The present load; ConfigurationError before the start."""
        if self._batcher is None:
            raise ConfigurationError("the drafter has not been started")
        return self._batcher.load()

    async def start(self, host: str, port: int = 0) -> str:
        """Load the drafter, listen, and return the bound ``host:port``.

        Raises ConfigurationError where the address cannot be bound, and what ``make_drafter`` raises.
        """
        drafter = await asyncio.to_thread(self._make, self._settings)
        batcher = DraftBatcher(drafter, self._settings.max_sequences, self._settings.run_ahead_rows)
        rpc = RpcServer(PeerRole.TARGET, self._credentials)
        service = DraftingService(batcher, self.incarnation)
        drafting_pb2_grpc.add_DraftingServiceServicer_to_server(service, rpc.grpc)
        address = await rpc.start(host, port, [SERVICE])
        batcher.start()
        self._rpc, self._batcher, self._service = rpc, batcher, service
        return address

    async def drain(self, timeout_s: float) -> bool:
        """Wait until no target has a stream here any more; True where none was left within ``timeout_s``.

        Targets leave a drafter that is off their list. New ones are still served.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._service is not None and self._service.streams:
                    await asyncio.sleep(DRAIN_POLL_S)
        return self._service is None or not self._service.streams

    async def stop(self) -> None:
        """Stop at once: targets lose nothing when a drafter goes."""
        if self._rpc is not None and self._batcher is not None:
            await self._rpc.stop()
            await asyncio.to_thread(self._batcher.stop)
            self._rpc = self._batcher = self._service = None


async def serve_until_told(server: DrafterServer, host: str, port: int, metrics_port: int | None = None) -> None:
    """Run a drafter until SIGTERM or SIGINT; prints ``ready HOST:PORT`` once it can be dialled.

    Raises DrafterBrokenError, once the server has stopped, where it can draft no more: what has failed it, a GPU whose
    context is lost for one, is mended by a new process at best.
    """
    address = await server.start(host, port)
    metrics = MetricsServer(server.metrics, host, metrics_port)
    # Not before: while a model loads, the signals' default is what ends the process at once.
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    print(f"ready {address}", flush=True)
    while (trouble := server.trouble) is None and not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), HEALTH_POLL_S)
    if trouble is not None:
        log.error("%s: it leaves its targets and ends", trouble)
    metrics.close()
    await server.stop()
    if trouble is not None:
        raise DrafterBrokenError(f"{trouble}; start it anew")


def main() -> None:
    """Run a drafter until SIGTERM or SIGINT; prints ``ready HOST:PORT`` once it can be dialled.

    Exits with 1 where it can draft no more.
    """
    parser = argparse.ArgumentParser(prog="python -m workers.drafting.server", description=main.__doc__)
    parser.add_argument("--settings", default="{}", help="DrafterSettings as JSON")
    parser.add_argument("--tls", help="TlsSettings as JSON; left out: plain text")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--metrics-port", type=int, help="Prometheus metrics; 0: any free port; left out: none")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    tls = TlsSettings.model_validate_json(args.tls) if args.tls else None
    credentials = server_credentials(tls, PeerRole.DRAFTER)
    server = DrafterServer(DrafterSettings.model_validate_json(args.settings), credentials)
    try:
        asyncio.run(serve_until_told(server, args.host, args.port, args.metrics_port))
    except DrafterBrokenError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
