"""Times steps of a model, by the runner that serves, and holds them against their floors."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cluster.bench.gpu.roofline import Device, Floor, floor_of, time_call, time_queued
from cluster.bench.gpu.shapes import Case, Shape, cache_bytes
from workers.checkpoint.random_weights import random_causal_lm
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.drafting.fan_out import RANKS
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

GREEDY = SamplingParams(temperature=0.0)
LAUNCH_S = 5e-6
"""What a kernel costs that Python launches; only predictions use it, as they use what follows."""
GAP_S = 1e-6
"""Between two kernels of a graph."""
EFFICIENCY = 0.9
"""The share of a roof that a good kernel reaches."""

ROWS_AT_ONCE = 8
"""Contexts that are computed together."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run the model."""

    name: str
    settings: dict[str, Any]
    kernels_per_layer: int
    replayed: bool = False
    """Whether a graph launches them, not Python."""


VARIANTS = (
    Variant("gather", {"attention": "gather", "fused_layers": False, "cuda_graphs": False}, 60),
    Variant("unfused", {"fused_layers": False, "cuda_graphs": False}, 44),
    Variant("fused", {"cuda_graphs": False}, 9),
    Variant("invariant", {"batch_invariant": True, "cuda_graphs": True}, 9, replayed=True),
    Variant("graphs", {"cuda_graphs": True}, 9, replayed=True),
)
"""Bars are held against the last one."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One cell of the table."""

    model: str
    variant: str
    case: Case
    floor: Floor
    predicted_s: float
    measured_s: float
    device_s: float | None = None
    """Without waiting for the host, choice of tokens left out; None: not measured."""

    @property
    def ratio(self) -> float:
        """Measured time over the floor."""
        return self.measured_s / self.floor.seconds

    def to_json(self) -> dict[str, Any]:
        """Return the timing as a report holds it."""
        return {
            "model": self.model,
            "variant": self.variant,
            "case": self.case.name,
            "context": self.case.context,
            "floor_us": round(self.floor.seconds * 1e6, 1),
            "limit": self.floor.limit,
            "predicted_us": round(self.predicted_s * 1e6, 1),
            "measured_us": round(self.measured_s * 1e6, 1),
            "device_us": None if self.device_s is None else round(self.device_s * 1e6, 1),
            "ratio": round(self.ratio, 3),
            "bar": self.case.bar,
        }


def predict(shape: Shape, variant: Variant, floor: Floor) -> float:
    """Return the seconds that a step is expected to take.

    The device's work, and the gaps within a graph, or Python's launches where those take longer.
    """
    kernels = shape.layers * variant.kernels_per_layer
    work = floor.seconds / EFFICIENCY
    return work + kernels * GAP_S if variant.replayed else max(work, kernels * LAUNCH_S)


def time_steps(
    shape: Shape, cases: Sequence[Case], device: torch.device, roofs: Device, variant: Variant
) -> Iterator[Timing]:
    """Yield the timings of one model, run in one way."""
    dtype = torch.bfloat16
    with TemporaryDirectory() as folder:
        loaded = random_causal_lm(Path(folder), "llama", shape.config(), dtype, device)
        settings = RunnerSettings(model=folder, kv_cache_bytes=cache_bytes(shape, cases), **variant.settings)
        runner = ModelRunner(loaded, settings)
        fill_contexts(runner, max(case.rows for case in cases), cases[0].context)
        for case in cases:
            floor, plan = floor_of(shape, case, roofs, dtype.itemsize), plan_of(case, runner)
            guesses = [case.guesses] * case.rows
            step = partial(runner.rank, plan, guesses, RANKS) if case.guesses else partial(runner.execute, plan)
            measured = time_call(step, device) / max(case.guesses, 1)
            alone = None if case.guesses else time_queued(partial(runner.logits, runner.pack(plan)), device)
            yield Timing(shape.name, variant.name, case, floor, predict(shape, variant, floor), measured, alone)


def plan_of(case: Case, runner: ModelRunner) -> StepPlan:
    """Return a step of verification rows, each at the end of a context of its own, all choices greedy."""
    pages = -(-case.context // runner.block_size)
    start = case.context - case.tokens - max(case.guesses - 1, 0)
    rows = (
        Row(i, [1] * case.tokens, start, array("i", range(i * pages, (i + 1) * pages)), case.tokens, GREEDY)
        for i in range(case.rows)
    )
    return StepPlan(tuple(rows))


def fill_contexts(runner: ModelRunner, rows: int, context: int) -> None:
    """Compute what rows have before the timed steps: zeros would be read and multiplied faster."""
    pages = -(-context // runner.block_size)
    for first in range(0, rows, ROWS_AT_ONCE):
        feeds = (
            Row(i, [(31 * i + 7 * j) % 256 for j in range(context)], 0, range(i * pages, (i + 1) * pages), 0, GREEDY)
            for i in range(first, min(rows, first + ROWS_AT_ONCE))
        )
        runner.execute(StepPlan(tuple(feeds)))
