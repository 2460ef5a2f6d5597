"""What is emulated: one point of the benchmark's range, and what steps and drafts take there."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from cluster.simulator.hardware import Hardware

SHAPES = ("weights", "cache")
"""What a target's step spends its time on: reading weights, whoever shares the step, or reading the sequences' keys
and values."""
STEP_S = 0.03
"""A step of plain decoding: long enough that some tenths of a millisecond here and there do not matter."""
PROMPT_TOKENS = 16
ANSWER_TOKENS = 200
DRAFT_LENGTH = 4
"""K, where a mode fixes it; the most that the adaptive mode may ask for."""
FREE_POSITIONS = 160
"""Positions that a step computes in the time it takes to read the weights."""
FREE_ROWS = 256
"""Guesses that a drafter's step makes in the time that it takes for one."""
BARE_STEP_S = 0.002
"""Where keys and values decide: what a step takes beside reading them."""
MEAN_CONTEXT = PROMPT_TOKENS + ANSWER_TOKENS / 2
"""Of a sequence, over its life."""
SETTLE_S = 0.3
"""Until requests that are sent at once have all begun to decode, reading the prompts aside."""
ROUND_TRIP_SHARE = 0.3
"""Of the time from an order to its block; drafting K tokens takes the rest."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A shape of costs, how long drafts take in it, and how many requests there are at once."""

    shape: str
    share: float
    """Draft time and round trip of a block of K tokens, over the time of a plain step."""
    concurrency: int
    step_s: float = STEP_S

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {self.shape!r}")
        if self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {self.concurrency}")
        if not self.share > 0:
            raise ValueError(f"share must be above 0, got {self.share}")
        if not self.step_s > BARE_STEP_S:
            raise ValueError(f"step_s must be above {BARE_STEP_S}, got {self.step_s}")

    @property
    def block_s(self) -> float:
        """Seconds from an order to its block, what real links and processes add to it aside."""
        return self.share * self.step_s

    @property
    def settle_s(self) -> float:
        """Seconds at the beginning of a span in which prompts are read."""
        return SETTLE_S + self.step_s * self.concurrency * MEAN_CONTEXT / FREE_POSITIONS

    def hardware(self) -> Hardware:
        """Return the emulated costs, as the simulator has them too."""
        token_s = self.block_s * (1 - ROUND_TRIP_SHARE) / DRAFT_LENGTH
        return Hardware(
            step_s=self._weights() if self.shape == "weights" else self._cache(),
            draft_step_s=lambda rows: token_s * max(1.0, rows / FREE_ROWS),
            round_trip_s=self.block_s * ROUND_TRIP_SHARE,
        )

    def arguments(self) -> list[str]:
        """Return the cell as a child's command line has it; `add_arguments` reads it."""
        named = {"shape": self.shape, "share": self.share, "concurrency": self.concurrency, "step-s": self.step_s}
        return [f"--{name}={value}" for name, value in named.items()]

    def _weights(self) -> Callable[[int, int], float]:
        return lambda positions, context: self.step_s * max(1.0, positions / FREE_POSITIONS)

    def _cache(self) -> Callable[[int, int], float]:
        usual = self.concurrency * MEAN_CONTEXT
        return lambda positions, context: BARE_STEP_S + (self.step_s - BARE_STEP_S) * context / usual


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a child's parser read what `Cell.arguments` writes."""
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--step-s", type=float, required=True)


def from_arguments(arguments: argparse.Namespace) -> Cell:
    """Return the cell that was read. Raises ValueError where it makes no sense."""
    return Cell(arguments.shape, arguments.share, arguments.concurrency, arguments.step_s)
