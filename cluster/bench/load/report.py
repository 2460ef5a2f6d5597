"""The report of a load benchmark: everything that the table, the plots and a later reader need."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from cluster.bench.load.endpoint import Endpoint
from cluster.bench.load.figures import LoadFigures, ModeFigures, load_figures
from cluster.bench.load.modes import Mode
from cluster.bench.load.run import Run
from cluster.bench.load.settings import BenchSettings
from cluster.bench.load.texts import TextCheck, check_texts
from cluster.bench.load.values import PROVING_ROUNDS
from cluster.bench.report import today
from workers.contract.errors import ConfigurationError
from workers.settings import Settings

BUSY = 0.5
"""Share of the cores in use from which a machine is too busy for a benchmark."""


class Report(Settings):
    """One benchmark. Its JSON form is read back by `load`."""

    schema_version: Literal[1] = 1
    date: str
    command: str
    machine: dict[str, Any]
    """The client's machine; the endpoint's as well where it was started for the benchmark."""
    endpoint: Endpoint
    local: dict[str, Any] | None
    """Settings of the engine that was started for the benchmark; None for an endpoint that was there."""
    settings: BenchSettings
    loads: tuple[LoadFigures, ...]
    texts: TextCheck | None
    """None where only one mode was measured."""
    notes: tuple[str, ...]
    """What qualifies the figures, in sentences."""

    def save(self, path: Path) -> None:
        """Write the JSON form."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the JSON form.

        Raises:
            ConfigurationError: The file cannot be read or is no such report.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"cannot read the report {path}: {error.strerror}") from None
        except ValidationError as error:
            raise ConfigurationError(
                f"{path} is not a report of outrider bench: {error.error_count()} errors"
            ) from None


def make_report(
    runs: Sequence[Run],
    endpoint: Endpoint,
    settings: BenchSettings,
    *,
    command: str,
    machine: dict[str, Any],
    local: dict[str, Any] | None,
) -> Report:
    """Return the report of a sweep."""
    loads = load_figures(runs)
    return Report(
        date=today(),
        command=command,
        machine=machine,
        endpoint=endpoint,
        local=local,
        settings=settings,
        loads=loads,
        texts=check_texts(runs),
        notes=(*endpoint.notes, *_machine_notes(machine), *_notes(runs, loads, settings)),
    )


def _machine_notes(machine: dict[str, Any]) -> Iterator[str]:
    load, cores = machine["load_average"], machine["cores"]
    if load > BUSY * cores:
        yield (
            f"This machine was busy when the run began (load average {load:.1f} on {cores} cores): figures of what "
            "runs on it are worse than they could be, and spreads are wide."
        )


def _notes(runs: Sequence[Run], loads: Sequence[LoadFigures], settings: BenchSettings) -> Iterator[str]:
    modes = [(figures.load.label, mode) for figures in loads for mode in figures.modes]
    if any(figures.comparison for figures in loads) and settings.rounds < PROVING_ROUNDS:
        yield f"Fewer than {PROVING_ROUNDS} rounds prove nothing: verdicts tell only which way the median lies."
    if not all(sample.has_usage for run in runs for sample in run.answered):
        yield "The endpoint reports no usage in streams: each chunk with text is counted as one token."
    for label, mode in modes:
        if mode.failures:
            causes = ", ".join(f"{count} x {cause}" for cause, count in mode.failures.items())
            yield f"FAILED at {label}, {mode.mode.value}: {causes}. Failed requests count as no tokens."
    yield from _draft_notes(modes)
    if foreign := _foreign_tokens(runs):
        yield f"The endpoint had other clients: it generated at least {foreign} tokens for them during the runs."


def _draft_notes(modes: Sequence[tuple[str, ModeFigures]]) -> Iterator[str]:
    compared = [(label, mode) for label, mode in modes if mode.mode is not Mode.AS_SERVED]
    if compared and all(mode.acceptance is None for _, mode in compared):
        yield "The endpoint's /metrics shows no counters of drafts: acceptance is not known."
    for label, mode in compared:
        drafts = None if mode.acceptance is None else mode.acceptance.drafts
        if mode.mode is Mode.SPECULATION and drafts == 0:
            yield f"At {label} no draft was verified: the scheduler expected none to pay, or nobody drafts."
        if mode.mode is Mode.PLAIN and drafts:
            yield f"At {label} {drafts} drafts were verified during plain runs: for other clients, most likely."


def _foreign_tokens(runs: Sequence[Run]) -> int:
    """Return the tokens that no request of ours asked for; 0 where some of ours failed, as theirs are not known."""
    if any(len(run.answered) < len(run.samples) for run in runs):
        return 0
    return sum(max(0, run.gained.generated - run.tokens) for run in runs if run.gained is not None)
