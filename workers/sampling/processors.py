"""What turns a row of logits into the few tokens that may be drawn: min-p, top-k and top-p, in this order.

All three cut a list that is sorted by falling logit, equal logits by rising id, so each keeps a prefix of
it and their order matters only for what top-p calls the whole: it measures what min-p and top-k left.

Sorting 50,000 tokens per row would cost more than the forward pass does. Instead a cheap floor picks a few
hundred candidates that are sure to contain all that is kept; only those are sorted and cut exactly. Each
row's result depends on nothing but that row: every whole-vocabulary operation is either elementwise or
reduces one row serially, and probabilities are summed as integers, which have no order of summation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.sampling.batch import SamplingBatch

_LOWEST = torch.finfo(torch.float32).min
_FIRST_GUESS = 256
_ONE = 2**40
"""Fixed-point 1.0 for sums of probabilities: 2**22 of them fit an int64 even if each were 1."""


@dataclass(frozen=True, slots=True)
class Support:
    """The tokens that some rows may still draw; short rows are padded with a logit of -inf."""

    rows: Tensor  # [num_rows] which rows of the batch these are
    ids: Tensor  # [num_rows, width]
    logits: Tensor  # [num_rows, width] float32 as the model gave them; -inf where cut

    @classmethod
    def where(cls, mask: Tensor, logits: Tensor, rows: Tensor) -> "Support":
        """Gather the tokens that ``mask`` (bool, shape of ``logits``) admits, each row by rising id."""
        row, ids = mask.nonzero(as_tuple=True)
        counts = torch.bincount(row, minlength=len(mask))
        starts = counts.cumsum(0) - counts
        slot = torch.arange(len(row), device=row.device) - starts[row]
        shape = (len(mask), int(counts.max()))
        padded_ids = ids.new_zeros(shape)
        padded_ids[row, slot] = ids
        padded_logits = logits.new_full(shape, -torch.inf)
        padded_logits[row, slot] = logits[row, ids]
        return cls(rows, padded_ids, padded_logits)

    def sorted(self) -> "Support":
        """Return the same tokens, the most likely first and equal ones by rising id."""
        logits, order = torch.sort(self.logits, dim=-1, descending=True, stable=True)
        return Support(self.rows, self.ids.gather(-1, order), logits)

    def keep(self, kept: Tensor) -> "Support":
        """Return the support with all but ``kept`` (bool, shape of ``ids``) cut away."""
        return Support(self.rows, self.ids, self.logits.masked_fill(~kept, -torch.inf))


def truncate(logits: Tensor, batch: SamplingBatch) -> Iterator[Support]:
    """Yield what min-p, top-k and top-p leave of each row of ``logits`` (float32 ``[num_rows, vocab]``).

    Every row must have a finite maximum and appears in exactly one of the supports.
    """
    peak = logits.amax(-1, keepdim=True)
    scaled = (logits - peak).div_(batch.temperature[:, None])
    bounded = (batch.top_k > 0) | (batch.min_p > 0.0)
    rows = bounded.nonzero().flatten()
    if len(rows):
        yield _cut_bounded(logits[rows], scaled[rows], rows, batch[rows])
    rows = (~bounded).nonzero().flatten()
    if len(rows):
        whole = len(rows) == len(logits)
        yield from _cut_nucleus(logits if whole else logits[rows], scaled[rows].softmax(-1), rows, batch[rows])


def _cut_bounded(logits: Tensor, scaled: Tensor, rows: Tensor, batch: SamplingBatch) -> Support:
    """Cut rows that min-p or top-k bounds, and by top-p what these leave.

    ``scaled`` is (logit - largest logit) / temperature, so its exp is the probability in units of the
    largest one.
    """
    vocab = logits.shape[-1]
    top_k = torch.where(batch.top_k > 0, batch.top_k, vocab).clamp(max=vocab).long()
    # A little below the exact bound, which the sorted candidates are held to: log and exp round.
    floor = (batch.min_p.log() - 1e-3).clamp(min=_LOWEST)
    limited = (top_k < vocab).nonzero().flatten()
    if len(limited):
        best = scaled[limited].topk(int(top_k[limited].max()), dim=-1).values
        kth = best.gather(-1, top_k[limited, None] - 1).squeeze(-1)
        floor[limited] = torch.maximum(floor[limited], kth)
    support = Support.where(scaled >= floor[:, None], logits, rows).sorted()
    relative = ((support.logits - support.logits[:, :1]) / batch.temperature[:, None]).exp()
    rank = torch.arange(support.ids.shape[-1], device=rows.device)
    kept = (relative >= batch.min_p[:, None]) & (rank < top_k[:, None])
    weight = _fixed_point(relative).masked_fill_(~kept, 0)
    return support.keep(kept & _within(weight, batch.top_p, weight.sum(-1)))


def _cut_nucleus(logits: Tensor, probs: Tensor, rows: Tensor, batch: SamplingBatch) -> Iterator[Support]:
    """Cut rows that have only top-p: the smallest set of most likely tokens that reaches ``top_p``.

    Tokens less likely than (1 - top_p) / n weigh less than 1 - top_p together as long as they are at most
    n: the others then reach top_p and contain the nucleus. n = vocab always holds but lets thousands of
    candidates through; so try a small n, look whether the candidates do reach top_p, and widen for the
    rows in which they do not.
    """
    width = _FIRST_GUESS
    while len(rows):
        floor = (1.0 - batch.top_p) / width
        mask = probs >= floor.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        everything = width >= probs.shape[-1]
        candidates = Support.where(mask, logits, torch.arange(len(rows), device=rows.device)).sorted()
        weight = _fixed_point(probs.gather(-1, candidates.ids)).masked_fill_(candidates.logits == -torch.inf, 0)
        kept = _within(weight, batch.top_p, torch.full_like(rows, _ONE))
        short = weight.sum(-1).double() < batch.top_p.double() * _ONE
        if everything or not bool(short.any()):
            yield Support(rows, candidates.ids, candidates.logits).keep(kept)
            return
        done = (~short).nonzero().flatten()
        yield Support(rows[done], candidates.ids[done], candidates.logits[done]).keep(kept[done])
        open_rows = short.nonzero().flatten()
        logits, probs, rows, batch = logits[open_rows], probs[open_rows], rows[open_rows], batch[open_rows]
        width *= 16


def _fixed_point(probs: Tensor) -> Tensor:
    return (probs.double() * _ONE).long()


def _within(weight: Tensor, top_p: Tensor, total: Tensor) -> Tensor:
    """Tell which sorted tokens top-p keeps: those before which less than ``top_p`` of ``total`` has come."""
    before = weight.cumsum(-1) - weight
    return before.double() < (top_p.double() * total.double())[:, None]
