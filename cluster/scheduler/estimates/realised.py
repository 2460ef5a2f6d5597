"""What each way of speculating has brought, against what was expected of it.

The formulas leave things out: queues, blocks that meet a step by a hair, drafts cut short. While a way is taken,
its tokens per second are measured over spans of undisturbed steps, and what is expected of it the next time is
corrected by what came of it. A way that is not taken is slowly believed again.
"""

from cluster.scheduler.settings import Way

SPAN_STEPS = 8
GAIN = 0.15
FADE = 0.004
"""Share of a correction that is forgotten per span in which other ways were taken."""
LOWEST, HIGHEST = 0.5, 1.3


class Realised:
    """Corrections by way, and the span that is being measured. Times in seconds."""

    def __init__(self) -> None:
        self._shares = dict.fromkeys(Way, 1.0)
        self._way: Way | None = None
        self._expected = 0.0
        self._since: float | None = None
        self._steps = 0
        self._tokens = 0

    def share(self, way: Way) -> float:
        """Return by what the goodput expected of a way must be multiplied."""
        return self._shares[way]

    def expect(self, way: Way | None, goodput: float) -> None:
        """Say what is expected from now on, before correction; another way than before begins another span."""
        if way is not self._way:
            self.disturb()
        self._way, self._expected = way, goodput

    def disturb(self) -> None:
        """The span under way tells nothing: prompts were computed, nobody was asked, others run."""
        self._since = None

    def note_step(self, tokens: int, now: float) -> None:
        """Count a step that has ended, with what it emitted."""
        if self._way is None or self._expected <= 0:
            return
        if self._since is None:
            self._since, self._steps, self._tokens = now, 0, 0
            return
        self._steps += 1
        self._tokens += tokens
        if self._steps < SPAN_STEPS or now <= self._since:
            return
        share = min(max(self._tokens / (now - self._since) / self._expected, LOWEST), HIGHEST)
        for way, known in self._shares.items():
            self._shares[way] += GAIN * (share - known) if way is self._way else FADE * (1.0 - known)
        self._since = None
