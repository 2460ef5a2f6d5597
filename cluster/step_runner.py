"""What the engine runs steps on, and what becomes of a step that failed: only the rows to blame fail."""

import logging
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from workers.contract.errors import TargetBrokenError
from workers.contract.identity import ModelIdentity
from workers.contract.logprobs import RowLogprobs
from workers.contract.step import Row, StepOutput, StepPlan

log = logging.getLogger(__name__)


Meanwhile = Callable[[], None]
"""The host's work while the device computes."""


class StepRunner(Protocol):
    """What the engine needs of a model: `workers.model_runner.ModelRunner` is the one that users get."""

    identity: ModelIdentity
    num_blocks: int
    block_size: int
    max_model_len: int
    overlaps: bool
    """Whether a step runs on a device of its own, beside whatever its host does."""

    def execute(self, plan: StepPlan, meanwhile: Meanwhile | None = None) -> StepOutput:
        """Run one step and return the model's choices.

        ``meanwhile`` is called at most once, in this thread, while the device computes; it must not raise. Only for
        runners that overlap.

        What it raises leaves the model as it was, so that the step may be run again, but for TargetBrokenError.
        """

    def probe(self) -> None:
        """Run the smallest step there is, which concerns no request; raises where the model can compute nothing."""


@dataclass(frozen=True, slots=True)
class EndedStep:
    """A step that the model is done with. Times are those of the engine's clock."""

    plan: StepPlan
    output: StepOutput
    started: float
    at: float


@dataclass(slots=True)
class _Outcome:
    """What came of one row."""

    sampled: list[int]
    logprobs: RowLogprobs | None = None
    error: str | None = None


def salvage(runner: StepRunner, plan: StepPlan, failure: Exception) -> StepOutput:
    """Run the rows of a step that failed again, in halves of halves, and return errors for those that fail alone.

    A row writes the same keys and values wherever it is computed, so neighbours of a bad one keep their text.

    Raises:
        TargetBrokenError: no row can be computed, nor a step that concerns none of them.
    """
    log.error("a step of %d rows failed; they are run again in parts", len(plan.rows), exc_info=failure)
    outcomes = list(_in_parts(runner, plan.rows, failure))
    errors = {i: outcome.error for i, outcome in enumerate(outcomes) if outcome.error is not None}
    if len(errors) == len(outcomes):
        try:
            runner.probe()
        except Exception as error:
            raise TargetBrokenError(f"the model cannot compute any more: {error}") from error
    logprobs = {i: outcome.logprobs for i, outcome in enumerate(outcomes) if outcome.logprobs is not None}
    return StepOutput([outcome.sampled for outcome in outcomes], logprobs, errors)


def _in_parts(runner: StepRunner, rows: Seq[Row], failure: Exception) -> Iterator[_Outcome]:
    """Yield what comes of each of some rows that failed together."""
    if len(rows) == 1:
        yield _Outcome([], error=f"the model step failed: {type(failure).__name__}")
        return
    middle = len(rows) // 2
    for part in (rows[:middle], rows[middle:]):
        try:
            output = runner.execute(StepPlan(tuple(part)))
        except TargetBrokenError:
            raise
        except Exception as error:
            yield from _in_parts(runner, part, error)
        else:
            for i, sampled in enumerate(output.sampled):
                yield _Outcome(sampled, output.logprobs.get(i), output.errors.get(i))
