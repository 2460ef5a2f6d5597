"""What a drafter's guesses are worth: served one request at a time, every verification with a draft of K tokens."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Seq
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cluster.bench.acceptance.report import AcceptanceReport, Cell, Costs
from cluster.bench.workload import Sampling, Workload
from cluster.plan.observation import Observation
from cluster.plan.observed_engine import observed_engine
from cluster.scheduler.settings import Policy, SchedulerSettings
from workers.contract.errors import OutriderError
from workers.settings import DrafterSettings, RunnerSettings

TOP_P = 1.0
ALL = "all"


class AcceptanceError(OutriderError):
    """Nothing could be measured."""


@dataclass(frozen=True)
class Question:
    """What is to be measured."""

    target: RunnerSettings
    drafter: DrafterSettings
    length: int
    """K: draft tokens per verification."""
    prompts: Mapping[str, Seq[Seq[int]]]
    """Token ids, by kind."""
    temperatures: Seq[float]
    repeats: int
    """Answers to each prompt at temperatures above 0, each with a seed of its own."""
    max_tokens: int
    stop_token_ids: Seq[int]
    threads: int


def measure(question: Question, begin: Callable[[str], None], advance: Callable[[], None]) -> AcceptanceReport:
    """Serve all prompts and return what was accepted, by kind and temperature, and what drafting cost.

    Raises:
        AcceptanceError: the engine could not be started, or no draft came.
    """
    scheduler = SchedulerSettings(
        policy=Policy.FIXED,
        draft_length=question.length,
        draft_wait_ms=10_000,
        max_draft_tokens_per_step=10**6,
        lookup=False,
        run_ahead=0,
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            begin("starting the engine")
            worker, ask = observed_engine(
                "acceptance",
                question.target,
                scheduler,
                Path(folder) / "answers.jsonl",
                question.threads,
                drafter=question.drafter,
            )
        except RuntimeError as error:
            raise AcceptanceError(f"the engine could not be started: {error}") from None
        stack.enter_context(closing(worker))
        cells: list[Cell] = []
        everything: list[Observation] = []
        for temperature in question.temperatures:
            seen: list[Observation] = []
            for kind, prompts in question.prompts.items():
                begin(f"{kind}, temperature {temperature:g}")
                before = len(seen)
                for workload in _workloads(question, prompts, temperature):
                    seen.append(ask(workload))
                    advance()
                cells.append(cell(kind, temperature, seen[before:]))
            if len(question.prompts) > 1:
                cells.append(cell(ALL, temperature, seen))
            everything += seen
        begin("plain decoding")
        plain = [ask(workload) for workload in _plain(question)]
    if not any(c.verifications for c in cells):
        raise AcceptanceError("no draft was verified: the drafter does not answer, or proposes nothing")
    return AcceptanceReport(question.length, cells, costs(question.length, everything, plain))


def cell(kind: str, temperature: float, seen: Iterable[Observation]) -> Cell:
    """Return the figures of some answers."""
    tried: list[int] = []
    right: list[int] = []
    tokens = 0
    for observation in seen:
        tokens += observation.num_tokens
        _add(tried, observation.tried)
        _add(right, observation.right)
    return Cell(kind, temperature, tokens, tuple(tried), tuple(right))


def costs(length: int, seen: Iterable[Observation], plain: Iterable[Observation]) -> Costs:
    """Return the medians of what steps and blocks took, one request at a time.

    Raises:
        AcceptanceError: some of it was never seen.
    """
    verifications, blocks = [], []
    for observation in seen:
        verifications += [s.seconds for s in observation.steps if (s.rows, s.positions) == (1, length + 1)]
        blocks += [b.seconds for b in observation.blocks if (b.draft_length, b.sequences) == (length, 1)]
    steps = [s.seconds for observation in plain for s in observation.steps if (s.rows, s.positions) == (1, 1)]
    if not (verifications and blocks and steps):
        raise AcceptanceError("too little was seen to tell what drafting costs: ask for longer answers")
    return Costs(median(steps), median(verifications), median(blocks))


def _workloads(question: Question, prompts: Seq[Seq[int]], temperature: float) -> Iterable[Workload]:
    for repeat in range(1 if temperature == 0 else question.repeats):
        for number, prompt in enumerate(prompts):
            yield Workload(
                [prompt],
                Sampling(temperature, TOP_P),
                question.max_tokens,
                salt=f"{temperature}-{repeat}-{number}",
                stop_token_ids=question.stop_token_ids,
                first_seed=1000 * repeat + number,
            )


def _plain(question: Question) -> Iterable[Workload]:
    for number, prompts in enumerate(question.prompts.values()):
        yield Workload([prompts[0]], Sampling(0.0, TOP_P), question.max_tokens, 0, salt=f"plain-{number}")


def _add(sums: list[int], counts: Seq[int]) -> None:
    sums += [0] * (len(counts) - len(sums))
    for position, count in enumerate(counts):
        sums[position] += count
