"""A profile of this machine: an engine and its drafters at work, watched (`outrider plan --measure`)."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from cluster.bench.machine import describe_machine
from cluster.bench.prompts import PROMPTS, conversation
from cluster.bench.report import today
from cluster.bench.workload import GREEDY, Workload
from cluster.plan.calibration import AT_ONCE, DRAFTED, OVERLAPPED, Calibration, CalibrationError
from cluster.plan.observed_engine import Ask, observed_engine
from cluster.plan.profile import HardwareProfile
from cluster.scheduler.settings import Policy, SchedulerSettings
from workers.checkpoint.source import resolve_model
from workers.draft_model.config import reads_states
from workers.drafting.server import NGRAM
from workers.settings import DrafterSettings, RunnerSettings
from workers.threads import SPIN_COUNT
from workers.tokenizer import Tokenizer

PLAIN = SchedulerSettings(draft_length=0, lookup=False)
IN_TURN = SchedulerSettings(policy=Policy.FIXED, draft_wait_ms=1000, max_draft_tokens_per_step=10**6, lookup=False)
"""Drafts of every length that a workload asks for, all waited for: so blocks are timed beside an idle target."""
BESIDE = IN_TURN.model_copy(update={"draft_wait_ms": 0})
"""Nobody waits: blocks are made while the target is at its next step, which shows what they take from each other."""
NEW_TOKENS = 48
LONG_PROMPT = 8
"""So many prompts make a long one, which shows what context costs."""


def measure_profile(runner: RunnerSettings, drafter: DrafterSettings, tell: Callable[[str], None]) -> HardwareProfile:
    """Serve the built-in prompts on this machine, plainly and with ``drafter``, and return its profile.

    Takes some three minutes with the default model. ``tell`` hears what is being done.

    Raises:
        CalibrationError: An engine could not be started, or too little was seen.
    """
    calibration = Calibration()
    prompts = encoded_prompts(runner.model)
    threads = runner.threads or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        answers = Path(folder) / "answers.jsonl"
        tell("starting an engine without drafters")
        plain = started(stack, "plain", runner, PLAIN, answers, threads)
        for workload in plain_workloads(prompts):
            tell(f"plain, {len(workload.prompts)} at once")
            calibration.add(plain(workload))
        tell("starting an engine with a drafter")
        drafted = started(stack, "drafted", runner, IN_TURN, answers, threads, drafter=drafter)
        for workload in drafted_workloads(prompts):
            tell(f"drafting, {len(workload.prompts)} at once")
            calibration.add(drafted(workload))
        tell("starting an engine that does not wait for its drafter")
        beside = started(stack, "beside", runner, BESIDE, answers, threads, drafter=drafter)
        for workload in beside_workloads(prompts):
            tell(f"drafting beside steps, {len(workload.prompts)} at once")
            calibration.add(beside(workload))
    name = f"{Path(runner.model).name} with {drafter.model}, this machine"
    return profile_of(calibration, name, prompts, drafter.model)


def _manner(drafter_model: str) -> dict[str, bool]:
    """Return how a drafter works, as fields of DraftCosts."""
    if drafter_model in ("", NGRAM):
        return {"runs_ahead": drafter_model != NGRAM, "whole_blocks": True}
    return {"runs_ahead": True, "whole_blocks": reads_states(resolve_model(drafter_model).path)}


def profile_of(
    calibration: Calibration, name: str, prompts: Sequence[Sequence[int]], drafter_model: str = ""
) -> HardwareProfile:
    """Return the profile that the observations so far amount to.

    ``drafter_model``: as in DrafterSettings, or empty for one that runs ahead and makes blocks in one go.

    Raises:
        CalibrationError: Too little was seen.
    """
    machine = describe_machine()
    target, (drafter, round_trip_ms) = calibration.step_costs(), calibration.draft_costs()
    interference, drafter_interference = calibration.interference(target, drafter)
    return HardwareProfile(
        name=name,
        origin=f"measured {today()} on {machine['cores']} cores of {machine['processor']}, commit {machine['commit']}",
        target=target,
        drafter=drafter.model_copy(update=_manner(drafter_model)),
        round_trip_ms=round_trip_ms,
        interference=interference,
        drafter_interference=drafter_interference,
        acceptance=calibration.acceptance() or (0.0,),
        prompt_tokens=sum(map(len, prompts)) // len(prompts),
    )


def save_profile(profile: HardwareProfile, file: Path) -> None:
    """Write a profile as YAML, which `load_profile` reads."""
    fields = profile.model_dump(mode="json", exclude_defaults=True)
    file.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), encoding="utf-8")


def started(
    stack: contextlib.ExitStack,
    name: str,
    runner: RunnerSettings,
    scheduler: SchedulerSettings,
    answers: Path,
    threads: int,
    *,
    drafter: DrafterSettings | None = None,
    recorded: str = "",
) -> Ask:
    """Start an engine that ends with ``stack``; see `observed_engine`.

    Raises:
        CalibrationError: It ended before it was ready.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    try:
        worker, ask = observed_engine(name, runner, scheduler, answers, threads, drafter=drafter, recorded=recorded)
    except RuntimeError as error:
        raise CalibrationError(f"the engine could not be started: {error}") from None
    stack.enter_context(contextlib.closing(worker))
    return ask


def encoded_prompts(model: str) -> list[list[int]]:
    """Return the built-in prompts as the model's tokens."""
    tokenizer = Tokenizer.from_folder(resolve_model(model).path)
    return [tokenizer.apply_chat_template(conversation(prompt)) for prompt in PROMPTS]


def plain_workloads(prompts: Sequence[list[int]], salt: str = "") -> Iterator[Workload]:
    """Yield runs of several sizes, each with short prompts and with long ones; the first warms up."""
    yield Workload(prompts[:2], GREEDY, NEW_TOKENS // 2, salt=f"{salt}-warm")
    long = [
        [token for prompt in _taken(prompts, LONG_PROMPT, start=i) for token in prompt] for i in range(len(prompts))
    ]
    for count in AT_ONCE:
        for kind, texts in (("short", prompts), ("long", long)):
            if kind == "short" or count <= len(prompts) // 2:
                yield Workload(_taken(texts, count), GREEDY, NEW_TOKENS, salt=f"{salt}-{kind}-{count}")


def drafted_workloads(prompts: Sequence[list[int]], salt: str = "") -> Iterator[Workload]:
    """Yield runs with drafts of several lengths."""
    for count, length in DRAFTED:
        yield Workload(_taken(prompts, count), GREEDY, NEW_TOKENS, length, salt=f"{salt}-{count}-{length}")


def beside_workloads(prompts: Sequence[list[int]], salt: str = "") -> Iterator[Workload]:
    """Yield runs for an engine that does not wait."""
    for count, length in OVERLAPPED:
        yield Workload(_taken(prompts, count), GREEDY, NEW_TOKENS, length, salt=f"{salt}-beside-{count}-{length}")


def _taken(prompts: Sequence[list[int]], count: int, start: int = 0) -> list[list[int]]:
    return [prompts[(start + i) % len(prompts)] for i in range(count)]
