"""What reshapes the logits of one row before temperature: bias, penalties, min-tokens, bans, the grammar's mask.

Position j of a verification row is processed as if the draft's first j tokens were text, which is what plain
decoding would see there: so a text is the same with drafts as without. A draft token that a processor forbids is
not chosen at its position, and the choices after it are not used.
"""

import weakref
from collections.abc import Sequence as Seq

import numpy as np
import torch
from torch import Tensor

from workers.contract.errors import GrammarError
from workers.contract.processing import GrammarMatcher, Processing, ProcessorParams
from workers.contract.step import Row
from workers.sampling.history import Counts, TokenHistory


class LogitsProcessors:
    """Processes rows, and keeps what it has counted of each sequence for as long as the sequence lives."""

    def __init__(self) -> None:
        self._histories: weakref.WeakKeyDictionary[Processing, TokenHistory] = weakref.WeakKeyDictionary()

    def apply(self, logits: Tensor, row: Row, processing: Processing) -> None:
        """Change the logits of a row's sampled positions in place: float32 ``[num_samples, vocab]``.

        Raises:
            GrammarError: the row's grammar cannot be followed any further.
        """
        params, draft = processing.params, row.draft
        if params.logit_bias:
            ids = torch.tensor(list(params.logit_bias), device=logits.device)
            logits[:, ids] += torch.tensor(list(params.logit_bias.values()), dtype=torch.float32, device=logits.device)
        if params.allowed_token_ids:
            _keep_only(logits, params.allowed_token_ids)
        if params.penalises:
            history = self._histories.setdefault(processing, TokenHistory())
            history.catch_up(processing)
            _penalise(logits, history.before_each(draft), params)
        short = params.min_tokens - (len(processing.tokens) - processing.prompt_len)
        if short > 0 and processing.end_token_ids:
            logits[:short, sorted(processing.end_token_ids)] = -torch.inf
        if params.banned:
            _ban(logits, processing, draft)
        if processing.grammar is not None:
            _mask(logits, processing.grammar, draft)


def _keep_only(logits: Tensor, allowed: frozenset[int]) -> None:
    ids = torch.tensor(sorted(allowed), device=logits.device)
    kept = logits[:, ids]
    logits.fill_(-torch.inf)
    logits[:, ids] = kept


def _ban(logits: Tensor, processing: Processing, draft: Seq[int]) -> None:
    """Forbid the last token of each banned sequence where the answer ends with the others."""
    banned, tokens = processing.params.banned, processing.tokens
    reach = max(map(len, banned)) - 1
    answer = tokens[max(processing.prompt_len, len(tokens) - reach) :]
    text, positions, ids = [*answer, *draft], [], []
    for *before, last in banned:
        for j in range(logits.shape[0]):
            begin, end = len(answer) + j - len(before), len(answer) + j
            if begin >= 0 and text[begin:end] == before:
                positions.append(j)
                ids.append(last)
    if ids:
        logits[positions, ids] = -torch.inf


def _penalise(logits: Tensor, counts: Counts, params: ProcessorParams) -> None:
    """Apply the repetition penalty, then those of frequency and presence, as vLLM does."""
    ids = torch.from_numpy(counts.ids).to(logits.device)
    answered = torch.from_numpy(counts.answered).to(logits.device)
    values = logits[:, ids]
    repeated = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
    values = torch.where(torch.from_numpy(counts.seen).to(logits.device), repeated, values)
    values = values - params.frequency_penalty * answered
    logits[:, ids] = values - params.presence_penalty * (answered > 0)


def _mask(logits: Tensor, grammar: GrammarMatcher, draft: Seq[int]) -> None:
    masks = grammar.masks(draft)
    vocab = logits.shape[-1]
    bits = np.stack([np.unpackbits(np.frombuffer(mask, np.uint8), count=vocab, bitorder="little") for mask in masks])
    if not bits.any(-1).all():
        raise GrammarError("the grammar allows no token here")
    logits[: len(masks)].masked_fill_(torch.from_numpy(bits == 0).to(logits.device), -torch.inf)
