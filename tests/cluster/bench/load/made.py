"""Runs and reports with known figures."""

from cluster.bench.load.counters import Counters
from cluster.bench.load.endpoint import Endpoint
from cluster.bench.load.modes import Mode
from cluster.bench.load.report import Report, make_report
from cluster.bench.load.run import Run
from cluster.bench.load.sample import Sample
from cluster.bench.load.settings import BenchSettings, Load, LoadKind

ONE = Load(kind=LoadKind.CONCURRENCY, value=1)
FOUR = Load(kind=LoadKind.CONCURRENCY, value=4)
TWO_PER_SECOND = Load(kind=LoadKind.RATE, value=2)


def sample(index: int = 0, *, seconds: float = 1.0, text: str = "text", tokens: int = 11) -> Sample:
    """An answer whose first text comes after a tenth of its time, in three chunks."""
    return Sample(index, text, tokens, True, (seconds / 10, seconds / 2, seconds), seconds)


def run(
    mode: Mode, number: int, seconds: float = 1.0, *, load: Load = ONE, gained: Counters | None = None, **more
) -> Run:
    """A run of two requests that took ``seconds`` each, one after the other."""
    samples = tuple(sample(i, seconds=seconds, **more) for i in range(2))
    return Run(load, mode, number, samples, 2 * seconds, gained)


def pairs(plain: list[float], speculation: list[float], load: Load = ONE) -> list[Run]:
    """Runs of both modes, with the seconds that each round's requests took."""
    runs = []
    for number, (p, s) in enumerate(zip(plain, speculation, strict=True), 1):
        runs.append(run(Mode.PLAIN, number, p, load=load, gained=Counters(generated=22)))
        drafts = Counters(generated=22, drafts=4, drafted=16, accepted=12)
        runs.append(run(Mode.SPECULATION, number, s, load=load, gained=drafts))
    return runs


def report(runs: list[Run], load_average: float = 0.1, **settings) -> Report:
    """The report of some runs."""
    loads = tuple(dict.fromkeys(run.load for run in runs))
    ours = any(run.mode is Mode.PLAIN for run in runs)
    return make_report(
        runs,
        Endpoint(url="http://there/v1", model="tiny", owner="outrider" if ours else "somebody", outrider=ours),
        BenchSettings(loads=loads, rounds=max(run.round for run in runs), **settings),
        command="outrider bench",
        machine={"cores": 2, "load_average": load_average},
        local=None,
    )
