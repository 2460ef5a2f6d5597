"""What the simulator says of a cell: the same formulas, planner and desk, without processes, links or Python's time."""

from cluster.bench.emulated.cell import ANSWER_TOKENS, FREE_ROWS, PROMPT_TOKENS, Cell
from cluster.bench.emulated.modes import MODES, scheduler_settings
from cluster.simulator.simulation import Load, Simulation

REQUESTS = 6
"""Requests per client: the first of them is where the scheduler learns."""


def simulated_goodputs(cell: Cell, acceptance: float) -> dict[str, float]:
    """Return tokens per simulated second by mode."""
    load = Load(cell.concurrency, REQUESTS * cell.concurrency, PROMPT_TOKENS, ANSWER_TOKENS)
    modes = {mode: scheduler_settings(mode, cell.concurrency) for mode in MODES}
    return {
        mode: Simulation(cell.hardware(), [acceptance], load, settings, run_ahead_rows=FREE_ROWS).run().goodput
        for mode, settings in modes.items()
    }
