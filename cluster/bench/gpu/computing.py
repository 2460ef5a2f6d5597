"""Models whose steps are computed and whose words are known: the costs are real, the acceptance is synthetic.

Random weights say nothing that a drafter could guess. So target and drafter compute their steps with models of the
shapes under measurement, and then say what the simulator's would (`cluster.simulator.synthetic`): the target the
token that seed and position decide, the drafter that token as often as it is told to.
"""

from collections.abc import Sequence as Seq

from cluster.bench.emulated.cell import ANSWER_TOKENS, PROMPT_TOKENS
from cluster.bench.emulated.drafter import SettledAcceptance
from cluster.simulator.synthetic import VOCAB_SIZE, token
from cluster.simulator.target import chosen
from cluster.step_runner import Meanwhile
from workers.contract.identity import ModelIdentity
from workers.contract.step import StepOutput, StepPlan
from workers.model_runner import ModelRunner

LEAST_VOCAB = 2 * VOCAB_SIZE
"""Ids of true tokens and of wrong guesses; a model must have embeddings for all of them."""


class ComputingRunner:
    """A `cluster.step_runner.StepRunner` that computes, and chooses as the simulated target does."""

    def __init__(self, runner: ModelRunner) -> None:
        """Raises ValueError where the model has too small a vocabulary."""
        _check(runner)
        self._runner = runner
        self.overlaps = runner.overlaps
        self.num_blocks = runner.num_blocks
        self.block_size = runner.block_size
        self.max_model_len = min(runner.max_model_len, PROMPT_TOKENS + ANSWER_TOKENS)
        self.identity = ModelIdentity("computing", LEAST_VOCAB, "synthetic", self.max_model_len)

    def execute(self, plan: StepPlan, meanwhile: Meanwhile | None = None) -> StepOutput:
        """Compute a step, choice of tokens included, and return what the simulated target says."""
        self._runner.execute(plan, meanwhile)
        return chosen(plan)

    def probe(self) -> None:
        """Compute the smallest step; raises where the model can compute nothing."""
        self._runner.probe()


class ComputingDraftRunner:
    """A `workers.drafting.model_drafter.DraftRunner` that computes, and guesses with synthetic acceptance."""

    def __init__(self, runner: ModelRunner, acceptance: float) -> None:
        """Be right at a share of ``acceptance`` of all positions; raises as ComputingRunner."""
        _check(runner)
        self._runner = runner
        self._acceptance = SettledAcceptance(acceptance)
        self.overlaps = runner.overlaps
        self.num_blocks = runner.num_blocks
        self.block_size = runner.block_size
        self.max_model_len = runner.max_model_len
        self.identity = ModelIdentity("computing", LEAST_VOCAB, "synthetic", self.max_model_len)

    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """Compute the steps, ranking included, and return synthetic guesses in their place."""
        self._runner.rank(plan, guesses, count)
        return [
            [
                self._acceptance.ranked(token(row.params.seed, row.start + len(row.tokens) + number), 0)[:count]
                for number in range(wanted)
            ]
            for row, wanted in zip(plan.rows, guesses, strict=True)
        ]

    def copy_block(self, source: int, destination: int) -> None:
        """Copy the keys and values of one block."""
        self._runner.copy_block(source, destination)


def _check(runner: ModelRunner) -> None:
    if runner.vocab_size < LEAST_VOCAB:
        raise ValueError(f"synthetic texts have ids up to {LEAST_VOCAB}, and the model knows {runner.vocab_size}")
