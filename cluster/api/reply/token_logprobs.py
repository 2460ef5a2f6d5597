"""Log-probabilities as OpenAI's two endpoints and vLLM write them."""

import codecs
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

    def key(self, token: int) -> str:
        r"""Return a token's text; a part of a character is told by its bytes, ``bytes:\xe6``, as OpenAI does."""
        if self.as_ids:
            return f"token_id:{token}"
        text = self.whole(token)
        return f"bytes:{repr(self.tokenizer.token_bytes(token))[2:-1]}" if text is None else text

    def whole(self, token: int) -> str | None:
        """Return a token's text; None where it begins or ends within a character."""
        try:
            return self.tokenizer.token_bytes(token).decode()
        except UnicodeDecodeError:
            return None

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
    """Writes what completions put under ``logprobs``, piece by piece: offsets are positions in the choice's text."""

    names: TokenNames
    start: int = 0
    """Where the answer begins, after what is echoed."""
    end: int = 0

    def echo(self, text: str, prompt: Seq[int], logprobs: Seq[TokenLogprobs]) -> Json:
        """Return the piece for an echoed prompt; nothing comes before its first token, which has no value."""
        self.start = self.end = len(text)
        piece = self._write(logprobs, prompt_offsets(self.names, text, prompt))
        for name, value in (("tokens", self.names.key(prompt[0])), ("token_logprobs", None), ("top_logprobs", None)):
            piece[name].insert(0, value)
        return piece

    def write(self, logprobs: Seq[TokenLogprobs], ends: Seq[int]) -> Json:
        """Return the piece for some tokens of the answer, after which its text was known as far as ``ends``."""
        offsets = []
        for item, end in zip(logprobs, ends, strict=True):
            # What was held back in front of a whole token is known with it, and is not its text.
            whole = self.names.whole(item.token)
            offsets.append(self.end if whole is None else max(self.end, self.start + end - len(whole)))
            self.end = self.start + end
        return self._write(logprobs, offsets)

    def _write(self, logprobs: Seq[TokenLogprobs], offsets: list[int]) -> Json:
        """Return a piece, with the token that stands there among the alternatives."""
        return {
            "tokens": [self.names.key(item.token) for item in logprobs],
            "token_logprobs": [_finite(item.logprob) for item in logprobs],
            "top_logprobs": [
                {self.names.key(token): _finite(value) for token, value in (*item.top, (item.token, item.logprob))}
                for item in logprobs
            ],
            "text_offset": offsets,
        }


def prompt_offsets(names: TokenNames, text: str, tokens: Seq[int]) -> list[int]:
    """Return where each token of a prompt begins in the prompt's text.

    The text may lack the space of the first token, and special tokens that the tokenizer has added.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    position, offsets = 0, []
    for token in tokens:
        chars = decoder.decode(names.tokenizer.token_bytes(token))
        if not text.startswith(chars, position):
            if names.tokenizer.is_special(token):
                chars = ""
            elif chars.startswith(" ") and text.startswith(chars[1:], position):
                chars = chars[1:]
        whole = names.whole(token)
        offsets.append(position if whole is None else position + max(0, len(chars) - len(whole)))
        position = min(position + len(chars), len(text))
    return offsets


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
