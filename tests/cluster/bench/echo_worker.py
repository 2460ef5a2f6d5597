"""A bench worker that emits one token less per prompt than it is asked for, and prints in between."""

from collections.abc import Callable

from cluster.bench.worker import serve_workloads
from cluster.bench.workload import Measurement, Workload


def load() -> Callable[[Workload], Measurement]:
    print("noise of a library that is loading")

    def run(workload: Workload) -> Measurement:
        print("noise of a library at work")
        return Measurement(workload.num_tokens - len(workload.prompts), workload.sampling.temperature)

    return run


if __name__ == "__main__":
    serve_workloads(load)
