"""Ranking what a drafter may say: choices of a few candidates, in operations of fixed shapes.

A drafter need not choose exactly, only cheaply and as its target is likely to. A token wins by its probability
or by its noise, so the candidates at a position are the WIDTH ids with the largest logits, and of each group of ids
the one whose noise is best (`workers/sampling/noise.py`), which is known before any logit is. Cuts (top-k, top-p,
min-p) are made among the former. Nothing here waits for the device, so that a block of guesses can be made in one go.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.contract.sampling_params import SamplingParams
from workers.sampling.batch import SamplingBatch
from workers.sampling.noise import GROUP, group_lead, gumbel, position_state

WIDTH = 64
"""Likeliest ids that are candidates at a position."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """What is known of a batch's parameters without asking the device."""

    all_greedy: bool
    any_truncated: bool

    @classmethod
    def of(cls, params: Iterable[SamplingParams]) -> "Kinds":
        """Look at the parameters of all rows."""
        listed = list(params)
        return cls(all(p.greedy for p in listed), any(p.truncated for p in listed))


class Proposer:
    """Ranks the logits of a draft model's head, whose rows stand for some of the target's ids."""

    def __init__(self, ids: Tensor, vocab_size: int) -> None:
        """``ids``: the target's id of each row of the head, ascending ``[draft_vocab]``."""
        self._ids = ids
        self._num_groups = -(-vocab_size // GROUP)
        self._row_of = ids.new_full((self._num_groups * GROUP,), len(ids))  # the row behind the last: no such id
        self._row_of[ids] = torch.arange(len(ids), device=ids.device)

    def block(self, sampling: SamplingBatch, length: int, kinds: "Kinds") -> "BlockProposal":
        """Begin blocks of at most ``length`` tokens, row i's first one at position ``sampling.position[i]``."""
        return BlockProposal(self._ids, self._row_of, self._num_groups, sampling, length, kinds)


class BlockProposal:
    """The choices of several blocks that are drafted together; made by Proposer."""

    def __init__(
        self,
        ids: Tensor,
        row_of: Tensor,
        num_groups: int,
        sampling: SamplingBatch,
        length: int,
        kinds: Kinds,
    ) -> None:
        self._ids = ids
        self._kinds = kinds
        if kinds.all_greedy:
            return
        self._sampling = sampling
        self._greedy = sampling.greedy[:, None]
        self._truncated = sampling.truncated[:, None]
        self._temperature = torch.where(self._greedy, 1.0, sampling.temperature[:, None])
        steps = torch.arange(length, device=ids.device)
        self._state = position_state(sampling.seed[:, None].expand(-1, length), sampling.position[:, None] + steps)
        lead, leader = group_lead(self._state[..., None], torch.arange(num_groups, device=ids.device))
        self._leader_row = row_of[leader]  # [N, length, groups]
        self._leader_noise = -lead.log()

    def rank(self, logits: Tensor, step: int, count: int) -> Tensor:
        """Return target ids ``[n, k]`` for position ``step`` of the first n blocks: the choice, then its next best.

        Args:
            logits: ``[n, draft_vocab]``, of rows 0 .. n - 1.
            step: 0 for a block's first token.
            count: k, less where there are fewer candidates.
        """
        if self._kinds.all_greedy:
            return self._ids[logits.topk(min(count, logits.shape[-1]), dim=-1).indices]
        logits = logits.float()
        rows = slice(len(logits))
        likeliest = logits.topk(min(WIDTH, logits.shape[-1]), dim=-1)
        ids = self._ids[likeliest.indices]
        noise = gumbel(self._state[rows, step, None], ids).masked_fill_(self._greedy[rows], 0.0)
        scores = likeliest.values.double() / self._temperature[rows] + noise
        if self._kinds.any_truncated:
            scores = scores.masked_fill(self._cut(logits, likeliest.values), -torch.inf)
        leader = self._leader_row[rows, step]
        known = torch.nn.functional.pad(logits, (0, 1), value=-torch.inf).gather(-1, leader)
        lead = known.double() / self._temperature[rows] + self._leader_noise[rows, step]
        # What is among the likeliest has its score there already.
        out = self._greedy[rows] | self._truncated[rows] | (known >= likeliest.values[:, -1:])
        lead = lead.masked_fill(out, -torch.inf)
        best = torch.cat((scores, lead), -1).topk(min(count, scores.shape[-1]), dim=-1).indices
        leader_ids = self._ids[leader.clamp(max=len(self._ids) - 1)]
        return torch.cat((ids, leader_ids), -1).gather(-1, best)

    def _cut(self, logits: Tensor, likeliest: Tensor) -> Tensor:  # [n, WIDTH], bool
        """Return which of the likeliest ids the request's parameters rule out; never the first one."""
        rows = slice(len(logits))
        sampling = self._sampling
        heat = self._temperature[rows]
        p = (likeliest / heat - (logits / heat).logsumexp(-1, keepdim=True)).exp()
        place = torch.arange(likeliest.shape[-1], device=logits.device)
        top_k, min_p = sampling.top_k[rows, None], sampling.min_p[rows, None]
        cut = ((top_k > 0) & (place >= top_k)) | (p < min_p * p[:, :1])
        left = p.masked_fill(cut, 0.0)
        # top-p counts as the whole what the other two leave: all of the vocabulary where there are none.
        whole = torch.where((top_k > 0) | (min_p > 0.0), left.sum(-1, keepdim=True), 1.0)
        cut |= left.cumsum(-1) - left >= sampling.top_p[rows, None] * whole
        return cut & (place > 0) & self._truncated[rows]
