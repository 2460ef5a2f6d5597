"""The choice of a token: one definition for target and drafter, and one for sharded vocabularies.

With p the distribution after all processors and g the fixed noise of (seed, position, token), the token is

    argmax_v [ log p(v) + g(seed, position, v) ]        temperature 0: the argmax of the logits

an exact sample of p (the Gumbel-max trick) that is a pure function of logits, parameters, seed and
position. log p(v) is logit / temperature up to a constant of the row, which does not move the argmax: it is
left out, so that shards of a vocabulary can compare their scores without knowing the whole.

A row's token depends bitwise on that row's logits alone: neither on its neighbours nor on their number.
-inf logits are never chosen. A broken model must not take its neighbours down, so NaN counts as -inf, +inf
as the largest float, and a row with nothing else yields token 0 (the first id of its shard, with a value
that loses against any other shard's).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from workers.contract.sampling_params import GREEDY_BELOW
from workers.device import has_kernels
from workers.sampling.batch import SamplingBatch
from workers.sampling.noise import GROUP, group_lead, gumbel, position_state
from workers.sampling.processors import truncate
from workers.sampling.support import Support, at_least, in_groups

__all__ = ["SamplingBatch", "choose_local", "choose_tokens", "in_order", "rank_tokens", "ranked_ids"]

_LOGITS_AT_ONCE = 2**20
"""Rows are processed so many logits at a time on a CPU: few enough that temporaries stay in its cache."""
_LOGITS_AT_ONCE_ON_GPU = 2**23
"""A GPU is asked some ten questions each time, however many rows there are. Temporaries take some 100 MB, and some 500
where nearly the whole vocabulary survives the cuts."""
_SLACK = 1e-9
"""Room for the rounding of scores in float64, relative where they are above 1."""
_LOWEST = -1e300
"""Below every score of a finite logit."""


def choose_tokens(logits: Tensor, batch: SamplingBatch) -> Tensor:
    """Return the token of each row, int64 ``[num_rows]``.

    ``logits`` is ``[num_rows, vocab]`` in any float dtype, as the model gave them. Raises ValueError if the
    numbers of rows differ.
    """
    return _choose(logits, batch, offset=0)[1]


def rank_tokens(logits: Tensor, batch: SamplingBatch, count: int) -> list[list[int]]:
    """Return up to ``count`` tokens of each row, the one that choose_tokens chooses first, then the runners-up.

    The score that decides the choice decides the order as well, noise included. Fewer are returned where
    top-k, top-p or min-p leave fewer. ``logits`` and errors as for choose_tokens.
    """
    return in_order(ranked_ids(logits, batch, count).tolist())


def in_order(ranked: list[list[int]]) -> list[list[int]]:
    """Return rows of `ranked_ids` without what stands there twice, or for nothing."""
    return [[best, *(other for other in others if other not in (best, -1))][: len(others)] for best, *others in ranked]


def ranked_ids(logits: Tensor, batch: SamplingBatch, count: int) -> Tensor:
    """Return what rank_tokens does while it is on its device, int64 ``[num_rows, 1 + count]``.

    A row's choice, and then its best ids, the choice most likely among them; -1 where fewer are left.
    """
    _check(logits, batch)
    if has_kernels(logits.device) and not batch.may_truncate:
        from workers.kernels.rank import rank  # needs Triton

        return rank(logits, batch.temperature, batch.seed, batch.position, count, greedy_below=GREEDY_BELOW)
    scores = torch.full((len(batch), count), -torch.inf, dtype=torch.float64, device=logits.device)
    ids = torch.zeros((len(batch), count), dtype=torch.int64, device=logits.device)
    first = torch.zeros(len(batch), dtype=torch.int64, device=logits.device)

    def keep(rows: Tensor, values: Tensor, of: Tensor) -> None:
        best = values.topk(min(count, values.shape[-1]), dim=-1)
        width = torch.arange(best.values.shape[-1], device=rows.device)
        scores[rows[:, None], width] = best.values.double()
        ids[rows[:, None], width] = of.gather(-1, best.indices)
        # Of equal ones topk may name any first, max the one that choose_tokens chooses.
        first[rows] = of.gather(-1, values.max(-1).indices[:, None]).squeeze(-1)

    greedy, truncated = batch.greedy, batch.truncated
    for rows, part in _portions(logits, greedy):
        keep(rows, part, torch.arange(part.shape[-1], device=part.device).expand_as(part))
    for rows, part in _portions(logits, truncated):
        sampling = batch[rows]
        for support in truncate(part, sampling):
            keep(rows[support.rows], _scores(support, sampling[support.rows], 0), support.ids)
    for rows, part in _portions(logits, ~(greedy | truncated)):
        sampling = batch[rows]
        support = _contenders(part, sampling, 0, count)
        keep(rows, _scores(support, sampling, 0), support.ids)
    return torch.cat((first[:, None], ids.masked_fill(scores == -torch.inf, -1)), dim=-1)


def choose_local(logits_shard: Tensor, batch: SamplingBatch, vocab_offset: int) -> tuple[Tensor, Tensor]:
    """Return the best value (float64) and id (int64) of each row in one shard of the vocabulary.

    The shard holds the ids from ``vocab_offset`` on. The largest value over all shards, the lowest id where
    values are equal, is what choose_tokens chooses on the whole: exactly, for shards are scored by the same
    arithmetic. Only for greedy and untruncated rows: a cut needs the whole vocabulary, so ValueError is
    raised if the batch has others.
    """
    if batch.may_truncate and bool(batch.truncated.any()):
        raise ValueError("rows with top-k, top-p or min-p cannot be chosen shard by shard: gather their logits")
    return _choose(logits_shard, batch, vocab_offset)


def _choose(logits: Tensor, batch: SamplingBatch, offset: int) -> tuple[Tensor, Tensor]:
    _check(logits, batch)
    if has_kernels(logits.device):
        from workers.kernels.choose import choose  # needs Triton

        noise = (batch.temperature, batch.seed, batch.position)
        values, ids = choose(logits, *noise, offset=offset, greedy_below=GREEDY_BELOW)
        if batch.may_truncate:
            _choose_truncated(logits, batch, offset, values, ids)
        return values, ids
    values = torch.empty(len(batch), dtype=torch.float64, device=logits.device)
    ids = torch.empty(len(batch), dtype=torch.int64, device=logits.device)
    greedy, truncated = batch.greedy, batch.truncated
    for rows, part in _portions(logits, greedy):
        best = part.max(-1)
        values[rows], ids[rows] = best.values.double(), best.indices + offset
    _choose_truncated(logits, batch, offset, values, ids)
    for rows, part in _portions(logits, ~(greedy | truncated)):
        sampling = batch[rows]
        values[rows], ids[rows] = _draw(_contenders(part, sampling, offset), sampling, offset)
    return values, ids


def _choose_truncated(logits: Tensor, batch: SamplingBatch, offset: int, values: Tensor, ids: Tensor) -> None:
    """Put the choices of truncated rows where they belong."""
    for rows, part in _portions(logits, batch.truncated):
        sampling = batch[rows]
        for support in truncate(part, sampling):
            at = rows[support.rows]
            values[at], ids[at] = _draw(support, sampling[support.rows], offset)


def _check(logits: Tensor, batch: SamplingBatch) -> None:
    if logits.ndim != 2 or len(logits) != len(batch):
        raise ValueError(f"logits of shape {tuple(logits.shape)} do not fit {len(batch)} sampling rows")


def _portions(logits: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the indices and the logits of the masked rows, some at a time, each with a finite maximum."""
    rows = mask.nonzero().flatten()
    count = _rows_at_once(logits.shape[-1], logits.device)
    for start in range(0, len(rows), count):
        some = rows[start : start + count]
        yield some, _finite(logits[start : start + count] if len(rows) == len(logits) else logits[some])


