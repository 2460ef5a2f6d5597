"""A runner with random weights in a shape of `shapes`, as the processes of the benchmark make it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cluster.bench.gpu.shapes import SHAPES
from workers.checkpoint.load import resolve_device
from workers.checkpoint.random_weights import random_causal_lm
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a child's parser read which model it is to make."""
    parser.add_argument("--model", choices=SHAPES, required=True)
    parser.add_argument("--settings", default="{}", help="RunnerSettings as JSON; the model's name is not used")


@contextmanager
def random_runner(arguments: argparse.Namespace) -> Iterator[ModelRunner]:
    """Make what `add_arguments` reads."""
    settings = RunnerSettings.model_validate_json(arguments.settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = resolve_device(settings.device)
    with TemporaryDirectory() as folder:
        shape = SHAPES[arguments.model].config()
        yield ModelRunner(random_causal_lm(Path(folder), "llama", shape, torch.bfloat16, device), settings)
