"""From runs to figures: medians over rounds with their spread, percentiles over requests, ratios within a round."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Self

from cluster.bench.load.counters import Counters
from cluster.bench.load.modes import Mode
from cluster.bench.load.run import Run
from cluster.bench.load.sample import Sample
from cluster.bench.load.settings import Load, LoadKind
from cluster.bench.load.values import Percentiles, Ratio, Spread
from workers.settings import Settings


class Acceptance(Settings):
    """How drafts fared, from the endpoint's counters."""

    drafts: int
    """Verified drafts, one per sequence and step."""
    drafted: int
    """Draft tokens verified."""
    accepted: int
    """Draft tokens accepted."""
    generated: int
    """Tokens emitted, those of steps without a draft included."""
    length: float | None
    """Acceptance length: tokens emitted per verified draft, the target's own included; None without drafts."""
    tokens_per_row: float | None
    """Tokens emitted per sequence and step, whether it had a draft or not: what speculation saves in steps."""

    @classmethod
    def of(cls, gained: Sequence[Counters]) -> Self:
        """Add the gains of runs up."""
        total = sum(gained, Counters())
        own = total.generated - total.accepted
        return cls(
            drafts=total.drafts,
            drafted=total.drafted,
            accepted=total.accepted,
            generated=total.generated,
            length=1 + total.accepted / total.drafts if total.drafts else None,
            tokens_per_row=total.generated / own if own > 0 else None,
        )


class RoundFigures(Settings):
    """One run. Times are medians over its requests, in seconds; None where none was answered."""

    round: int
    goodput: float
    """Tokens of whole answers per second."""
    ttft: float | None
    itl: float | None
    e2e: float | None
    tokens: int
    seconds: float
    answered: int
    failed: int


class ModeFigures(Settings):
    """One mode at one load."""

    mode: Mode
    rounds: tuple[RoundFigures, ...]
    goodput: Spread | None
    ttft: Percentiles | None
    """Seconds from the moment a request was due to its first text."""
    itl: Percentiles | None
    """Seconds per token after the first: (last - first) / (tokens - 1) of each request."""
    gaps: Percentiles | None
    """Seconds between chunks with text, however many tokens a chunk carries."""
    e2e: Percentiles | None
    """Seconds from the moment a request was due to its last token."""
    tokens_per_chunk: float | None
    acceptance: Acceptance | None
    """None where the endpoint shows no counters."""
    failures: dict[str, int]
    """Requests without a whole answer, by cause."""


class Comparison(Settings):
    """Speculation against plain decoding at one load."""

    goodput: Ratio | None
    ttft: Ratio | None
    itl: Ratio | None
    e2e: Ratio | None

    def decisive(self, load: Load) -> Ratio | None:
        """Return what decides: goodput, or whole latency where the goodput is given by the rate of arrivals."""
        return self.goodput if load.kind is LoadKind.CONCURRENCY else self.e2e


class LoadFigures(Settings):
    """All modes at one load."""

    load: Load
    modes: tuple[ModeFigures, ...]
    comparison: Comparison | None
    """None where there is nothing to compare."""


def load_figures(runs: Sequence[Run]) -> tuple[LoadFigures, ...]:
    """Return the figures of every load, in the order of the sweep."""
    loads = dict.fromkeys(run.load for run in runs)
    return tuple(_load(load, [run for run in runs if run.load == load]) for load in loads)


def _load(load: Load, runs: Sequence[Run]) -> LoadFigures:
    modes = {mode: _mode(mode, [run for run in runs if run.mode is mode]) for mode in Mode}
    present = {mode: figures for mode, figures in modes.items() if figures.rounds}
    comparison = None
    if Mode.PLAIN in present and Mode.SPECULATION in present:
        comparison = _compare(present[Mode.PLAIN].rounds, present[Mode.SPECULATION].rounds)
    return LoadFigures(load=load, modes=tuple(present.values()), comparison=comparison)


def _mode(mode: Mode, runs: Sequence[Run]) -> ModeFigures:
    rounds = tuple(_round(run) for run in runs)
    answered = [sample for run in runs for sample in run.answered]
    chunks = sum(len(sample.chunks) for sample in answered)
    gained = [run.gained for run in runs if run.gained is not None]
    return ModeFigures(
        mode=mode,
        rounds=rounds,
        goodput=Spread.of([figures.goodput for figures in rounds]),
        ttft=Percentiles.of([sample.ttft for sample in answered]),
        itl=Percentiles.of(_itls(answered)),
        gaps=Percentiles.of([gap for sample in answered for gap in sample.gaps]),
        e2e=Percentiles.of([sample.last for sample in answered]),
        tokens_per_chunk=sum(sample.tokens for sample in answered) / chunks if chunks else None,
        acceptance=Acceptance.of(gained) if gained else None,
        failures=dict(Counter(sample.failure for run in runs for sample in run.samples if sample.failure)),
    )


def _round(run: Run) -> RoundFigures:
    answered, itls = run.answered, _itls(run.answered)
    return RoundFigures(
        round=run.round,
        goodput=run.tokens / run.seconds,
        ttft=median(sample.ttft for sample in answered) if answered else None,
        itl=median(itls) if itls else None,
        e2e=median(sample.last for sample in answered) if answered else None,
        tokens=run.tokens,
        seconds=run.seconds,
        answered=len(answered),
        failed=len(run.samples) - len(answered),
    )


def _itls(samples: Sequence[Sample]) -> list[float]:
    return [sample.itl for sample in samples if sample.itl is not None]


def _compare(plain: Sequence[RoundFigures], speculation: Sequence[RoundFigures]) -> Comparison:
    pairs = list(zip(plain, speculation, strict=True))

    def ratio(numerator: Callable[[RoundFigures, RoundFigures], tuple[float | None, float | None]]) -> Ratio | None:
        both = [numerator(*pair) for pair in pairs]
        return Ratio.of([above / below for above, below in both if above is not None and below])

    return Comparison(
        goodput=ratio(lambda p, s: (s.goodput, p.goodput)),
        ttft=ratio(lambda p, s: (p.ttft, s.ttft)),
        itl=ratio(lambda p, s: (p.itl, s.itl)),
        e2e=ratio(lambda p, s: (p.e2e, s.e2e)),
    )
