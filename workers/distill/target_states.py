"""The target's hidden states at every position of every sample, computed once and kept on disk.

They are what a draft model reads and, those after the last layer, what it should have said: head and norm make
the target's whole distribution of them, at a fraction of a forward pass and of the space of logits.
"""

import json
from collections.abc import Callable
from collections.abc import Sequence as Seq
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workers.contract.errors import ConfigurationError
from workers.contract.features import FeatureSpec
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan
from workers.distill.samples import Sample
from workers.model_runner import ModelRunner
from workers.states.feature_store import FeatureStore

TOKENS_AT_ONCE = 2048
_UNUSED = SamplingParams(temperature=0.0)


class TargetStates:
    """A file of states of all samples, bfloat16 ``[positions, width]``, and which samples are in it already."""

    def __init__(self, folder: Path, samples: Seq[Sample], layers: tuple[int, ...], size: int, key: str) -> None:
        """Open the file in ``folder``, or begin it: ``width`` is ``size`` for each of ``layers``.

        ``key``: what the states depend on besides; a file made for another key is begun anew.

        Raises:
            ConfigurationError: there is no room on the disk.
        """
        self.layers = layers
        self.size = size
        self.width = len(layers) * size
        self._samples = samples
        self._offsets = np.concatenate(([0], np.cumsum([len(sample) for sample in samples])))
        folder.mkdir(parents=True, exist_ok=True)
        self._done_path = folder / "states.json"
        described = {"key": key, "layers": list(layers), "size": size, "positions": int(self._offsets[-1])}
        known = json.loads(self._done_path.read_text()) if self._done_path.exists() else {}
        same = {name: known.get(name) for name in described} == described
        self._described = described
        self._done: set[int] = set(known["done"]) if same else set()
        path = folder / "states.bin"
        try:
            self._file = np.memmap(
                path,
                dtype=np.uint16,
                mode="r+" if same and path.exists() else "w+",
                shape=(int(self._offsets[-1]), self.width),
            )
        except OSError as error:
            gigabytes = self._offsets[-1] * self.width * 2 / 1e9
            raise ConfigurationError(f"{path} needs {gigabytes:.1f} GB: {error}") from error

    def missing(self, chosen: Seq[int]) -> list[int]:
        """Return which of the chosen samples have no states yet."""
        return [i for i in chosen if i not in self._done]

    def of(self, index: int) -> Tensor:
        """Return the states of a sample, bfloat16 ``[its length, width]``."""
        part = self._file[self._offsets[index] : self._offsets[index + 1]]
        return torch.from_numpy(np.array(part)).view(torch.bfloat16)

    def compute(self, runner: ModelRunner, chosen: Seq[int], advance: Callable[[int], None] = lambda n: None) -> None:
        """Run the target over chosen samples that have no states; ``advance`` learns of positions done."""
        spec = FeatureSpec(self.layers, self.size, window=max(map(len, self._samples)))
        store = FeatureStore(TOKENS_AT_ONCE, runner.block_size, runner.has_features)
        runner.keep_features(store)
        store.acquire(spec)
        runner.execute(StepPlan((Row(0, [0], 0, range(1), 0, _UNUSED),)))  # it listens from the step after
        for number, batch in enumerate(self._in_steps(self.missing(chosen)), 1):
            rows, block = [], 0
            for i in batch:
                tokens = self._samples[i].prompt + self._samples[i].output
                blocks = range(block, block + -(-len(tokens) // runner.block_size))
                rows.append(Row(i + 1, tokens, 0, blocks, 0, _UNUSED))
                block = blocks.stop
            runner.execute(StepPlan(tuple(rows)))
            for i in batch:
                length = len(self._samples[i])
                states = np.frombuffer(store.of_tokens(i + 1, 0, length + 1), np.uint16)
                self._file[self._offsets[i] : self._offsets[i + 1]] = states.reshape(length, self.width)
                advance(length)
            self._done.update(batch)
            if number % 50 == 0:
                self._save()
        self._save()
        store.release()

    def _in_steps(self, indices: Seq[int]) -> list[list[int]]:
        steps: list[list[int]] = []
        room = 0
        for i in sorted(indices, key=lambda i: len(self._samples[i])):
            length = len(self._samples[i])
            if not steps or length > room:
                steps.append([])
                room = TOKENS_AT_ONCE
            steps[-1].append(i)
            room -= length
        return steps

    def _save(self) -> None:
        self._file.flush()
        self._done_path.write_text(json.dumps({**self._described, "done": sorted(self._done)}))
