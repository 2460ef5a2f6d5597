"""What each way of speculating has brought, against what was expected of it.

The formulas leave things out: queues, blocks that meet a step by a hair, drafts cut short, drafters that are busy with
what turns out useless. While a way is taken, the tokens of its steps are counted against what was expected in their
time, and what is expected of the way from then on is corrected by what came of it. A way that is not taken is slowly
believed again.
"""

from dataclasses import dataclass

from cluster.scheduler.settings import Way

SPAN_STEPS = 16
"""Steps after which what was counted is drawn upon."""
GAIN = 0.2
"""Weight of the latest span; the first ones weigh as much as all before them."""
FADE = 0.0005
"""Share of a correction that is forgotten per step in which another way was taken, or none, ..."""
WELL_KNOWN = 10
"""... once it rests upon so many spans; before that the sooner, the fewer there were."""
CURIOSITY = 0.15
LOWEST, HIGHEST = 0.1, 1.3


@dataclass(slots=True)
class _Record:
    """What is known of one way, and what has been counted since that was drawn."""

    share: float = 1.0
    spans: float = 0.0
    steps: int = 0
    tokens: float = 0.0
    expected: float = 0.0

    def fade(self) -> None:
        """A step was made in another way: what is known of this one grows old, and new evidence weighs more."""
        self.share += FADE * max(1.0, WELL_KNOWN / (1 + self.spans)) * (1.0 - self.share)
        self.spans *= 1 - FADE

    def count(self, tokens: float, expected: float) -> None:
        """Count a step; after enough of them the share is corrected by what they brought."""
        self.steps += 1
        self.tokens += tokens
        self.expected += expected
        if self.steps < SPAN_STEPS or self.expected <= 0:
            return
        self.spans += 1
        counted = min(max(self.tokens / self.expected, LOWEST), HIGHEST)
        self.share += max(GAIN, 1 / (self.spans + 1)) * (counted - self.share)
        self.steps, self.tokens, self.expected = 0, 0.0, 0.0


class Realised:
    """Corrections by way. Times in seconds of the caller's clock."""

    def __init__(self) -> None:
        self._records = {way: _Record() for way in Way}
        self._way: Way | None = None
        self._goodput = 0.0
        self._last_step = 0.0
        self._settling = 0

    def share(self, way: Way) -> float:
        """Return by what the goodput expected of a way must be multiplied."""
        return self._records[way].share

    def curiosity(self, way: Way) -> float:
        """Return by what a way counts for more among others because little is known of it."""
        return 1.0 + CURIOSITY / (1 + self._records[way].spans)

    def note_step(self, tokens: int, now: float, *, disturbed: bool) -> None:
        """Count a step that has ended, with what it emitted; one that computed prompts too tells nothing."""
        passed, self._last_step = now - self._last_step, now
        for way, record in self._records.items():
            if way is not self._way:
                record.fade()
            elif not disturbed and not self._settling:
                record.count(tokens, self._goodput * passed)
        self._settling = max(self._settling - 1, 0)

    def expect(self, way: Way | None, goodput: float, settling: int) -> None:
        """Say in which way drafters were asked (None: not at all), and what is expected of it, uncorrected.

        ``settling``: steps that belong to neither way where this is another than before.
        """
        if way is not self._way:
            self._settling = settling
        self._way, self._goodput = way, goodput
