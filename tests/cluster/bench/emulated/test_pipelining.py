"""The command line refuses nonsense, and one small measurement goes through all the processes."""

import pytest

from cluster.bench.emulated.cell import Cell
from cluster.bench.emulated.deployment import Deployment
from cluster.bench.pipelining import read_arguments


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--cells", "weights"], "--cells"),
        (["--cells", "magic:8"], "shape"),
        (["--cells", "cache:0"], "concurrency"),
        (["--shares", "0"], "share"),
        (["--shares", "nan"], "share"),
        (["--step-ms", "1"], "step_s"),
        (["--acceptance", "1.5"], "--acceptance"),
        (["--rounds", "0"], "--rounds"),
        (["--seconds", "-1"], "--seconds"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(words, complaint, capsys):
    with pytest.raises(SystemExit):
        read_arguments(words)
    assert complaint in capsys.readouterr().err


def test_cells_are_every_shape_with_every_share():
    _, cells = read_arguments(["--cells", "weights:8", "cache:1", "--shares", "0.3", "3", "--step-ms", "20"])
    assert cells == [
        Cell("weights", 0.3, 8, 0.02),
        Cell("weights", 3.0, 8, 0.02),
        Cell("cache", 0.3, 1, 0.02),
        Cell("cache", 3.0, 1, 0.02),
    ]


async def test_right_texts_come_through_router_target_and_drafter():
    async with Deployment(Cell("weights", 0.3, 2, 0.004), "run_ahead", 0.7) as deployment:
        assert await deployment.goodput(1, 0.5) > 0
