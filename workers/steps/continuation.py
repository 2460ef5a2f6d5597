"""Several tokens after each other without waiting for the device: each row goes on with what the model has chosen.

The tokens stay on the device until all of them are there: one copy back for a whole block of guesses. Where the
following ones stand is found there as well (workers/steps/decode_rows.py).
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from workers.contract.step import Row, StepPlan
from workers.device import has_kernels
from workers.input_batch import InputBatch
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import in_order, ranked_ids
from workers.sampling.proposal import Kinds, Proposer
from workers.steps.decode_rows import going, standing

Rank = Callable[[Tensor, int], Tensor]
"""(logits of the first n rows, step of a block) -> ids ``[n, 1 + k]``, as `workers.sampling.coupled.ranked_ids`."""


class Decoder(Protocol):
    """What computes, and tells for each row what may come next."""

    def pack(self, plan: StepPlan, ahead: int = 0) -> InputBatch:
        """Pack a step whose block table has pages for so many positions behind each row."""

    def logits(self, batch: InputBatch) -> Tensor | None:
        """Compute a packed step; return the logits of its sampled positions, None without any."""

    def decoding(self, batch: InputBatch, last: Seq[int]) -> Callable[[Tensor], Tensor]:
        """Return what computes the next token of each row, see `workers.steps.forward.Forward.decoding`."""


class Continuation:
    """Lets the rows of a step go on with their choices."""

    def __init__(self, decoder: Decoder, ids: Tensor, vocab_size: int) -> None:
        """``ids``: the target's id of each logit, ascending, on the model's device."""
        self._decoder = decoder
        self._device = ids.device
        self._all_ids = len(ids) == vocab_size
        self._proposer = Proposer(ids, vocab_size)

    @torch.inference_mode()
    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """Run a plan, and further steps until row i has chosen ``guesses[i]`` tokens.

        Row i samples after its last token where ``guesses[i]`` is above 0, else nowhere; it has blocks for all of its
        guesses but the last. Returns for each row and guess the ``count`` likeliest tokens, the choice first.
        """
        order = sorted(range(len(guesses)), key=lambda i: -guesses[i])
        rows = [plan.rows[i] for i in order]
        batch = self._decoder.pack(StepPlan(tuple(rows)))
        logits = self._decoder.logits(batch)
        if logits is None:
            return [[] for _ in guesses]
        counts = going(guesses)
        rank = self._ranking(batch, rows[: counts[0]], len(counts), count)
        ranked = [rank(logits, 0)]
        if len(counts) > 1:
            wanted = [guesses[i] for i in order[: counts[1]]]
            following = self._following(rows[: counts[1]], wanted)
            for step, n in enumerate(counts[1:], 1):
                ranked.append(rank(following(ranked[-1][:n, 0])[:n], step))
        chosen = iter(in_order(torch.cat(ranked).tolist()))
        lines: list[list[list[int]]] = [[] for _ in guesses]
        for n in counts:
            for place in order[:n]:
                lines[place].append(next(chosen))
        return lines

    def _following(self, rows: Seq[Row], guesses: Seq[int]) -> Callable[[Tensor], Tensor]:
        """Return what computes the tokens of rows that go on, the last of which nobody feeds."""
        ends = [row.start + len(row.tokens) for row in rows]
        plan, ahead, last = standing(ends, [row.block_ids for row in rows], guesses)
        return self._decoder.decoding(self._decoder.pack(plan, ahead), last)

    def _ranking(self, batch: InputBatch, rows: Seq[Row], length: int, count: int) -> Rank:
        """Return what ranks the tokens of blocks, without a word from the device where blocks are more than a token.

        What is exact asks the device which rows are cut by top-k, top-p or min-p, if any are.
        """
        sampling = batch.sampling_batch(self._device)
        if self._all_ids and (not has_kernels(self._device) or not sampling.may_truncate):
            return lambda logits, step: ranked_ids(logits, _at(sampling, len(logits), step), count)
        block = self._proposer.block(sampling, length, Kinds.of(row.params for row in rows))

        def propose(logits: Tensor, step: int) -> Tensor:
            best = block.rank(logits, step, count)
            return torch.cat((best[:, :1], best), -1)

        return propose


def _at(sampling: SamplingBatch, count: int, step: int) -> SamplingBatch:
    """Return how the tokens of the first rows are chosen so many positions further on."""
    first = sampling[slice(count)]
    return replace(first, position=first.position + step)
