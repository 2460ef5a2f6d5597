"""What turns a row of logits into the few tokens that may be drawn: min-p, top-k and top-p, in this order.

All three cut a list that is sorted by falling logit, equal logits by rising id, so each keeps a prefix of
it and their order matters only for what top-p calls the whole: it measures what min-p and top-k left.

Sorting 50,000 tokens per row would cost more than the forward pass does. Instead a cheap floor picks a few
hundred candidates that are sure to contain all that is kept; only those are sorted and cut exactly. Each
row's result depends on nothing but that row: every whole-vocabulary operation is either elementwise or
reduces one row serially, and probabilities are summed as integers, which have no order of summation.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from workers.sampling.batch import SamplingBatch
from workers.sampling.support import Support, at_least, in_groups

_LOWEST = torch.finfo(torch.float32).min
_FIRST_GUESS = 256
_ONE = 2**40
"""Fixed-point 1.0 for sums of probabilities: 2**22 of them fit an int64 even if each were 1."""


def truncate(logits: Tensor, batch: SamplingBatch) -> Iterator[Support]:
    """Yield what min-p, top-k and top-p leave of each row of ``logits`` (float32 ``[num_rows, vocab]``).

    Every row must have a finite maximum; each appears in exactly one of the supports.
    """
    bounded = (batch.top_k > 0) | (batch.min_p > 0.0)
    for mask, cut in ((bounded, _cut_bounded), (~bounded, _cut_nucleus)):
        rows = mask.nonzero().flatten()
        if len(rows) == len(logits):
            yield from cut(logits, rows, batch)
        elif len(rows):
            yield from cut(logits[rows], rows, batch[rows])


def _scaled(logits: Tensor, batch: SamplingBatch) -> Tensor:
    """Return (logit - largest logit) / temperature in float32: its exp is the probability per the largest."""
    return (logits - logits.amax(-1, keepdim=True)).div_(batch.temperature[:, None])


def _cut_bounded(logits: Tensor, rows: Tensor, batch: SamplingBatch) -> Iterator[Support]:
    """Cut rows that min-p or top-k bounds, and by top-p what these leave."""
    scaled = _scaled(logits, batch)
    vocab = logits.shape[-1]
    top_k = torch.where(batch.top_k > 0, batch.top_k, vocab).clamp(max=vocab).long()
    # A little below the exact bound, which the sorted candidates are held to: log and exp round.
    floor = (batch.min_p.log() - 1e-3).clamp(min=_LOWEST)
    limited = (top_k < vocab).nonzero().flatten()
    if len(limited):
        best = scaled[limited].topk(int(top_k[limited].max()), dim=-1).values
        kth = best.gather(-1, top_k[limited, None] - 1).squeeze(-1)
        floor[limited] = torch.maximum(floor[limited], kth)
    support = Support.of(logits, rows, *at_least(in_groups(scaled), floor[:, None])).sorted()
    relative = _scaled(support.logits, batch).exp()
    rank = torch.arange(support.ids.shape[-1], device=rows.device)
    kept = (relative >= batch.min_p[:, None]) & (rank < top_k[:, None])
    weight = _fixed_point(relative).masked_fill_(~kept, 0)
    yield support.keep(kept & _within(weight, batch.top_p, weight.sum(-1)))


def _cut_nucleus(logits: Tensor, rows: Tensor, batch: SamplingBatch) -> Iterator[Support]:
    """Cut rows that have only top-p: the smallest set of most likely tokens that reaches ``top_p``.

    Tokens less likely than (1 - top_p) / n weigh less than 1 - top_p together as long as they are at most
    n: the others then reach top_p and contain the nucleus. n = vocab always holds but lets thousands of
    candidates through; so try a small n, look whether the candidates do reach top_p, and widen for the
    rows in which they do not. The most likely token is always a candidate.
    """
    probs = _scaled(logits, batch).softmax(-1)
    largest = probs.amax(-1)
    width = _FIRST_GUESS
    while len(rows):
        floor = ((1.0 - batch.top_p) / width).clamp(min=torch.finfo(torch.float32).tiny).minimum(largest)
        support = Support.of(logits, rows, *at_least(in_groups(probs), floor[:, None])).sorted()
        weight = _fixed_point(probs.gather(-1, support.ids)).masked_fill_(support.logits == -torch.inf, 0)
        kept = _within(weight, batch.top_p, torch.full_like(rows, _ONE))
        short = weight.sum(-1).double() < batch.top_p.double() * _ONE
        if width >= probs.shape[-1]:
            short = torch.zeros_like(short)
        yield support.keep(kept).of_rows((~short).nonzero().flatten())
        unsettled = short.nonzero().flatten()
        if not len(unsettled):
            return
        logits, probs, largest = logits[unsettled], probs[unsettled], largest[unsettled]
        rows, batch = rows[unsettled], batch[unsettled]
        width *= 16


def _fixed_point(probs: Tensor) -> Tensor:
    return (probs.double() * _ONE).long()


def _within(weight: Tensor, top_p: Tensor, total: Tensor) -> Tensor:
    """Tell which sorted tokens top-p keeps: those before which less than ``top_p`` of ``total`` has come."""
    before = weight.cumsum(-1) - weight
    return before.double() < (top_p.double() * total.double())[:, None]
