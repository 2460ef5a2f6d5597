"""What each way of speculating has brought, against what was expected of it.

The formulas leave things out: queues, blocks that meet a step by a hair, drafts cut short. While a way is taken,
the tokens of undisturbed steps are counted against what was expected in their time, and what is expected of the way
from then on is corrected by what came of it. A way that is not taken is slowly believed again.
"""

from cluster.scheduler.settings import Way

SPAN_STEPS = 16
"""Steps after which what was counted is drawn upon."""
GAIN = 0.2
FADE = 0.005
"""Share of a correction that is forgotten per span in which other ways were taken."""
LOWEST, HIGHEST = 0.5, 1.3


class Realised:
    """Corrections by way, and what has been counted for the present one. Times in seconds."""

    def __init__(self) -> None:
        self._shares = dict.fromkeys(Way, 1.0)
        self._way: Way | None = None
        self._goodput = 0.0
        self._last_step: float | None = None
        self._steps = 0
        self._tokens = 0.0
        self._expected = 0.0

    def share(self, way: Way) -> float:
        """Return by what the goodput expected of a way must be multiplied."""
        return self._shares[way]

    def note_step(self, tokens: int, now: float, *, disturbed: bool) -> None:
        """Count a step that has ended, with what it emitted; one that computed prompts too tells nothing."""
        if self._way is None:
            return
        if self._last_step is not None and not disturbed:
            self._steps += 1
            self._tokens += tokens
            self._expected += self._goodput * (now - self._last_step)
        self._last_step = now
        if self._steps >= SPAN_STEPS and self._expected > 0:
            self._draw(min(max(self._tokens / self._expected, LOWEST), HIGHEST))

    def expect(self, way: Way | None, goodput: float) -> None:
        """Say which way is taken from now on (None: nobody is asked), and what is expected of it before correction."""
        if way is not self._way:
            self._restart()
            self._last_step = None
        self._way, self._goodput = way, goodput

    def _draw(self, share: float) -> None:
        for way, known in self._shares.items():
            self._shares[way] += GAIN * (share - known) if way is self._way else FADE * (1.0 - known)
        self._restart()

    def _restart(self) -> None:
        self._steps, self._tokens, self._expected = 0, 0.0, 0.0
