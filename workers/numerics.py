"""Equal logits for equal tokens: how a forward pass is kept independent of its batch, bit for bit.

The token at a position is a function of the logits there, so text can only be the same with speculation
and without, alone and in company, if the logits are. Matrix kernels choose their blocking by the number of
rows, and another blocking adds in another order. On CPUs this runner keeps every row's arithmetic the same:

1. Linear layers run on weights laid out once, some rows at a time: workers/layers/packed_linears.py.
2. A linear layer is never given a single row (the head included), nor attention a single query: both have
   kernels of their own for that. Batches are filled up to MIN_ROWS with a copy of their last token.
3. The number of keys that a query sees is a function of its position alone: workers/attention/segments.py.
4. Which other numbers of rows, and of queries, have bits of their own is tried at load, and they are filled up or cut:
   workers/alike.py.

On GPUs rule 3 holds with Triton's attention (workers/kernels/paged_attention.py). Libraries choose kernels for linear
layers by the number of rows; ``batch_invariant`` in the settings lets kernels of ours compute them, and experts. Norms
are right where layers are fused (workers/layers/fused_layers.py). The number of rows does not matter then.

What is promised is checked at load, on the model and the machine at hand: ``logits_are_invariant``.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan

ARITHMETIC = ("attention", "kernels", "layers", "sampling", "steps")
"""The rooms of this package that decide what is computed, and in which order."""
MIN_ROWS = 2
"""Tokens, and sampled positions, that a step is filled up to."""


def numerics_class(weights_digest: str, dtype: torch.dtype, device: torch.device, attention: str, tp_size: int) -> str:
    """Name what the bits of a logit depend on: replicas with equal names give equal text.

    On a CPU that is the instruction set and the number of threads too, which choose among kernels. While versions of
    this software, or of a library, take each other's place, old replicas and new ones have different names.
    """
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device).replace(" ", "-")
    else:
        amx = "-amx" if torch.cpu._is_amx_tile_supported() else ""
        kind = f"cpu-{torch.backends.cpu.get_cpu_capability().lower()}{amx}-{torch.get_num_threads()}threads"
    precision = str(dtype).removeprefix("torch.")
    return "/".join((weights_digest[:16], precision, f"tp{tp_size}", kind, attention, *_software()))


@cache
def _software() -> tuple[str, ...]:
    """Name what computes: the libraries, and our own arithmetic."""
    own = source_digest(Path(__file__).parent)
    return f"torch-{torch.__version__}", f"transformers-{version('transformers')}", own[:8]


def source_digest(root: Path) -> str:
    """Return a digest of the source under ``root`` that decides about bits: another one, whatever in it was changed."""
    digest = sha256()
    for path in sorted(file for room in ARITHMETIC for file in (root / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_CHECKED_TOKENS = 100
_PARTS = (33, 1, 17, 1, 1, 5, 2, 40)
"""How the second run cuts the checked sequence; every other one of its steps has a companion."""


def logits_are_invariant(
    forward: Callable[[StepPlan], Tensor], vocab_size: int, block_size: int, max_model_len: int
) -> bool:
    """Compare the logits of one sequence computed at once with those of the same one in parts.

    ``forward`` returns the logits of a plan's sampled positions ``[num_samples, vocab]``. Overwrites the first
    ``num_checked_blocks`` KV blocks.
    """
    pages = -(-_CHECKED_TOKENS // block_size)
    tokens = [(7 + 31 * i * i) % vocab_size for i in range(min(_CHECKED_TOKENS, max_model_len))]
    whole = forward(StepPlan((_row(tokens, 0, range(pages)),))).clone()
    equal = [torch.equal(whole[at : at + len(part)], part) for at, part in _in_parts(forward, tokens, pages)]
    return all(equal)  # after all steps: other ranks run them along


def num_checked_blocks(block_size: int) -> int:
    """Return how many KV blocks ``logits_are_invariant`` writes to."""
    return 3 * -(-_CHECKED_TOKENS // block_size)


def _in_parts(forward: Callable[[StepPlan], Tensor], tokens: Sequence[int], pages: int) -> Iterator[tuple[int, Tensor]]:
    start = 0
    for number, length in enumerate(_PARTS):
        part = tokens[start : start + length]
        if not part:
            return
        row = _row(part, start, range(pages, 2 * pages))
        companion = _row(tokens[: 3 + 8 * number], 0, range(2 * pages, 3 * pages))
        logits = forward(StepPlan((companion, row) if number % 2 else (row,)))
        yield start, logits[-len(part) :]
        start += length


def _row(tokens: Sequence[int], start: int, blocks: range) -> Row:
    return Row(0, tokens, start, blocks, len(tokens), SamplingParams(temperature=0.0))
