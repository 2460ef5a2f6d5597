"""From a target's tokens to a client's text: detokenised, cut at a stop string, counted."""

import contextlib
from collections.abc import AsyncGenerator
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from cluster.api.reply.stop_strings import StopStrings
from cluster.api.reply.token_texts import TokenText, TokenTexts
from workers.contract.draft import DraftSource
from workers.contract.errors import OutriderError
from workers.contract.logprobs import TokenLogprobs
from workers.contract.request import FinishReason, Progress
from workers.detokenizer import IncrementalDetokenizer


@dataclass(frozen=True, slots=True)
class TextDelta:
    """What a choice has gained; the first of each choice has nothing and says that it was accepted."""

    index: int
    text: str = ""
    tokens: Seq[int] = ()
    """The tokens behind it, of which some may still be held back as text, or have none."""
    ends: Seq[int] = ()
    """How long the choice's text was known to be after each of them."""
    sources: Seq[DraftSource] = ()
    """Where each of them came from."""
    pieces: Seq[TokenText] = ()
    """The text by the tokens that it comes from, of which some may have come earlier; where it is wanted."""
    logprobs: Seq[TokenLogprobs] = ()
    """Theirs, where the request wants them."""
    prompt_logprobs: Seq[TokenLogprobs] = ()
    """Those of the prompt, once, with the first tokens."""
    finish_reason: FinishReason | None = None
    stop: str | None = None
    """The stop string that ended the text."""
    cached_prompt_tokens: int = 0
    num_drafts: int = 0
    """1 where the step verified a draft."""
    num_draft_tokens: int = 0
    num_accepted: int = 0
    drafter: str = ""
    """The name of the drafter whose draft that was; empty where it was none of a drafter."""
    queued_s: float = 0.0
    """With the first tokens: seconds that the choice waited for a place at its target."""

    @property
    def num_tokens(self) -> int:
        """How many tokens it is."""
        return len(self.tokens)


class TextWriter:
    """Turns the progress of one choice into its text."""

    def __init__(
        self,
        index: int,
        detokenizer: IncrementalDetokenizer,
        stops: StopStrings,
        *,
        min_tokens: int = 0,
        show_stop: bool = False,
        pieces: bool = False,
    ) -> None:
        """Write choice ``index`` with a detokenizer and a stop string watcher of its own.

        No stop string ends the text within its first ``min_tokens`` tokens. With ``show_stop`` what ends the
        text, string or token, is a part of it. With ``pieces`` it is told which token each piece comes from.
        """
        self._index = index
        self._detokenizer = detokenizer
        self._stops = stops
        self._left_alone = min_tokens
        self._show_stop = show_stop
        self._texts = TokenTexts() if pieces else None
        self._end = 0

    def take(self, progress: Progress) -> TextDelta:
        """Return the text that one step added.

        A stop token ends the text and is no part of it. Where a stop string is completed, the tokens after
        the one that completed it are neither shown nor counted.
        """
        finish = progress.finish_reason
        hidden = finish is FinishReason.STOP and not self._show_stop
        visible = progress.tokens[:-1] if hidden else progress.tokens
        text = ""
        ends: list[int] = []
        for count, token in enumerate(visible, start=1):
            certain = self._detokenizer.add([token])
            if self._texts is not None:
                self._texts.token(progress.sources[count - 1], certain)
            self._end += len(certain)
            ends.append(self._end)
            text += self._feed(certain)
            self._left_alone -= 1
            if self._stops.hit is not None:
                return self._delta(text + self._shown_stop(), ends, FinishReason.STOP, progress)
        if finish is not None:
            rest = self._detokenizer.finish()
            if self._texts is not None:
                self._texts.rest(rest)
            text += self._feed(rest)
            if self._stops.hit is not None:
                finish = FinishReason.STOP
                text += self._shown_stop()
            text += self._stops.flush()
            self._end += len(rest)
        ends += [self._end] * (len(progress.tokens) - len(ends))
        return self._delta(text, ends, finish, progress)

    def _feed(self, text: str) -> str:
        return text if self._left_alone > 1 else self._stops.feed(text)

    def _shown_stop(self) -> str:
        return (self._stops.hit or "") if self._show_stop else ""

    def _delta(self, text: str, ends: Seq[int], finish: FinishReason | None, progress: Progress) -> TextDelta:
        num_tokens = len(ends)
        return TextDelta(
            self._index,
            text,
            progress.tokens[:num_tokens],
            ends,
            progress.sources[:num_tokens],
            self._texts.shown(text) if self._texts is not None else (),
            progress.logprobs[:num_tokens],
            progress.prompt_logprobs,
            finish,
            self._stops.hit,
            progress.cached_prompt_tokens,
            progress.num_drafts,
            progress.num_draft_tokens,
            sum(source is not DraftSource.NONE for source in progress.sources),
            progress.drafter,
            progress.queued_s,
        )


async def write_text(progress: AsyncGenerator[Progress], writer: TextWriter) -> AsyncGenerator[TextDelta]:
    """Yield a choice's deltas; leaving at a stop string closes ``progress``, which cancels at the target.

    Raises what ``progress`` raises, and OutriderError where the target failed on this request.
    """
    async with contextlib.aclosing(progress):
        async for step in progress:
            if step.finish_reason is FinishReason.ERROR:
                raise OutriderError(f"the target failed on request {step.request_id}: {step.message}")
            delta = writer.take(step)
            yield delta
            if delta.finish_reason is not None:
                return
