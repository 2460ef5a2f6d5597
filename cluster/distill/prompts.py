"""Prompts to have answered: from a file or a folder of texts."""

import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workers.contract.errors import ConfigurationError
from workers.tokenizer import Tokenizer

MAX_CHARS = 4000
"""A text of a folder is cut to this length: whole books are no prompts."""


def read_prompts(path: Path, tokenizer: Tokenizer, max_tokens: int) -> list[list[int]]:
    """Return the token ids of all prompts, each once, in the order of the file or of the folder's file names.

    A ``.jsonl`` file holds one object per line, ``{"prompt": text}``, ``{"messages": [...]}`` or ``{"p": [ids]}``, as
    samples and held-out prompts are stored; another file one prompt per line; a folder one prompt per file. Where the
    model has a chat template, a prompt is a user's message.

    Raises:
        ConfigurationError: there are no prompts, or a line is none.
    """
    try:
        asked = list(_asked(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    prompts = (_encode(one, tokenizer)[:max_tokens] for one in asked)
    unique = dict.fromkeys(tuple(prompt) for prompt in prompts if prompt)
    if not unique:
        raise ConfigurationError(f"{path} holds no prompts: give a .jsonl or text file, or a folder of texts")
    return [list(prompt) for prompt in unique]


Asked = list[dict[str, Any]] | tuple[int, ...]
"""A conversation, or token ids."""


def _asked(path: Path) -> Iterator[Asked]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                yield _user(file.read_text(encoding="utf-8")[:MAX_CHARS])
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        yield _from_json(line, f"{path}:{number}") if path.suffix == ".jsonl" else _user(line)


def _from_json(line: str, where: str) -> Asked:
    try:
        fields = json.loads(line)
        if "p" in fields:
            return tuple(map(operator.index, fields["p"]))
        messages = fields["messages"] if "messages" in fields else _user(fields["prompt"])
    except (ValueError, KeyError, TypeError):
        messages = None
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise ConfigurationError(f'{where}: expected {{"prompt": text}}, {{"messages": [...]}} or {{"p": [ids]}}')
    return messages


def _user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _encode(asked: Asked, tokenizer: Tokenizer) -> list[int]:
    if isinstance(asked, tuple):
        if wrong := [token for token in asked if not 0 <= token < tokenizer.vocab_size]:
            raise ConfigurationError(f"a prompt has the token id {wrong[0]}: the model knows {tokenizer.vocab_size}")
        return list(asked)
    messages = asked
    if tokenizer.has_chat_template:
        return tokenizer.apply_chat_template(messages)
    return tokenizer.encode("\n".join(str(message.get("content", "")) for message in messages))
