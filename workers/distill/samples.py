"""What a draft model learns from: prompts, and what its own target answered to them."""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workers.contract.errors import ConfigurationError

HELD_OUT = 0.02
"""Share of the prompts that training never sees."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of the target, as token ids."""

    prompt: tuple[int, ...]
    output: tuple[int, ...]
    temperature: float
    """With which it was drawn; 0: greedy."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.output)

    @property
    def held_out(self) -> bool:
        """Whether it is kept for evaluation: by the prompt alone, so that no answer to it is ever trained on."""
        digest = hashlib.sha256(",".join(map(str, self.prompt)).encode()).digest()
        return int.from_bytes(digest[:4], "big") < HELD_OUT * 2**32


def read_samples(path: Path, vocab_size: int, max_len: int) -> list[Sample]:
    """Read a file of lines such as ``{"p": [prompt ids], "o": [output ids], "t": temperature}``, or one as ``.gz``.

    What follows position ``max_len`` of a sample is cut off.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not a sample of a vocabulary of that size.
    """
    try:
        with _open(path) as file:
            return [_read(line, f"{path}:{n}", vocab_size, max_len) for n, line in enumerate(file, 1) if line.strip()]
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def append_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples at the end of a file, in the form that is read."""
    with path.open("a", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps({"p": sample.prompt, "o": sample.output, "t": sample.temperature}) + "\n")


def frequent_ids(samples: Iterable[Sample], count: int) -> list[int]:
    """Return the ``count`` token ids that are most frequent in outputs, ascending."""
    counts: Counter[int] = Counter()
    for sample in samples:
        counts.update(sample.output)
    return sorted(token for token, _ in counts.most_common(count))


def split(samples: Seq[Sample]) -> tuple[list[int], list[int]]:
    """Return which samples to train on and which are held out."""
    held = [i for i, sample in enumerate(samples) if sample.held_out]
    kept = set(held)
    return [i for i in range(len(samples)) if i not in kept], held


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _read(line: str, where: str, vocab_size: int, max_len: int) -> Sample:
    try:
        fields = json.loads(line)
        prompt, output = tuple(fields["p"]), tuple(fields["o"])
        temperature = float(fields["t"])
        valid = prompt and output and all(type(i) is int and 0 <= i < vocab_size for i in (*prompt, *output))
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid or not 0 <= temperature <= 2:
        raise ConfigurationError(
            f'{where}: not a sample: expected {{"p": [ids], "o": [ids], "t": temperature}} with ids below {vocab_size}'
        )
    prompt = prompt[: max_len - 1]
    return Sample(prompt, output[: max_len - len(prompt)], temperature)
