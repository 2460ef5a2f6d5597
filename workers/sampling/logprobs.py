"""Log-probabilities of chosen and of known tokens, read off raw logits."""

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from workers.contract.logprobs import TokenLogprobs


def token_logprobs(raw: Tensor, tokens: Seq[int], count: int) -> tuple[TokenLogprobs, ...]:
    """Return those of ``tokens``, one for each row of ``raw`` (float32 ``[n, vocab]``), with the ``count`` likeliest.

    Equal logits are ranked by id, the lowest first, as the greedy choice ranks them.
    """
    if not len(tokens):
        return ()
    logprobs = raw.log_softmax(-1)
    ids = torch.tensor(list(tokens), device=raw.device)
    own = logprobs.gather(-1, ids[:, None])
    below = torch.arange(raw.shape[-1], device=raw.device) < ids[:, None]
    ranks = ((logprobs > own) | ((logprobs == own) & below)).sum(-1) + 1
    tops = _best(logprobs, count)
    items = zip(tokens, own.squeeze(-1).tolist(), ranks.tolist(), tops, strict=True)
    return tuple(TokenLogprobs(*item) for item in items)


def _best(logprobs: Tensor, count: int) -> list[tuple[tuple[int, float], ...]]:
    if count == 0:
        return [()] * len(logprobs)
    best = logprobs.topk(min(count, logprobs.shape[-1]), dim=-1)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [tuple(sorted(zip(ids, values, strict=True), key=lambda p: (-p[1], p[0]))) for ids, values in pairs]
