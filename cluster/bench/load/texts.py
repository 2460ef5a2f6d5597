"""Are the texts the same? Speculation must not change an answer, and plain decoding should repeat its own."""

from collections.abc import Iterator, Sequence

from cluster.bench.load.modes import Mode
from cluster.bench.load.run import Run
from cluster.bench.load.sample import Sample
from cluster.bench.load.settings import Load
from workers.settings import Settings

MAX_EXAMPLES = 3
CONTEXT_CHARS = 40


class Difference(Settings):
    """One pair of answers that should be equal."""

    load: Load
    round: int
    index: int
    """The request's place in its run."""
    at: int
    """Characters that both begin with."""
    plain: str
    """Plain decoding's text around the place."""
    speculation: str


class TextCheck(Settings):
    """Pairs of answers to one request with one seed."""

    compared: int
    """Pairs of a plain and a speculative answer from the same round."""
    different: int
    repeated: int
    """Pairs of plain answers, each held against that of the first round: the control."""
    repeated_different: int
    """Where this is not 0 either, the endpoint's arithmetic depends on the company in the batch, not only on drafts."""
    examples: tuple[Difference, ...]

    @property
    def sentence(self) -> str:
        """What came of it, in one line."""
        if not self.compared:
            return "Texts: no pair of answers could be compared."
        verdict = "all equal" if not self.different else f"{self.different} DIFFERENT"
        control = (
            f"; {self.repeated_different} of {self.repeated} plain answers differed from those of the first round"
            if self.repeated
            else ""
        )
        return f"Texts: {self.compared} pairs of plain and speculative answers, {verdict}{control}."


def check_texts(runs: Sequence[Run]) -> TextCheck | None:
    """Compare the answers of all rounds; None where only one mode was measured."""
    if not any(run.mode is Mode.SPECULATION for run in runs):
        return None
    plain = {(run.load, run.round): run for run in runs if run.mode is Mode.PLAIN}
    compared, differences = 0, []
    for run in runs:
        if run.mode is Mode.SPECULATION and (other := plain.get((run.load, run.round))) is not None:
            for before, after in _pairs(other, run):
                compared += 1
                if not _same(before, after):
                    differences.append(_difference(run, before, after))
    first = {run.load: run for run in reversed(plain.values())}
    control = [
        _same(before, after)
        for run in plain.values()
        if run is not first[run.load]
        for before, after in _pairs(first[run.load], run)
    ]
    return TextCheck(
        compared=compared,
        different=len(differences),
        repeated=len(control),
        repeated_different=control.count(False),
        examples=tuple(differences[:MAX_EXAMPLES]),
    )


def _pairs(one: Run, other: Run) -> Iterator[tuple[Sample, Sample]]:
    answered = {sample.index: sample for sample in other.answered}
    return ((sample, answered[sample.index]) for sample in one.answered if sample.index in answered)


def _same(one: Sample, other: Sample) -> bool:
    """Equal texts of equally many tokens, where the endpoint counts them: some tokens have no text."""
    counted = one.has_usage and other.has_usage
    return one.text == other.text and (not counted or one.tokens == other.tokens)


def _difference(run: Run, plain: Sample, speculation: Sample) -> Difference:
    shorter = min(len(plain.text), len(speculation.text))
    at = next((i for i in range(shorter) if plain.text[i] != speculation.text[i]), shorter)
    around = slice(max(0, at - CONTEXT_CHARS), at + CONTEXT_CHARS)
    return Difference(
        load=run.load,
        round=run.round,
        index=plain.index,
        at=at,
        plain=plain.text[around],
        speculation=speculation.text[around],
    )
