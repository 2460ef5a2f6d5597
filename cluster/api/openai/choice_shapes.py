"""How the two OpenAI endpoints write a choice, whole and in chunks, with vLLM's additions where they are asked for."""

from collections.abc import Sequence as Seq
from collections.abc import Set
from dataclasses import dataclass

from cluster.api.openai.message_deltas import MessageDeltas
from cluster.api.reply.body import ChoiceRecord, Json
from cluster.api.reply.text import TextDelta
from cluster.api.reply.token_logprobs import CompletionLogprobs, TokenNames, chat_logprobs, joined, prompt_logprobs
from workers.contract.draft import DraftSource

_SOURCES = {DraftSource.NONE: "target", DraftSource.DRAFTER: "drafter", DraftSource.LOOKUP: "lookup"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is told of tokens besides their text."""

    names: TokenNames
    logprobs: bool = False
    prompt_logprobs: bool = False
    token_ids: bool = False
    sources: bool = False

    @property
    def every_token(self) -> bool:
        """Whether a chunk has something to tell of tokens that have no text."""
        return self.logprobs or self.token_ids or self.sources

    def additions(self, gained: ChoiceRecord | TextDelta) -> Json:
        """Return the additions to a choice that gained some tokens."""
        added: Json = {}
        if self.token_ids:
            added["token_ids"] = list(gained.tokens)
        if self.sources:
            added["token_sources"] = [_SOURCES[source] for source in gained.sources]
            added["token_texts"] = [
                {"index": piece.index, "source": _SOURCES[piece.source], "text": piece.text} for piece in gained.pieces
            ]
            added["num_draft_tokens"] = gained.num_draft_tokens
        return added


class ChatShape:
    """POST /v1/chat/completions."""

    id_prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, wanted: Wanted, prompt: Seq[int], tools: Set[str] = frozenset()) -> None:
        """Write the answers to one conversation, whose rendered ``prompt`` may be asked for.

        Where there are ``tools``, by name, answers are searched for calls of them.
        """
        self._wanted = wanted
        self._tools = tools
        self._messages: dict[int, MessageDeltas] = {}
        self.root: Json = {"prompt_token_ids": list(prompt)} if wanted.token_ids else {}

    def whole(self, record: ChoiceRecord) -> Json:
        """Return a finished choice as a message of the assistant."""
        if self._wanted.prompt_logprobs:
            self.root["prompt_logprobs"] = prompt_logprobs(self._wanted.names, record.prompt_logprobs)
        told = self._message(record.index)
        message = {**told.opening, **told.take(record.text, finished=True)}
        for call in message.get("tool_calls", ()):
            del call["index"]
        return {
            "index": record.index,
            "message": message,
            "logprobs": self._logprobs(record),
            "finish_reason": _reason(told, record.finish_reason),
            **self._wanted.additions(record),
        }

    def first(self, index: int) -> Json | None:
        """Return the chunk that says who speaks."""
        return {"index": index, "delta": self._message(index).opening, "logprobs": None, "finish_reason": None}

    def chunk(self, delta: TextDelta) -> Json | None:
        """Return new text and calls; the last chunk may have none."""
        finished = delta.finish_reason is not None
        message = self._message(delta.index)
        gained = message.take(delta.text, finished=finished)
        if not (gained or finished or (delta.tokens and self._wanted.every_token)):
            return None
        return {
            "index": delta.index,
            "delta": gained,
            "logprobs": self._logprobs(delta),
            "finish_reason": _reason(message, delta.finish_reason.value) if delta.finish_reason is not None else None,
            **self._wanted.additions(delta),
        }

    def _message(self, index: int) -> MessageDeltas:
        if index not in self._messages:
            self._messages[index] = MessageDeltas(self._tools)
        return self._messages[index]

    def _logprobs(self, gained: ChoiceRecord | TextDelta) -> Json | None:
        return chat_logprobs(self._wanted.names, gained.logprobs) if self._wanted.logprobs else None


def _reason(message: MessageDeltas, reason: str) -> str:
    return "tool_calls" if message.called and reason == "stop" else reason


class CompletionShape:
    """POST /v1/completions."""

    id_prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def __init__(
        self, wanted: Wanted, prompts: Seq[Seq[int]], choices: int, echo: Seq[str] | None, *, answers: bool = True
    ) -> None:
        """Write ``choices`` continuations of each prompt.

        ``echo`` holds the prompts' texts where they are to come back in front; without ``answers``, alone.
        """
        self._wanted = wanted
        self._prompts = prompts
        self._per_prompt = choices
        self._echo = echo
        self._answers = answers
        self._begun: dict[int, CompletionLogprobs] = {}
        self.root: Json = {}

    def whole(self, record: ChoiceRecord) -> Json:
        """Return a finished choice."""
        return self._choice(record, record.finish_reason)

    def first(self, index: int) -> Json | None:
        """Return nothing: a completion has no speaker."""
        return None

    def chunk(self, delta: TextDelta) -> Json | None:
        """Return new text, the prompt's in front; the last chunk may have none."""
        echoes = self._echo is not None and delta.index not in self._begun
        told = delta.text or delta.finish_reason or (delta.tokens and (self._wanted.every_token or echoes))
        return self._choice(delta, delta.finish_reason and delta.finish_reason.value) if told else None

    def _choice(self, gained: ChoiceRecord | TextDelta, finish_reason: str | None) -> Json:
        prompt = gained.index // self._per_prompt
        first = gained.index not in self._begun
        logprobs = self._begun.setdefault(gained.index, CompletionLogprobs(self._wanted.names))
        echoed = self._echo[prompt] if first and self._echo is not None else None
        choice: Json = {
            "index": gained.index,
            "text": (echoed or "") + (gained.text if self._answers else ""),
            "logprobs": self._logprobs(logprobs, gained, echoed),
            "finish_reason": finish_reason,
        }
        if first and self._wanted.token_ids:
            choice["prompt_token_ids"] = list(self._prompts[prompt])
        if first and self._wanted.prompt_logprobs:
            choice["prompt_logprobs"] = prompt_logprobs(self._wanted.names, gained.prompt_logprobs)
        shown = gained if self._answers else ChoiceRecord(gained.index)
        return {**choice, **self._wanted.additions(shown)}

    def _logprobs(
        self, writer: CompletionLogprobs, gained: ChoiceRecord | TextDelta, echoed: str | None
    ) -> Json | None:
        if not self._wanted.logprobs:
            return None
        pieces = []
        if echoed is not None:
            prompt = self._prompts[gained.index // self._per_prompt]
            pieces = [writer.echo(echoed, prompt, gained.prompt_logprobs)]
        if self._answers:
            pieces.append(writer.write(gained.logprobs, gained.ends))
        return joined(pieces)
