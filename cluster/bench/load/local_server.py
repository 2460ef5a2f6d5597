"""A whole local deployment behind HTTP, without Ray. Run as a child by `local_engine`.

``python -m cluster.bench.load.local_server --config JSON`` prints ``ready URL`` once it answers, or
``refused REASON`` where the settings cannot be used, and ends when its standard input does.
"""

import argparse
import asyncio
import os
import sys
from typing import TextIO

from cluster.api.app import build_app
from cluster.api.door.listener import HttpListener
from cluster.config import ClusterConfig
from cluster.local import LOOPBACK, LocalCluster
from workers.contract.errors import ConfigurationError, ModelRefusedError
from workers.threads import claim_threads

READY = "ready "
REFUSED = "refused "
CONNECT_LIMIT_S = 60.0


async def serve(config: ClusterConfig, answers: TextIO) -> None:
    """Serve on a free port of the loopback until standard input ends; say into ``answers`` where.

    Raises:
        ConfigurationError: The settings contradict each other or the machine.
        ModelRefusedError: A model cannot be served.
    """
    runner_settings = config.target.runner_settings()
    if runner_settings.threads is not None:
        claim_threads(runner_settings.threads)
    from workers.checkpoint.source import resolve_model  # torch reads its number of threads once, when imported
    from workers.model_runner import ModelRunner
    from workers.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(resolve_model(runner_settings.model).path)
    drafters = [config.drafters.drafter_settings()] * config.drafters.replicas if config.drafters.enabled else []
    runner = ModelRunner.from_settings(runner_settings)
    async with LocalCluster(runner, drafters, config.scheduler) as cluster:
        listener = HttpListener(build_app(cluster.router, tokenizer, config.http.api), LOOPBACK, 0)
        await listener.start()
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                while cluster.target.engine.load().drafters_connected < len(drafters):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ConfigurationError(f"a drafter did not connect within {CONNECT_LIMIT_S:.0f} s") from None
        print(READY + listener.url, file=answers)
        await asyncio.to_thread(sys.stdin.read)
        await listener.stop()


def main() -> None:
    """Serve, or say why not. Libraries may print as they like: everything but our answers goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="ClusterConfig as JSON")
    config = ClusterConfig.model_validate_json(parser.parse_args().config)
    try:
        asyncio.run(serve(config, answers))
    except (ConfigurationError, ModelRefusedError) as error:
        print(REFUSED + " ".join(str(error).split()), file=answers)
        sys.exit(1)


if __name__ == "__main__":
    main()
