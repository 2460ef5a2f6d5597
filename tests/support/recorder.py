"""Stands in for CUDA graphs, on machines that have none."""

import pytest
import torch

from workers.input_batch import Computed
from workers.steps import device_steps
from workers.steps.cuda_graphs import CudaGraphs


class Recorder:
    """Keeps what was computed in one place, as a graph does, and counts."""

    def __init__(self):
        self.replays = self.recordings = 0
        self.full = False
        """Whether there is no memory left."""

    def __call__(self, run):
        if self.full:
            raise torch.OutOfMemoryError("out of memory")
        self.recordings += 1
        logits, states = run()
        out = Computed(logits.clone(), None if states is None else states.clone())

        def replay():
            self.replays += 1
            for kept, now in zip(out, run(), strict=True):
                if kept is not None and now is not None:  # nobody listens: a graph would go on keeping states
                    kept.copy_(now)
            return out

        return replay


def use_recorder(monkeypatch, buckets, recorder):
    """Let runners that are made from now on record by a stand-in, in a few shapes."""
    monkeypatch.setattr(device_steps, "all_buckets", lambda: list(buckets))
    monkeypatch.setattr(device_steps, "CudaGraphs", lambda *arguments: CudaGraphs(*arguments, record=recorder))


def record(runner, buckets, recorder=None):
    """Let a model runner that has recorded nothing record; return how."""
    recorder = recorder or Recorder()
    with pytest.MonkeyPatch.context() as patch:
        use_recorder(patch, buckets, recorder)
        runner._forward.record()
    return recorder
