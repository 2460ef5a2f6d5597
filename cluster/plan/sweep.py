"""All fleets of a plan, simulated next to each other in processes of their own where that is worth it."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence

from cluster.plan.fleet import MAX_DRAFTERS, MAX_TARGETS, Demand, FleetFigures, simulate
from cluster.plan.profile import HardwareProfile
from workers.contract.errors import ConfigurationError

MAX_FLEETS = 64
MAX_PLAN_TOKENS = 20_000_000
"""Emitted by all fleets together. A core simulates some 15,000 to 60,000 a second."""
WORTH_A_PROCESS = 100_000
"""Tokens from which several processes are quicker than one: each takes a second to start."""

Fleet = tuple[int, int]
"""(targets, drafters)"""


def fleets(targets: Sequence[int], drafters: Sequence[int]) -> list[Fleet]:
    """Return all combinations, by number of targets and then of drafters.

    Raises:
        ConfigurationError: A number is out of bounds, or there are too many combinations.
    """
    for option, values, least, most in (
        ("--targets", targets, 1, MAX_TARGETS),
        ("--drafters", drafters, 0, MAX_DRAFTERS),
    ):
        if not values:
            raise ConfigurationError(f"{option} needs at least one number")
        for value in values:
            if not least <= value <= most:
                raise ConfigurationError(f"{option}: {value} is not between {least} and {most}")
    found = [(n, m) for n in sorted(set(targets)) for m in sorted(set(drafters))]
    if len(found) > MAX_FLEETS:
        raise ConfigurationError(f"{len(found)} fleets are too many for one plan: at most {MAX_FLEETS}")
    return found


def sweep(
    profile: HardwareProfile, demand: Demand, combinations: Sequence[Fleet], done: Callable[[], None]
) -> list[FleetFigures]:
    """Return the figures of every fleet, in their order; ``done`` is called as each one ends.

    Raises:
        ConfigurationError: It would take too long.
    """
    tokens = demand.num_requests * profile.answer_tokens * len(combinations)
    if tokens > MAX_PLAN_TOKENS:
        raise ConfigurationError(
            f"{len(combinations)} fleets, {demand.num_requests} requests and {profile.answer_tokens} tokens per answer "
            f"are {tokens:,} tokens to simulate: at most {MAX_PLAN_TOKENS:,}. Lower --requests, or leave fleets out"
        )
    processes = min(os.cpu_count() or 1, len(combinations))
    if processes == 1 or tokens < WORTH_A_PROCESS:
        return [_told(simulate(profile, demand, *fleet), done) for fleet in combinations]
    # Those with the most to simulate first, so that no process is left alone with one of them at the end.
    order = sorted(combinations, key=lambda fleet: (fleet[1] > 0, fleet), reverse=True)
    jobs = [(profile, demand, fleet) for fleet in order]
    figures: dict[Fleet, FleetFigures] = {}
    # Leaving the context ends the processes at once, whatever they are at: Ctrl-C need not wait for a simulation.
    with multiprocessing.get_context("spawn").Pool(processes, _leave_interrupts_to_the_parent) as pool:
        for fleet, made in pool.imap_unordered(_simulate, jobs):
            figures[fleet] = _told(made, done)
    return [figures[fleet] for fleet in combinations]


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _simulate(job: tuple[HardwareProfile, Demand, Fleet]) -> tuple[Fleet, FleetFigures]:
    profile, demand, fleet = job
    return fleet, simulate(profile, demand, *fleet)


def _told(figures: FleetFigures, done: Callable[[], None]) -> FleetFigures:
    done()
    return figures
