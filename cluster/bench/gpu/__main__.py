"""How near the device's limits are the steps of target and drafter? ``python -m cluster.bench.gpu``.

Needs a GPU (or ``--device cpu --models tiny``, to see that everything runs), neither a model hub nor Ray: weights are
random, shapes are those of real models. Measures what the device copies and multiplies per second, says for each
step what the floor is and what is expected, and then times it through the runner that serves, from the plan to the
tokens on the host.
"""

import argparse
import gc
import sys
import traceback
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from cluster.bench.gpu.machine import describe_gpu
from cluster.bench.gpu.roofline import Device, floor_of, measure_device
from cluster.bench.gpu.shapes import DRAFTER_CASES, SHAPES, TARGET_CASES, Case, Shape, that_fit
from cluster.bench.gpu.steps import VARIANTS, Timing, predict, time_steps
from cluster.bench.report import save_report
from workers.checkpoint.load import resolve_device

DRAFTERS = ("1b",)
USABLE = 0.92
"""Of a GPU's memory, for weights, keys and values."""
TINY_CASES = (Case(1, 1, 64), Case(3, 5, 64), Case(2, 1, 64, guesses=3))


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["1b", "8b"])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, default=Path("bench-results/gpu.json"))
    arguments = parser.parse_args(words)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu --models tiny shows that the script runs")
    return arguments


def cases_of(model: str, device: torch.device) -> tuple[Case, ...]:
    """Return the steps that are timed of a model: those that a GPU has room for."""
    if model == "tiny":
        return TINY_CASES
    cases = DRAFTER_CASES if model in DRAFTERS else TARGET_CASES
    if device.type != "cuda":
        return cases
    return that_fit(SHAPES[model], cases, int(USABLE * torch.cuda.get_device_properties(device).total_memory))


def print_predictions(console: Console, shape: Shape, cases: Sequence[Case], roofs: Device) -> None:
    """Say what is expected, before anything is timed."""
    for case in cases:
        floor = floor_of(shape, case, roofs)
        expected = ", ".join(f"{v.name} {predict(shape, v, floor) * 1e6:.0f} us" for v in VARIANTS)
        console.print(
            f"{shape.name} {case.name}: floor {floor.seconds * 1e6:.0f} us ({floor.limit}); expected {expected}"
        )


def print_timings(console: Console, timings: Sequence[Timing]) -> None:
    """Print the table; a ratio above its bar, of the variant that serves, is marked."""
    table = Table(
        "model", "step", "variant", "floor us", "limit", "predicted us", "measured us", "device us", "ratio", "bar"
    )
    table.box = box.SIMPLE
    for timing in timings:
        row = timing.to_json()
        keys = ("floor_us", "limit", "predicted_us", "measured_us", "device_us")
        figures = ["" if row[key] is None else str(row[key]) for key in keys]
        bar = timing.case.bar if timing.variant == VARIANTS[-1].name else None
        ratio = f"{timing.ratio:.2f}" + (" missed" if bar is not None and timing.ratio > bar else "")
        table.add_row(timing.model, timing.case.name, timing.variant, *figures, ratio, "" if bar is None else f"{bar}")
    console.print(table)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    arguments = read_arguments(words)
    device = resolve_device(arguments.device)
    console = Console(width=120)
    small = device.type == "cpu"
    roofs = measure_device(device, torch.bfloat16, 1 << (24 if small else 32), 256 if small else 8192)
    console.print(
        f"{roofs.copy_bytes_per_s / 1e9:.0f} GB/s copied, {roofs.matmul_flops / 1e12:.1f} TFLOP/s multiplied (bfloat16)"
    )
    cases = {model: found for model in arguments.models if (found := cases_of(model, device))}
    for model, found in cases.items():
        print_predictions(console, SHAPES[model], found, roofs)
    timings: list[Timing] = []
    if failed := len(cases) < len(arguments.models):
        console.print(f"no room on this GPU: {', '.join(model for model in arguments.models if model not in cases)}")
    for model, variant in product(cases, VARIANTS):
        try:
            for timing in time_steps(SHAPES[model], cases[model], device, roofs, variant):
                timings.append(timing)
                console.print(f"{model} {timing.case.name} {timing.variant}: {timing.measured_s * 1e6:.0f} us")
        except Exception:  # time on a GPU is dear: what else can be timed is
            failed = True
            console.print(f"{model} {variant.name} failed:\n{traceback.format_exc()}")
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print_timings(console, timings)
    roof_figures = {"copy_bytes_per_s": roofs.copy_bytes_per_s, "matmul_flops": roofs.matmul_flops}
    save_report(
        arguments.output,
        "cluster.bench.gpu",
        describe_gpu(device),
        roofs=roof_figures,
        timings=[timing.to_json() for timing in timings],
    )
    if failed:
        sys.exit("some models or variants could not be timed: see above")


if __name__ == "__main__":
    main()
