"""The tokenizer of a checkpoint: text to ids and back, chat template, end tokens, fingerprint."""

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from workers.contract.errors import InvalidParameterError, ModelRefusedError
from workers.detokenizer import IncrementalDetokenizer

_BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
"""How tokenizers with byte fallback spell a byte that no other token has."""
_CONTEXT = 6
"""Tokens of a prompt that its continuation is decoded after."""
_MAX_CHARACTER_BYTES = 4


class Tokenizer:
    """What the ingress needs of a tokenizer; safe to use from several threads."""

    def __init__(self, backend: Any, eos_token_ids: Iterable[int]) -> None:
        """Wrap a transformers tokenizer; ``eos_token_ids`` end a generation besides its own eos."""
        self._backend = backend
        own = backend.eos_token_id
        self.eos_token_ids: frozenset[int] = frozenset(eos_token_ids) | ({own} if own is not None else frozenset())
        """Ids of which any ends a generation."""
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def from_folder(cls, path: Path) -> "Tokenizer":
        """Read the tokenizer of a checkpoint folder.

        Raises:
            ModelRefusedError: the folder has no tokenizer that transformers can read without running its code.
        """
        try:
            backend = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # tokenizers raises bare Exception for a malformed file
            raise ModelRefusedError(f"{path} has no usable tokenizer: {error}") from error
        return cls(backend, _end_ids(path))

    def encode(self, text: str, *, add_special_tokens: bool = True, param: str = "prompt") -> list[int]:
        """Return the ids of a text; ``add_special_tokens`` puts bos in front where the model wants one.

        The string of a special token, such as ``<|im_end|>``, becomes that token, as in vLLM and in
        transformers: prompts are templates that people write out by hand.

        Raises:
            InvalidParameterError: the text cannot be UTF-8 (a lone surrogate); it names ``param``.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidParameterError(param, f"{param} is not valid Unicode: {error.reason}") from error
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        *,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the ids of a conversation in the checkpoint's own format.

        With ``continue_final_message`` the last message stays open. ``tools`` are shown to a template that knows
        them, and ``template_kwargs`` are variables of the template; no caller can replace the template itself,
        which transformers renders in an immutable sandbox.

        The rendered text is encoded whole, so special-token strings inside a message become control
        tokens (as in vLLM). Whoever must not let users forge turns filters messages before this.

        Raises:
            InvalidParameterError: there is no chat template, or it cannot render these messages.
        """
        if not self.has_chat_template:
            raise InvalidParameterError("messages", "the model has no chat template; use /v1/completions")
        try:
            text: str = self._backend.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tools=None if tools is None else [dict(tool) for tool in tools],
                **(template_kwargs or {}),
            )
        except Exception as error:  # a template is a program of the checkpoint's; it objects in its own ways
            raise InvalidParameterError("messages", f"the chat template cannot render messages: {error}") from error
        return self.encode(text, add_special_tokens=False, param="messages")

    def template_knows(self, name: str) -> bool:
        """Return whether the chat template reads a variable, so that setting it may have an effect."""
        return name in str(self._backend.chat_template or "")

    @property
    def has_chat_template(self) -> bool:
        """Whether the checkpoint says how conversations are written."""
        return bool(self._backend.chat_template)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids; those outside the vocabulary have none."""
        text: str = self._backend.decode(
            list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return text

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that one token stands for, perhaps a part of a character; none outside the vocabulary."""
        if token >= self.vocab_size:
            return b""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._spelled(token)
        return known

    def is_special(self, token: int) -> bool:
        """Return whether a token is one of control, which has no text where special tokens are skipped."""
        added = self._added_tokens.get(token)
        return added is not None and bool(added.special)

    def _spelled(self, token: int) -> bytes:
        piece: str | None = self._backend.convert_ids_to_tokens(token)
        if piece is None:
            return b""
        if token in self._added_tokens:
            return piece.encode()
        if self._byte_of_char is not None:
            return bytes(self._byte_of_char[char] for char in piece if char in self._byte_of_char)
        if _BYTE_TOKEN.fullmatch(piece):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()

    def incremental(self, skip_special_tokens: bool = True, before: Sequence[int] = ()) -> IncrementalDetokenizer:
        """Return a detokenizer for one stream of ids.

        The stream continues the text of ``before``: many tokenizers leave out the space in front of a text's
        first token, and the stream's own first token has something in front of it.
        """
        mask = self._text_mask if skip_special_tokens else self._known_mask

        def visible(token: int) -> bool:
            return 0 <= token < len(mask) and mask[token] == 1

        context = self._context(before, visible)
        return IncrementalDetokenizer(
            partial(self.decode, skip_special_tokens=False), visible, context, unfinished=self._unfinished(context)
        )

    def _context(self, before: Sequence[int], visible: Callable[[int], bool]) -> list[int]:
        """Return the last visible tokens, from the beginning of a character on.

        Half a character in front would spoil the whole run of bytes that it stands in.
        """
        context: list[int] = []
        for token in filter(visible, reversed(before)):
            context.append(token)
            inside = 0x80 <= next(iter(self.token_bytes(token)), 0) < 0xC0
            if len(context) >= _CONTEXT and (not inside or len(context) == _CONTEXT + _MAX_CHARACTER_BYTES - 1):
                break
        return context[::-1]

    def _unfinished(self, tokens: Iterable[int]) -> bool:
        """Return whether the bytes of tokens end within a character."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(b"".join(map(self.token_bytes, tokens)))
        return bool(decoder.getstate()[0])

    def definition(self) -> str:
        """Return the tokenizer as the JSON text of the tokenizers library, added tokens included.

        Raises:
            InvalidParameterError: it is not one of that library's, so that nobody else can read it.
        """
        backend = getattr(self._backend, "backend_tokenizer", None)
        if backend is None:
            raise InvalidParameterError("response_format", "it is not one of the tokenizers library")
        plain = copy(backend)
        plain.no_padding()
        plain.no_truncation()
        text: str = plain.to_str()
        return text

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id, added tokens included."""
        return max(self._vocabulary.values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of the vocabulary, token by id, added tokens included.

        Equal fingerprints mean that the same ids are the same text, which is all that drafting needs.
        Merges and the chat template do not count: a drafter never encodes text.
        """
        digest = hashlib.sha256()
        for token, index in sorted(self._vocabulary.items(), key=lambda item: item[1]):
            digest.update(json.dumps([index, token]).encode())
        return digest.hexdigest()

    @cached_property
    def _byte_of_char(self) -> dict[str, int] | None:
        """Return how a byte-level tokenizer spells bytes; None for others."""
        backend = getattr(self._backend, "backend_tokenizer", None)
        if backend is None or "ByteLevel" not in str(backend.decoder):
            return None
        return {char: byte for byte, char in bytes_to_unicode().items()}

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        vocabulary: dict[str, int] = self._backend.get_vocab()
        return vocabulary

    @cached_property
    def _added_tokens(self) -> dict[int, Any]:
        """Return the tokens beside the model's own; transformers makes the dictionary anew whenever it is read."""
        added: dict[int, Any] = self._backend.added_tokens_decoder
        return added

    @cached_property
    def _known_mask(self) -> bytes:
        mask = bytearray(self.vocab_size)
        for index in self._vocabulary.values():
            mask[index] = 1
        return bytes(mask)

    @cached_property
    def _text_mask(self) -> bytes:
        mask = bytearray(self._known_mask)
        for index, token in self._added_tokens.items():
            if token.special:
                mask[index] = 0
        return bytes(mask)


def _end_ids(path: Path) -> list[int]:
    """Read what ends a generation: generation_config.json, else config.json."""
    for name in ("generation_config.json", "config.json"):
        file = path / name
        found = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return list(found) if isinstance(found, list) else [found]
    return []
