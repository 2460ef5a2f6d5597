"""A running deployment, however it is reached: the matrix of same-text tests is written over this."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.scheduler.load import EngineLoad
from tests.truth.cases import Answer, Case
from workers.settings import DrafterSettings


@dataclass(frozen=True)
class Speculation:
    """Who drafts for the target, and how many tokens at a time."""

    name: str
    draft_length: int
    drafter: DrafterSettings | None = None
    lookup: bool = True
    """May the target guess by itself where no block came in time?"""


class Client(Protocol):
    """Asks a deployment over one protocol."""

    async def answer(self, case: Case) -> Answer:
        """Send one request and read it to its end."""


@dataclass(frozen=True)
class Counts:
    """What happened to drafts while some cases ran."""

    drafts: int
    draft_tokens: int
    accepted: int

    @classmethod
    def between(cls, before: EngineLoad, after: EngineLoad) -> "Counts":
        """Return what was counted since ``before``."""
        return cls(
            after.num_drafts - before.num_drafts,
            after.draft_tokens - before.draft_tokens,
            after.accepted_tokens - before.accepted_tokens,
        )

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.drafts + other.drafts,
            self.draft_tokens + other.draft_tokens,
            self.accepted + other.accepted,
        )

    def rejected_drafts(self, draft_length: int) -> int:
        """Return how many drafts were cut short at least: each throws away ``draft_length`` tokens at most."""
        return -((self.accepted - self.draft_tokens) // draft_length) if draft_length else 0


async def ask_all(client: Client, cases: Sequence[Case], concurrency: int) -> dict[str, Answer]:
    """Send all cases, at most ``concurrency`` at once; return the answers by case name."""
    slots = asyncio.Semaphore(concurrency)

    async def ask(case: Case) -> tuple[str, Answer]:
        async with slots:
            return case.name, await client.answer(case)

    return dict(await asyncio.gather(*(ask(case) for case in cases)))
