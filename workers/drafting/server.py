"""A drafter as a server, in this process or as one of its own: ``python -m workers.drafting.server``."""

import argparse
import asyncio
import logging
import signal
from collections.abc import Callable

import grpc

from workers.contract.identity import new_incarnation
from workers.drafting.batching import DraftBatcher
from workers.drafting.drafter import Drafter
from workers.drafting.ngram_drafter import NgramDrafter
from workers.drafting.service import DraftingService
from workers.rpc.channel import RpcServer
from workers.rpc.stubs import drafting_pb2_grpc
from workers.settings import DrafterSettings
from workers.threads import claim_threads

SERVICE = "outrider.v1.DraftingService"
NGRAM = "ngram"


def make_drafter(settings: DrafterSettings) -> Drafter:
    """Build the drafter that the settings ask for, loading its model if it has one; takes seconds then.

    Raises ModelRefusedError or ConfigurationError as the model's loading does.
    """
    if settings.model == NGRAM:
        return NgramDrafter(settings.ngram_max, settings.ngram_min)
    if settings.runner.threads is not None:
        claim_threads(settings.runner.threads)
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

    @property
    def healthy(self) -> bool:
        """True while drafts are being made: started, and steps do not keep failing."""
        return self._batcher is not None and self._batcher.healthy

    async def start(self, host: str, port: int = 0) -> str:
        """Load the drafter, listen, and return the bound ``host:port``.

        Raises ConfigurationError where the address cannot be bound, and what ``make_drafter`` raises.
        """
        drafter = await asyncio.to_thread(self._make, self._settings)
        batcher = DraftBatcher(drafter, self._settings.max_sequences, self._settings.run_ahead_rows)
        rpc = RpcServer(self._credentials)
        service = DraftingService(batcher, self.incarnation)
        drafting_pb2_grpc.add_DraftingServiceServicer_to_server(service, rpc.grpc)
        address = await rpc.start(host, port, [SERVICE])
        batcher.start()
        self._rpc, self._batcher = rpc, batcher
        return address

    async def stop(self) -> None:
        """Stop at once: targets lose nothing when a drafter goes."""
        if self._rpc is not None and self._batcher is not None:
            await self._rpc.stop()
            await asyncio.to_thread(self._batcher.stop)
            self._rpc = self._batcher = None


async def serve_until_told(server: DrafterServer, host: str, port: int) -> None:
    """Run a drafter until SIGTERM or SIGINT; prints ``ready HOST:PORT`` once it can be dialled."""
    address = await server.start(host, port)
    # Not before: while a model loads, the signals' default is what ends the process at once.
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    print(f"ready {address}", flush=True)
    await stopping.wait()
    await server.stop()


def main() -> None:
    """Run a drafter until SIGTERM or SIGINT; prints ``ready HOST:PORT`` once it can be dialled."""
    parser = argparse.ArgumentParser(prog="python -m workers.drafting.server", description=main.__doc__)
    parser.add_argument("--settings", default="{}", help="DrafterSettings as JSON")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    server = DrafterServer(DrafterSettings.model_validate_json(args.settings))
    asyncio.run(serve_until_told(server, args.host, args.port))


if __name__ == "__main__":
    main()
