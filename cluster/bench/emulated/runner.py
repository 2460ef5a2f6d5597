"""A target's model that is nothing but its cost: what it says is known, how long it takes is a formula."""

import time
from collections.abc import Callable

from cluster.bench.emulated.cell import ANSWER_TOKENS, PROMPT_TOKENS
from cluster.bench.emulated.pause import pause_until
from cluster.simulator.synthetic import VOCAB_SIZE
from cluster.simulator.target import chosen
from cluster.step_runner import Meanwhile
from workers.contract.identity import ModelIdentity
from workers.contract.step import StepOutput, StepPlan

BLOCK_SIZE = 16


class EmulatedRunner:
    """A `cluster.step_runner.StepRunner` that chooses as the simulated target does, and takes its time.

    Like a GPU it leaves its host alone meanwhile.
    """

    def __init__(self, step_s: Callable[[int, int], float], max_running: int) -> None:
        """Take ``step_s(positions, sum of the rows' contexts)`` seconds per step; room for ``max_running`` answers."""
        self.overlaps = True
        self.max_model_len = PROMPT_TOKENS + ANSWER_TOKENS
        self.block_size = BLOCK_SIZE
        self.num_blocks = (self.max_model_len // BLOCK_SIZE + 2) * (max_running + 1)
        # Wrong guesses are ids above the truth's.
        self.identity = ModelIdentity("emulated", 2 * VOCAB_SIZE, "emulated", self.max_model_len)
        self._step_s = step_s

    def execute(self, plan: StepPlan, meanwhile: Meanwhile | None = None) -> StepOutput:
        """Return the target's choices once the step would have been computed."""
        started = time.monotonic()
        output = chosen(plan)
        if meanwhile is not None:
            meanwhile()
        pause_until(started + self._step_s(plan.num_tokens, plan.context))
        return output

    def probe(self) -> None:
        """Nothing here can break."""
