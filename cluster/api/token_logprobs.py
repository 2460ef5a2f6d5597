"""Log-probabilities as OpenAI's two endpoints and vLLM write them."""

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

from workers.contract.logprobs import TokenLogprobs
from workers.tokenizer import Tokenizer

Json = dict[str, Any]

LEAST = -9999.0
"""OpenAI's stand-in for minus infinity, which JSON does not know."""


@dataclass(frozen=True, slots=True)
class TokenNames:
    """How tokens are written."""

    tokenizer: Tokenizer
    as_ids: bool = False

    def name(self, token: int) -> str:
        """Return a token's text; a part of a character is a replacement character."""
        return f"token_id:{token}" if self.as_ids else self.tokenizer.token_bytes(token).decode(errors="replace")

    def bytes(self, token: int) -> list[int]:
        """Return the bytes that the token stands for."""
        return list(self.tokenizer.token_bytes(token))


def chat_logprobs(names: TokenNames, logprobs: Seq[TokenLogprobs]) -> Json:
    """Return what chat puts under ``logprobs``."""

    def entry(token: int, logprob: float) -> Json:
        return {"token": names.name(token), "logprob": _finite(logprob), "bytes": names.bytes(token)}

    content = [
        {**entry(item.token, item.logprob), "top_logprobs": [entry(*pair) for pair in item.top]} for item in logprobs
    ]
    return {"content": content, "refusal": None}


@dataclass(slots=True)
class CompletionLogprobs:
    """Writes what completions put under ``logprobs``, piece by piece: offsets count from the text's beginning."""

    names: TokenNames
    offset: int = 0

    def unknown(self, token: int) -> Json:
        """Return the piece of a first token, which nothing comes before."""
        return self._write([token], [None], [None])

    def write(self, logprobs: Seq[TokenLogprobs]) -> Json:
        """Return the piece for some tokens, the one that stands there among the alternatives."""
        tops = [
            {self.names.name(token): _finite(value) for token, value in (*item.top, (item.token, item.logprob))}
            for item in logprobs
        ]
        return self._write([item.token for item in logprobs], [_finite(item.logprob) for item in logprobs], tops)

    def _write(self, tokens: Seq[int], values: Seq[float | None], tops: Seq[Json | None]) -> Json:
        offsets = []
        for token in tokens:
            offsets.append(self.offset)
            self.offset += len(self.names.tokenizer.token_bytes(token).decode(errors="replace"))
        return {
            "tokens": [self.names.name(token) for token in tokens],
            "token_logprobs": list(values),
            "top_logprobs": list(tops),
            "text_offset": offsets,
        }


def joined(pieces: Seq[Json]) -> Json:
    """Return several pieces of completion log-probabilities as one."""
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: [value for piece in pieces for value in piece[name]] for name in names}


def num_entries(*logprobs: Seq[TokenLogprobs]) -> int:
    """Return how many log-probabilities there are to write."""
    return sum(1 + len(item.top) for items in logprobs for item in items)


def prompt_logprobs(names: TokenNames, logprobs: Seq[TokenLogprobs]) -> list[Json | None]:
    """Return vLLM's ``prompt_logprobs``: one object per token of the prompt, null for the first."""
    entries: list[Json | None] = [None]
    for item in logprobs:
        ranked = {token: (value, rank) for rank, (token, value) in enumerate(item.top, start=1)}
        ranked[item.token] = (item.logprob, item.rank)
        entries.append(
            {
                str(token): {"logprob": _finite(value), "rank": rank, "decoded_token": names.name(token)}
                for token, (value, rank) in ranked.items()
            }
        )
    return entries


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST
