"""From the logits of a step to its output: the model's choice at each sampled position, and what is said of it.

Rows without processors and log-probabilities take the short way: one batched choice, one copy back. For the
others rank 0 needs whole logits, and it alone keeps what processors remember.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from workers.contract.errors import GrammarError
from workers.contract.logprobs import RowLogprobs
from workers.contract.step import Row, StepOutput, StepPlan
from workers.input_batch import InputBatch
from workers.process_group import ProcessGroup
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import choose_local, choose_tokens
from workers.sampling.logits_processors import LogitsProcessors
from workers.sampling.logprobs import token_logprobs

log = logging.getLogger(__name__)


class StepSampler:
    """Chooses for one model, whose vocabulary may be sharded over the ranks of a group."""

    def __init__(self, vocab_size: int, device: torch.device, group: ProcessGroup | None = None) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._group = group
        self._first_id = 0 if group is None else group.share(vocab_size).start
        self._processors = LogitsProcessors()

    @torch.inference_mode()
    def sample(
        self, plan: StepPlan, batch: InputBatch, logits: Tensor | None, meanwhile: Callable[[], None] | None = None
    ) -> StepOutput:
        """Return a step's output on rank 0.

        Args:
            plan: the step.
            batch: the same, packed.
            logits: this rank's share of ``[N, vocab]``, None without any.
            meanwhile: called before the choices are read, for which the host waits; rows that it looks at one by
                one are waited for earlier.
        """
        if logits is None:
            if meanwhile is not None:
                meanwhile()
            return StepOutput([[] for _ in plan.rows])
        sampling = batch.sampling_batch(self._device)
        logprobs: dict[int, RowLogprobs] = {}
        errors: dict[int, str] = {}
        ids = torch.zeros(len(sampling), dtype=torch.int64, device=self._device)
        special = self._special(batch)
        if special is None:
            self._choose(logits, sampling, ids)
        else:
            whole = self._choose(logits, sampling, ids, special)
            assert whole is not None
            ids[special] = self._process(plan, whole, sampling[special], logprobs, errors)
        if meanwhile is not None:
            meanwhile()
        flat = ids.tolist()
        sampled, at = [], 0
        for row in plan.rows:
            at += row.num_logits
            sampled.append(flat[at - row.num_samples : at])
        return StepOutput(sampled, logprobs, errors)

    @torch.inference_mode()
    def follow(self, batch: InputBatch, logits: Tensor | None) -> None:
        """Take part in a step on a rank other than 0."""
        if logits is not None:
            sampling = batch.sampling_batch(self._device)
            ids = torch.zeros(len(sampling), dtype=torch.int64, device=self._device)
            self._choose(logits, sampling, ids, self._special(batch))

    def _special(self, batch: InputBatch) -> Tensor | None:
        """Return the positions that rank 0 looks at one by one, as a mask; None where there are none."""
        whole = batch.whole_logits
        return torch.from_numpy(whole).to(self._device) if whole.any() else None

    def _choose(
        self, logits: Tensor, sampling: SamplingBatch, ids: Tensor, special: Tensor | None = None
    ) -> Tensor | None:
        """Put the choices of all but the special positions into ``ids``; return whole rows of the special ones.

        On a sharded head, rows that are cut by probability are whole only on rank 0, and so is the answer.
        """
        ordinary = torch.ones_like(sampling.greedy) if special is None else ~special
        if self._group is None:
            if special is None:
                ids[:] = choose_tokens(logits, sampling)
                return None
            if bool(ordinary.any()):
                ids[ordinary] = choose_tokens(logits[ordinary], sampling[ordinary])
            return logits[special].float()
        if special is None and not sampling.may_truncate:  # the device need not be asked which rows are which
            ids[:] = self._group.best(*choose_local(logits, sampling, self._first_id))
            return None
        local = ordinary & ~sampling.truncated
        if bool(local.any()):
            values, best = choose_local(logits[local], sampling[local], self._first_id)
            ids[local] = self._group.best(values, best)
        gathered = ~local
        if not bool(gathered.any()):
            return None
        whole = self._group.gather_logits(logits[gathered], self._vocab_size)
        if whole is None:
            return None
        cut = ordinary[gathered]
        if bool(cut.any()):
            ids[gathered & ordinary] = choose_tokens(whole[cut], sampling[gathered & ordinary])
        return whole[~cut].float()

    def _process(
        self,
        plan: StepPlan,
        raw: Tensor,
        sampling: SamplingBatch,
        logprobs: dict[int, RowLogprobs],
        errors: dict[int, str],
    ) -> Tensor:
        """Return the choices of the special rows, whose positions ``raw`` holds one behind the other.

        One request's processing that fails must not take its neighbours down: its row gets an error instead.
        """
        spans = _spans(plan)
        processed = raw.clone() if any(row.processing for _, row, _, _ in spans) else raw
        for index, row, middle, last in spans:
            if row.processing is not None and row.num_samples:
                with _isolated(row, index, errors):
                    self._processors.apply(processed[middle:last], row, row.processing)
        ids = torch.zeros(len(raw), dtype=torch.int64, device=raw.device)
        sampled = torch.tensor([i for _, _, middle, last in spans for i in range(middle, last)], dtype=torch.int64)
        if len(sampled):
            ids[sampled] = choose_tokens(processed[sampled], sampling[sampled])
        for index, row, middle, last in spans:
            if row.num_logprobs is not None and index not in errors:
                with _isolated(row, index, errors):
                    logprobs[index] = RowLogprobs(
                        token_logprobs(raw[middle - len(row.scored) : middle], row.scored, row.num_logprobs),
                        token_logprobs(raw[middle:last], ids[middle:last].tolist(), row.num_logprobs),
                    )
        return ids


def _spans(plan: StepPlan) -> list[tuple[int, Row, int, int]]:
    """Return the special rows: index, row, and where among the special positions its sampled ones begin and end."""
    spans, at = [], 0
    for index, row in enumerate(plan.rows):
        if row.whole_logits:
            spans.append((index, row, at + len(row.scored), at + row.num_logits))
            at += row.num_logits
    return spans


@contextlib.contextmanager
def _isolated(row: Row, index: int, errors: dict[int, str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.exception("processing the row of sequence %d failed", row.seq_id)
        errors[index] = str(error) if isinstance(error, GrammarError) else type(error).__name__
