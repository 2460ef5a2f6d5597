"""Our engine without any network: requests go straight into its queue. Run as a child by `versus_hf`."""

import argparse
import itertools
import threading
import time
from collections.abc import Callable

from cluster.bench.worker import serve_workloads
from cluster.bench.workload import Measurement, Workload
from cluster.engine import Engine
from cluster.scheduler.settings import SchedulerSettings
from workers.contract.request import FinishReason, GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

PLAIN = SchedulerSettings(draft_length=0, lookup=False)
"""No speculation of any kind."""


class Collector:
    """A progress sink that counts tokens until every request has ended."""

    def __init__(self, expected: int) -> None:
        """Expect this many requests."""
        self.num_tokens = 0
        self.failure: str | None = None
        self._left = expected
        self._done = threading.Event()

    def __call__(self, items: list[Progress]) -> None:
        """Take one step's progress; called in the engine thread."""
        for item in items:
            self.num_tokens += len(item.tokens)
            if item.finish_reason is FinishReason.ERROR:
                self.failure = item.message
            self._left -= item.finish_reason is not None
        if self._left == 0:
            self._done.set()

    def wait(self) -> int:
        """Return the number of tokens once all requests have ended.

        Raises:
            RuntimeError: A request failed.
        """
        self._done.wait()
        if self.failure is not None:
            raise RuntimeError(f"a request failed: {self.failure}")
        return self.num_tokens


def load(settings: RunnerSettings) -> Callable[[Workload], Measurement]:
    """Return a function that runs all prompts of a workload at once."""
    engine = Engine(ModelRunner.from_settings(settings), PLAIN)
    engine.start()
    ids = itertools.count()

    def run(workload: Workload) -> Measurement:
        collector = Collector(len(workload.prompts))
        stopping = Stopping(max_tokens=workload.new_tokens)
        started = time.perf_counter()
        for seed, prompt in enumerate(workload.prompts):
            params = SamplingParams(workload.sampling.temperature, top_p=workload.sampling.top_p, seed=seed)
            engine.submit(GenerationRequest(f"bench-{next(ids)}", prompt, params, stopping), collector)
        return Measurement(collector.wait(), time.perf_counter() - started)

    return run


def main() -> None:
    """Read workloads from stdin until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="RunnerSettings as JSON")
    settings = RunnerSettings.model_validate_json(parser.parse_args().settings)
    serve_workloads(lambda: load(settings))


if __name__ == "__main__":
    main()
