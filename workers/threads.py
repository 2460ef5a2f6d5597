"""The threads of a process that computes: set before torch is imported, for its libraries read this once."""

import os

SPIN_COUNT = "10000"
"""How long a thread of torch's OpenMP library spins at a barrier before it sleeps.

By default it spins for milliseconds: on a machine whose cores are all in use the thread that is waited for
then does not get to run, and a step that takes 25 ms alone was seen to take a second beside one busy process.
With this bound a step that is alone is as fast as with the default.
"""


def claim_threads(threads: int) -> None:
    """Let this process compute with ``threads`` threads.

    Ray sets one thread for an actor that reserves no CPU, and a thread made later (the engine's) takes the
    library's default, not what torch was told on another thread.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
