"""Where prompts come from: a file of the user's, or the fixed ones of all our benchmarks."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.bench.load.settings import ApiKind
from cluster.bench.prompts import PROMPTS, conversation
from workers.contract.errors import ConfigurationError

MAX_FILE_BYTES = 64 * 2**20
MAX_PROMPTS = 10_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text, or the messages of a conversation."""

    text: str | None = None
    messages: tuple[dict[str, Any], ...] = ()

    def fields(self, api: ApiKind) -> dict[str, Any]:
        """Return the request fields that carry it.

        Raises:
            ConfigurationError: A conversation cannot be sent as a completion.
        """
        if api is ApiKind.CHAT:
            return {"messages": list(self.messages) if self.text is None else conversation(self.text)}
        if self.text is None:
            raise ConfigurationError("the prompts hold messages, which only --api chat can send")
        return {"prompt": self.text}


def load_prompts(path: Path | None, api: ApiKind) -> list[Prompt]:
    """Return the prompts of a file, or the built-in ones with their kinds mixed.

    A line is a prompt: plain text, a JSON string, or a JSON object with ``prompt`` or ``messages``.

    Raises:
        ConfigurationError: The file cannot be read, holds no prompts or too many, or a line is malformed or cannot
            be sent to ``api``.
    """
    if path is None:
        mixed = random.Random(0).sample(PROMPTS, len(PROMPTS))
        return [Prompt(text) for text in mixed]
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"the prompts file {path} is larger than {MAX_FILE_BYTES // 2**20} MiB")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"cannot read the prompts file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the prompts file {path} is not UTF-8 text") from None
    prompts = [_prompt(line, f"{path}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise ConfigurationError(f"the prompts file {path} holds no prompts")
    if len(prompts) > MAX_PROMPTS:
        raise ConfigurationError(
            f"the prompts file {path} holds {len(prompts)} prompts; at most {MAX_PROMPTS} are read"
        )
    for prompt in prompts:
        prompt.fields(api)
    return prompts


def _prompt(line: str, where: str) -> Prompt:
    """Read a line. What begins with a brace must be a JSON object; a quoted text may just as well be text."""
    if line.lstrip()[0] not in '{"':
        return Prompt(line)
    try:
        value = json.loads(line)
    except ValueError as error:
        if line.lstrip().startswith('"'):
            return Prompt(line)
        raise ConfigurationError(f"{where}: it begins like a JSON object and is none: {error}") from None
    if isinstance(value, dict) and isinstance(messages := value.get("messages"), list) and messages:
        if all(isinstance(message, dict) for message in messages):
            return Prompt(messages=tuple(messages))
        raise ConfigurationError(f"{where}: messages must be a list of objects")
    text = value.get("prompt") if isinstance(value, dict) else value
    if isinstance(text, str) and text:
        return Prompt(text)
    raise ConfigurationError(f"{where}: a JSON object needs a text in prompt or a list in messages")
