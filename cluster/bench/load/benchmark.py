"""The benchmark from end to end: who is there, all runs, the report."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from cluster.bench.load.client import Client, base_url
from cluster.bench.load.endpoint import identify
from cluster.bench.load.prompts import Prompt
from cluster.bench.load.report import Report, make_report
from cluster.bench.load.settings import BenchSettings
from cluster.bench.load.sweep import Watcher, num_requests, sweep
from cluster.bench.machine import describe_machine
from cluster.config import ClusterConfig


async def run_benchmark(
    url: str,
    settings: BenchSettings,
    prompts: Sequence[Prompt],
    *,
    command: str,
    watch: Callable[[int], AbstractContextManager[Watcher]],
    model: str | None = None,
    api_key: str | None = None,
    local: ClusterConfig | None = None,
) -> Report:
    """Measure the endpoint at ``url`` and return the report.

    ``model`` None asks for the first one listed. ``local`` are the settings of an engine that was started for this;
    ``watch`` returns who is told of the progress, given the number of requests.

    Raises:
        ConfigurationError: The URL is none, or a prompt cannot be sent to the chosen API; see `load_prompts`.
        BenchError: The endpoint cannot be reached, or refuses the requests.
    """
    base = base_url(url)
    machine = describe_machine()
    async with Client(base, settings.api, api_key, settings.timeout_s) as client:
        endpoint = await identify(client, settings.api, prompts[0], model)
        with watch(num_requests(endpoint, settings)) as watcher:
            runs = await sweep(client, endpoint, settings, prompts, watcher)
    started = None if local is None else local.model_dump(mode="json", include={"target", "drafters", "scheduler"})
    return make_report(runs, endpoint, settings, command=command, machine=machine, local=started)
