"""The threads of a process that computes: how many there are, how long they spin, and whose pools live on."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

SPIN_COUNT = "10000"
"""How long a thread of torch's OpenMP library spins at a barrier before it sleeps.

By default it spins for milliseconds: on a machine whose cores are all in use the thread that is waited for
then does not get to run, and a step that takes 25 ms alone was seen to take a second beside one busy process.
With this bound a step that is alone is as fast as with the default.
"""


def usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def claim_threads(threads: int) -> None:
    """Let this process compute with ``threads`` threads; before torch is imported, as its libraries read this once.

    Ray sets one thread for an actor that reserves no CPU, and a thread made later (the engine's) takes the
    library's default, not what torch was told on another thread.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def run_in_passing_thread(function: Callable[[], T]) -> T:
    """Run ``function`` in a thread that has ended when this returns; what it raises is raised here.

    libgomp keeps a pool of threads for each thread that has computed in parallel and still lives. As soon as
    there are more pool threads than cores it all but stops spinning at barriers, and a step of the default
    model takes twice as long. So who computes once, to load a model, does it in a thread that takes its pool
    with it; the pool that remains is that of the thread which runs the steps.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, name="passing")
    thread.start()
    thread.join()
    return result.result()
