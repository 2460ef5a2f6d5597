"""One request over HTTP, as a user sends it, and what came of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from cluster.soak.cases import Case

REFUSALS = frozenset({429, 503})
SAME_LOGPROB = 0.02
"""Log-probabilities may differ by so much: a resumed text is computed in other rows, which rounds differently where
the model is not invariant to them."""


@dataclass(slots=True)
class Choice:
    """One answer."""

    text: str = ""
    tokens: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None

    def same(self, other: "Choice") -> bool:
        """Return whether two answers are equal: text, end, and log-probabilities as far as they can be."""
        alike = (self.text, self.tokens, self.finish_reason) == (other.text, other.tokens, other.finish_reason)
        pairs = zip(self.logprobs, other.logprobs, strict=True) if alike else ()
        return alike and all(abs(a - b) <= SAME_LOGPROB for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Answer:
    """All choices of a request that was answered to its end."""

    choices: Mapping[int, Choice]

    def same(self, other: "Answer") -> bool:
        """Return whether every choice is the same."""
        return self.choices.keys() == other.choices.keys() and all(
            choice.same(other.choices[i]) for i, choice in self.choices.items()
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was turned away at the door, with a reason and before anything was answered."""

    status: int


class RequestFailedError(Exception):
    """A request that was accepted, or should have been, and was not answered to its end."""


async def ask(
    session: aiohttp.ClientSession, url: str, case: Case, on_event: Callable[[], None] = lambda: None
) -> Answer | Refused:
    """Send a request and read its answer; ``on_event`` is called with each part of a stream.

    Raises:
        RequestFailedError: It was neither answered to its end nor refused.
    """
    choices: dict[int, Choice] = {}
    try:
        async with session.post(f"{url}/v1/completions", json=case.body) as response:
            if response.status in REFUSALS:
                return Refused(response.status)
            if response.status != 200:
                raise RequestFailedError(f"HTTP {response.status}: {(await response.text())[:200]}")
            if not case.streams:
                _take(await response.json(), choices)
                return Answer(choices)
            ended = False
            async for line in response.content:
                if line.startswith(b"data: {"):
                    _take(json.loads(line[6:]), choices)
                    on_event()
                ended = ended or line.startswith(b"data: [DONE]")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RequestFailedError(f"{type(error).__name__}: {error}") from error
    if not ended or any(choice.finish_reason is None for choice in choices.values()):
        raise RequestFailedError("the stream broke off")
    return Answer(choices)


def _take(body: Mapping[str, Any], choices: dict[int, Choice]) -> None:
    if "error" in body:
        raise RequestFailedError(f"an error in mid-stream: {body['error'].get('message')}")
    for part in body["choices"]:
        choice = choices.setdefault(part["index"], Choice())
        choice.text += part["text"]
        choice.finish_reason = part.get("finish_reason") or choice.finish_reason
        if logprobs := part.get("logprobs"):
            choice.tokens += logprobs["tokens"]
            choice.logprobs += logprobs["token_logprobs"]
