"""From a target's tokens to a client's text: detokenised, cut at a stop string, counted."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from cluster.api.stop_strings import StopStrings
from workers.contract.errors import OutriderError
from workers.contract.request import FinishReason, Progress
from workers.detokenizer import IncrementalDetokenizer


@dataclass(frozen=True, slots=True)
class TextDelta:
    """What a choice has gained; the first of each choice has nothing and says that it was accepted."""

    index: int
    text: str = ""
    num_tokens: int = 0
    """Tokens behind it, of which some may still be held back as text, or have none."""
    finish_reason: FinishReason | None = None
    cached_prompt_tokens: int = 0


class TextWriter:
    """Turns the progress of one choice into its text."""

    def __init__(self, index: int, detokenizer: IncrementalDetokenizer, stops: StopStrings) -> None:
        """Write choice ``index`` with a detokenizer and a stop string watcher of its own."""
        self._index = index
        self._detokenizer = detokenizer
        self._stops = stops

    def take(self, progress: Progress) -> TextDelta:
        """Return the text that one step added.

        A stop token ends the text and is no part of it. Where a stop string is completed, the tokens after
        the one that completed it are neither shown nor counted.
        """
        finish = progress.finish_reason
        visible = progress.tokens[:-1] if finish is FinishReason.STOP else progress.tokens
        text = ""
        for count, token in enumerate(visible, start=1):
            text += self._stops.feed(self._detokenizer.add([token]))
            if self._stops.hit is not None:
                return self._delta(text, count, FinishReason.STOP, progress)
        if finish is not None:
            text += self._stops.feed(self._detokenizer.finish())
            if self._stops.hit is not None:
                finish = FinishReason.STOP
            text += self._stops.flush()
        return self._delta(text, len(progress.tokens), finish, progress)

    def _delta(self, text: str, num_tokens: int, finish: FinishReason | None, progress: Progress) -> TextDelta:
        return TextDelta(self._index, text, num_tokens, finish, progress.cached_prompt_tokens)


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
