"""Python's cycle collector in a process whose main work is steps of some milliseconds."""

import gc

YOUNG = 20_000
"""Objects that a step makes and the next ones drop: reference counts free them, if they are left alone for so long.
With the default of 700 a collection falls into most steps of 64 sequences, and finds nothing."""


def spare_steps() -> None:
    """Keep collections out of steps: what is loaded by now is never looked through again, what is new seldom."""
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
