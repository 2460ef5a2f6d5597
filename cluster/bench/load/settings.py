"""What a load benchmark is asked to do: its loads, its rounds and its requests, with hard bounds."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from pydantic import Field

from workers.contract.errors import ConfigurationError
from workers.settings import Settings

T = TypeVar("T", int, float)

MAX_LOADS = 16
MAX_CONCURRENCY = 1024
MAX_RATE = 1000.0
MIN_RATE = 0.01
DEFAULT_CONCURRENCIES = (1, 4, 16, 32)
OPEN_LOOP_SECONDS = 10
"""For so long requests arrive in one run at a rate, unless their number is given."""
LEAST_AT_RATE = 8


class LoadKind(StrEnum):
    """How requests are sent."""

    CONCURRENCY = "concurrency"
    """Closed loop: so many requests at once; the end of one starts the next."""
    RATE = "rate"
    """Open loop: requests arrive at random moments (Poisson), so many per second on average, whatever is under way."""


class Load(Settings):
    """One point of a sweep."""

    kind: LoadKind
    value: float = Field(gt=0)
    """Requests at once, or requests per second."""

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.value:g} at once" if self.kind is LoadKind.CONCURRENCY else f"{self.value:g} per s"

    def requests(self, wanted: int | None) -> int:
        """Return how many requests one run sends: what is wanted, else enough for a figure."""
        if wanted is not None:
            return wanted
        if self.kind is LoadKind.CONCURRENCY:
            return max(2 * int(self.value), 4)
        return max(math.ceil(OPEN_LOOP_SECONDS * self.value), LEAST_AT_RATE)


class ApiKind(StrEnum):
    """Which of OpenAI's endpoints is asked."""

    CHAT = "chat"
    COMPLETIONS = "completions"

    @property
    def path(self) -> str:
        """Path below the base URL."""
        return "/chat/completions" if self is ApiKind.CHAT else "/completions"


class BenchSettings(Settings):
    """Everything that determines a run, apart from who is asked."""

    loads: tuple[Load, ...] = Field(min_length=1, max_length=MAX_LOADS)
    rounds: int = Field(default=5, ge=1, le=100)
    """Rounds that count; one more warms up."""
    requests: int | None = Field(default=None, ge=1, le=100_000)
    """Requests per run; None: twice the concurrency and at least 4, or ten seconds of a rate and at least 8."""
    new_tokens: int = Field(default=128, ge=2, le=32_768)
    """Most tokens of an answer."""
    ignore_eos: bool = True
    """Ask Outrider for answers of full length, so that all runs do equal work; others are not asked."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of arrival times and, with a temperature, of the answers."""
    api: ApiKind = ApiKind.CHAT
    timeout_s: float = Field(default=600.0, gt=0, le=86_400)
    """A request that takes longer has failed."""


def parse_loads(concurrency: str | None, rate: str | None) -> tuple[Load, ...]:
    """Return the loads of ``--concurrency 1,4`` or ``--rate 0.5,2``; neither is the default sweep of concurrencies.

    Raises:
        ConfigurationError: Both are given, or a value is no number or out of bounds.
    """
    if concurrency is not None and rate is not None:
        raise ConfigurationError("give either --concurrency or --rate: a run has one kind of load")
    if rate is not None:
        rates = _numbers("--rate", rate, float, MIN_RATE, MAX_RATE)
        return tuple(Load(kind=LoadKind.RATE, value=value) for value in rates)
    counts: list[int] = list(DEFAULT_CONCURRENCIES)
    if concurrency is not None:
        counts = _numbers("--concurrency", concurrency, int, 1, MAX_CONCURRENCY)
    return tuple(Load(kind=LoadKind.CONCURRENCY, value=value) for value in counts)


def _numbers(option: str, text: str, read: Callable[[str], T], least: T, most: T) -> list[T]:
    values: list[T] = []
    for part in text.split(","):
        try:
            value = read(part.strip())
        except ValueError:
            kind = "a whole number" if read is int else "a number"
            raise ConfigurationError(
                f"{option} takes numbers with commas between them; {part!r} is not {kind}"
            ) from None
        if not least <= value <= most:
            raise ConfigurationError(f"{option}: {part.strip()} is not between {least:g} and {most:g}")
        if value not in values:
            values.append(value)
    if len(values) > MAX_LOADS:
        raise ConfigurationError(f"{option} takes at most {MAX_LOADS} values, got {len(values)}")
    return values
