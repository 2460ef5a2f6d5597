"""A whole local deployment behind HTTP, without Ray. Run as a child by `local_engine`.

``python -m cluster.bench.load.local_server --config JSON`` prints ``ready URL`` once it answers, or
``refused REASON`` where the settings cannot be used, and ends when its standard input does.
"""

import argparse
import asyncio
import sys

from cluster.api.app import build_app
from cluster.api.listener import HttpListener
from cluster.config import ClusterConfig
from cluster.local import LOOPBACK, LocalCluster
from workers.contract.errors import ConfigurationError, ModelRefusedError
from workers.threads import claim_threads

READY = "ready "
REFUSED = "refused "


async def serve(config: ClusterConfig) -> None:
    """Serve on a free port of the loopback until standard input ends.

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
        while cluster.target.engine.load().drafters_connected < len(drafters):
            await asyncio.sleep(0.02)
        print(READY + listener.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await listener.stop()


def main() -> None:
    """Serve, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="ClusterConfig as JSON")
    config = ClusterConfig.model_validate_json(parser.parse_args().config)
    try:
        asyncio.run(serve(config))
    except (ConfigurationError, ModelRefusedError) as error:
        print(REFUSED + " ".join(str(error).split()), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
