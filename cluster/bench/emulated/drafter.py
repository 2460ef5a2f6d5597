"""A drafter whose guesses are synthetic and whose steps take a given time; everything around it is real.

Run as a child: ``python -m cluster.bench.emulated.drafter`` with a cell's arguments; prints ``ready HOST:PORT``.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq

from cluster.bench.emulated.cell import FREE_ROWS, add_arguments, from_arguments
from cluster.bench.emulated.pause import pause_until
from cluster.bench.emulated.serving import serve_drafter
from cluster.simulator.synthetic import VOCAB_SIZE, SyntheticAcceptance, SyntheticDrafter
from workers.drafting.drafter import Advance, DraftState
from workers.drafting.fan_out import RANKS
from workers.settings import DrafterSettings


class SettledAcceptance(SyntheticAcceptance):
    """Whether a guess is right depends on the text alone, as with a model: on which token is the true one.

    True tokens are evenly spread and independent of each other, and so is this luck. Asking twice does not help,
    and all modes of a benchmark have the same luck with the same text, so that it cancels out between them.
    """

    def __init__(self, rate: float) -> None:
        """Be right for a share of ``rate`` of all tokens."""
        super().__init__([rate], random.Random(0))

    def ranked(self, true: int, position: int) -> list[int]:
        """Return a drafter's first choices where ``true`` is what the target says."""
        choices = [self.wrong + rank for rank in range(RANKS)]
        luck = (true + 0.5) / VOCAB_SIZE
        rate = self.rates[0]
        shares = [rate, *(share * (1 - rate) for share in self.corrections)]
        for rank, share in enumerate(shares):
            if luck < share:
                choices[rank] = true
                break
            luck -= share
        return choices


class EmulatedDrafter:
    """A `workers.drafting.drafter.Drafter` that takes its time."""

    runs_ahead = True

    def __init__(self, rate: float, step_s: Callable[[int], float]) -> None:
        """Guess right at each position with probability ``rate``; a step of so many rows takes ``step_s`` seconds."""
        self._guesser = SyntheticDrafter(SettledAcceptance(rate))
        self._step_s = step_s
        self.identity = self._guesser.identity
        self.steps = 0
        self.rows = 0
        """Guesses made, over all steps: what would have been computed."""

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Guess one more token for every unfinished lane, in the time that it would take."""
        started = time.monotonic()
        advance = self._guesser.advance(wanting)
        self.steps += 1
        self.rows += sum(self._guesser.rows)
        pause_until(started + sum(map(self._step_s, self._guesser.rows)))
        return advance

    def forget(self, state: DraftState) -> None:
        """Nothing is kept."""


def main() -> None:
    """Run the drafter until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--acceptance", type=float, required=True)
    arguments = parser.parse_args()
    drafter = EmulatedDrafter(arguments.acceptance, from_arguments(arguments).hardware().draft_step_s)
    asyncio.run(serve_drafter(drafter, DrafterSettings(run_ahead_rows=FREE_ROWS)))


if __name__ == "__main__":
    main()
