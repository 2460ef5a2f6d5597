"""One fleet under a load, simulated: what is asked for and the figures that come of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Self

from pydantic import Field

from cluster.bench.load.values import percentile
from cluster.plan.profile import HardwareProfile
from cluster.scheduler.settings import Way
from cluster.simulator.simulation import Load, Simulation, Timing
from workers.settings import DrafterSettings, Settings

MAX_CONCURRENCY = 4096
MAX_RATE = 10_000.0
MAX_REQUESTS = 100_000
MAX_TARGETS = 64
MAX_DRAFTERS = 512
ROUNDS = 4
"""Requests per client, unless their number is given."""
RATE_SECONDS = 30
LEAST_REQUESTS = 16
PLAIN = "plain"
"""Steps of which drafters were not asked."""
RUN_AHEAD_ROWS = DrafterSettings().run_ahead_rows
"""As a drafter is set up unless told otherwise."""
BACKLOG = 0.05
"""A fleet keeps up with arrivals where no larger share of them waits for its first token when the last one arrives."""
MOST_WARM_UP = 0.5
"""Latencies leave the first request of each client out, which all come at once, but no larger share than this."""


class Demand(Settings):
    """What the whole fleet is asked, however many share it."""

    concurrency: int = Field(default=64, ge=1, le=MAX_CONCURRENCY)
    """Clients, each of which sends its next request when its last one is answered."""
    rate: float | None = Field(default=None, gt=0, le=MAX_RATE)
    """Instead: requests per second that arrive at random."""
    requests: int | None = Field(default=None, ge=1, le=MAX_REQUESTS)
    """In all; None: so many that the figures settle."""
    seed: int = Field(default=0, ge=0, lt=2**32)

    @property
    def num_requests(self) -> int:
        """How many requests are sent."""
        if self.requests is not None:
            return self.requests
        wanted = ROUNDS * self.concurrency if self.rate is None else int(RATE_SECONDS * self.rate)
        return min(max(wanted, LEAST_REQUESTS), MAX_REQUESTS)

    @property
    def label(self) -> str:
        """The load in words."""
        load = f"{self.concurrency} requests at once" if self.rate is None else f"{self.rate:g} requests per second"
        return f"{load}, {self.num_requests} in all"


class Quantiles(Settings):
    """Seconds, over requests."""

    p50: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the percentiles, interpolated between neighbours."""
        ordered = sorted(values)
        return cls(p50=percentile(ordered, 0.5), p95=percentile(ordered, 0.95))


class FleetFigures(Settings):
    """What came of one fleet."""

    targets: int
    drafters: int
    goodput: float
    """Emitted tokens per second under full load, of all targets together."""
    ttft: Quantiles
    """From sending a request to its first token."""
    itl: Quantiles
    """(last - first) / (tokens - 1) of a request."""
    target_idle: float
    """Share of the targets' time in which they neither stepped nor prepared a step."""
    drafter_busy: float
    """Share of the drafters' time; 0 where there are none."""
    ways: dict[str, float]
    """How the scheduler went about it: shares of steps by the way that it asked drafters, or `plain`."""
    acceptance_length: float | None
    """Tokens per verified draft, the target's own included; None where none was verified."""
    keeps_up: bool
    """False where requests arrive faster than they are answered."""
    tokens: int
    seconds: float
    """Simulated, from the first request to the last token."""
    cost_per_million: float | None
    """Of emitted tokens; None where a price that matters is not known."""

    @property
    def ratio(self) -> float:
        """Drafters per target."""
        return self.drafters / self.targets

    @property
    def goodput_per_target(self) -> float:
        """Tokens per second and target."""
        return self.goodput / self.targets


def prepare(profile: HardwareProfile, demand: Demand, targets: int, drafters: int) -> Simulation:
    """Return a simulation of the demand that has not been run."""
    # What a deployment does while it learns its costs is not what it goes on to do.
    warm_up = min(demand.concurrency, demand.num_requests // 3) if demand.rate is None else 0
    load = Load(
        demand.concurrency,
        demand.num_requests,
        profile.prompt_tokens,
        profile.answer_tokens,
        warm_up=warm_up,
        rate=demand.rate,
    )
    settings = profile.scheduler.model_copy(update={"lookup": False})
    return Simulation(
        profile.hardware,
        profile.acceptance,
        load,
        settings,
        targets=targets,
        drafters=drafters,
        run_ahead_rows=RUN_AHEAD_ROWS if profile.drafter.runs_ahead else 0,
        seed=demand.seed,
    )


def simulate(profile: HardwareProfile, demand: Demand, targets: int, drafters: int) -> FleetFigures:
    """Serve the demand with so many targets that share so many drafters; none of the latter decodes plainly."""
    simulation = prepare(profile, demand, targets, drafters)
    report = simulation.run()
    loaded, timings = report.loaded, list(report.requests.values())
    first_wave = demand.concurrency if demand.rate is None else 0
    settled = timings[min(first_wave, int(MOST_WARM_UP * len(timings))) :]
    names = [PLAIN, *(way.value for way in Way)]
    steps = Counter[str]()
    for target in simulation.targets:
        steps.update(dict(zip(names, target.planner.counters.steps_by_way, strict=True)))
    return FleetFigures(
        targets=targets,
        drafters=drafters,
        goodput=report.goodput,
        ttft=Quantiles.of([timing.first - timing.sent for timing in settled]),
        itl=Quantiles.of([(t.last - t.first) / (len(t.tokens) - 1) for t in settled]),
        target_idle=max(0.0, 1 - loaded.target_busy_s / (targets * loaded.seconds)),
        drafter_busy=min(1.0, loaded.drafter_busy_s / (drafters * loaded.seconds)) if drafters else 0.0,
        ways={way: count / steps.total() for way, count in steps.most_common() if count},
        acceptance_length=1 + report.accepted / report.drafts if report.drafts else None,
        keeps_up=demand.rate is None or _backlog(timings) <= BACKLOG,
        tokens=report.tokens,
        seconds=report.seconds,
        cost_per_million=cost_per_million(profile, targets, drafters, report.goodput),
    )


def cost_per_million(profile: HardwareProfile, targets: int, drafters: int, goodput: float) -> float | None:
    """Return what a million emitted tokens cost at ``goodput`` tokens per second, the whole fleet being paid for."""
    target, drafter = profile.target.price_per_hour, profile.drafter.price_per_hour
    if target is None or (drafters and drafter is None):
        return None
    per_hour = targets * target + drafters * (drafter or 0.0)
    return per_hour / (goodput * 3600) * 1e6


def _backlog(timings: Sequence[Timing]) -> float:
    """Return the share of the requests that had no token yet when the last one came."""
    last = max(timing.sent for timing in timings)
    return sum(timing.first > last for timing in timings) / len(timings)
