"""Our engine behind its gRPC service, with a recorded drafter or none. Run as a child by `never_slower`."""

import argparse
import asyncio
import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cluster.bench.worker import serve_workloads
from cluster.bench.workload import Answer, Measurement, Workload
from cluster.child import ChildServer
from cluster.local import LocalCluster
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class DraftedEngine:
    """A target and perhaps a drafter, started on an event loop that another thread runs."""

    def __init__(self, cluster: LocalCluster, answers: Path, drafter: list[str]) -> None:
        """Serve with a cluster that has not been started and has no drafters of its own.

        ``drafter``: arguments of recorded_drafter; none records the answers instead.
        """
        self._cluster = cluster
        self._answers = answers
        self._arguments = drafter
        self._drafter: ChildServer | None = None
        self._ids = itertools.count()
        self._recorded: set[tuple[int, ...]] = set()

    async def start(self) -> None:
        """Start everything and wait until the drafter, if any, is connected."""
        await self._cluster.__aenter__()
        if not self._arguments:
            self._answers.touch()
            return
        words = ["cluster.bench.never_slower.recorded_drafter", "--answers", str(self._answers), *self._arguments]
        self._drafter = ChildServer(words)
        self._cluster.target.set_drafters([await self._drafter.start()])
        while not self._cluster.target.engine.load().drafters_connected:
            await asyncio.sleep(0.02)

    async def run(self, workload: Workload) -> Measurement:
        """Answer all prompts, as many at once as the workload says."""
        load = self._cluster.target.engine.load
        cpu, before, started = self._drafter_cpu_s(), load().generated_tokens, time.perf_counter()
        left, ends = iter(range(len(workload.prompts))), []

        async def client() -> list[Answer]:
            answers = [await self._answer(workload, i) for i in left]
            ends.append((load().generated_tokens - before, time.perf_counter() - started))
            return answers

        at_once = workload.at_once or len(workload.prompts)
        answered = await asyncio.gather(*(client() for _ in range(at_once)))
        if not self._arguments:
            self._record([answer for answers in answered for answer in answers])
        tokens, seconds = ends[-1] if workload.at_once is None else ends[0]
        return Measurement(tokens, seconds, self._drafter_cpu_s() - cpu)

    async def stop(self) -> None:
        """End everything."""
        await self._cluster.stop()
        if self._drafter is not None:
            await self._drafter.stop()

    async def _answer(self, workload: Workload, index: int) -> Answer:
        prompt = list(workload.prompts[index])
        seed = workload.first_seed + index
        params = SamplingParams(workload.sampling.temperature, top_p=workload.sampling.top_p, seed=seed)
        stopping = Stopping(workload.new_tokens, frozenset(workload.stop_token_ids))
        request = GenerationRequest(f"bench-{next(self._ids)}", prompt, params, stopping)
        if workload.salt:  # each prompt its own: they begin alike
            request = replace(request, salt=f"{workload.salt}-{index}")
        steps = await self._cluster.generate(replace(request, max_draft_tokens=workload.draft_length))
        return Answer(seed, prompt, [token for step in steps for token in step.tokens])

    def _record(self, answers: list[Answer]) -> None:
        with self._answers.open("a") as file:
            for answer in answers:
                if (key := (answer.seed, *answer.prompt)) not in self._recorded:
                    self._recorded.add(key)
                    file.write(json.dumps(answer.to_json()) + "\n")

    def _drafter_cpu_s(self) -> float:
        if self._drafter is None:
            return 0.0
        fields = Path(f"/proc/{self._drafter.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def main() -> None:
    """Read workloads from stdin until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="RunnerSettings as JSON")
    parser.add_argument("--answers", type=Path, required=True, help="file that answers are recorded in")
    parser.add_argument("--drafter", default="", help="arguments of the recorded drafter")
    arguments = parser.parse_args()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    settings = RunnerSettings.model_validate_json(arguments.settings)
    cluster = LocalCluster(ModelRunner.from_settings(settings))
    engine = DraftedEngine(cluster, arguments.answers, arguments.drafter.split())

    def load() -> Callable[[Workload], Measurement]:
        asyncio.run_coroutine_threadsafe(engine.start(), loop).result()
        return lambda workload: asyncio.run_coroutine_threadsafe(engine.run(workload), loop).result()

    try:
        serve_workloads(load)
    finally:
        asyncio.run_coroutine_threadsafe(engine.stop(), loop).result()


if __name__ == "__main__":
    main()