def _rows_at_once(vocab: int, device: torch.device) -> int:
    logits = _LOGITS_AT_ONCE if device.type == "cpu" else _LOGITS_AT_ONCE_ON_GPU
    return max(1, logits // max(GROUP, vocab))


def _finite(logits: Tensor) -> Tensor:
    """Return the rows in float32 (reductions of bfloat16 are slow on a CPU) with a finite maximum each."""
    logits = logits.float()
    broken = ~logits.amax(-1).isfinite()
    if bool(broken.any()):
        largest = torch.finfo(torch.float32).max
        mended = logits[broken].nan_to_num(nan=-torch.inf, posinf=largest, neginf=-torch.inf)
        mended[mended.amax(-1) == -torch.inf, 0] = -largest
        logits = logits.index_put((broken,), mended)
    return logits


def _contenders(logits: Tensor, batch: SamplingBatch, offset: int, count: int = 1) -> Support:
    """Return the tokens of untruncated rows that may have one of the ``count`` best scores: about a hundred for one.

    A token can win only if it would score at least as well as the best of all groups' leaders, whose scores
    are exact, were its E as small as its group's lead; it can be among several best only if it would score as
    well as so many leaders do. Groups go by absolute ids: a shard that starts within one sees some members of
    it only, for which the lead is still a bound.
    """
    first, before = divmod(offset, GROUP)
    grouped = in_groups(logits, before)
    padded = grouped.flatten(1)
    state = position_state(batch.seed, batch.position)[:, None]
    lead, leader = group_lead(state, torch.arange(first, first + grouped.shape[1], device=logits.device))
    noise, temperature = -lead.log(), batch.temperature.double()[:, None]
    leaders = padded.gather(-1, leader - first * GROUP).double() / temperature + noise
    worst = leaders.amax(-1) if count == 1 else leaders.topk(min(count, leaders.shape[-1]), dim=-1).values[:, -1]
    best = worst[:, None].clamp(min=_LOWEST)
    ids, valid = at_least(grouped, (best - noise - _SLACK * best.abs().clamp(min=1.0)) * temperature)
    support = Support.of(padded, torch.arange(len(batch), device=logits.device), ids, valid)
    return Support(support.rows, ids - before, support.logits)


def _draw(support: Support, batch: SamplingBatch, offset: int) -> tuple[Tensor, Tensor]:
    """Return the best score of each row and whose it is."""
    best = _scores(support, batch, offset).max(-1)
    return best.values, (support.ids + offset).gather(-1, best.indices[:, None]).squeeze(-1)


def _scores(support: Support, batch: SamplingBatch, offset: int) -> Tensor:
    """Return ``logit / temperature + noise`` of each token in float64; -inf where it was cut."""
    noise = gumbel(position_state(batch.seed, batch.position)[:, None], support.ids + offset)
    return support.logits.double() / batch.temperature.double()[:, None] + noise
