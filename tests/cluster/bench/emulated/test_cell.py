"""The emulated costs are those that a cell names."""

import pytest

from cluster.bench.emulated.cell import DRAFT_LENGTH, FREE_POSITIONS, FREE_ROWS, Cell


@pytest.mark.parametrize("share", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("shape", ["weights", "cache"])
def test_draft_and_round_trip_are_that_share_of_a_plain_step(shape, share):
    cell = Cell(shape, share, 8)
    hardware = cell.hardware()
    plain = hardware.step_s(8, 8 * 116)
    assert plain == pytest.approx(cell.step_s)
    block = DRAFT_LENGTH * hardware.draft_step_s(1) + hardware.round_trip_s
    assert block == pytest.approx(share * plain)


def test_a_step_that_reads_weights_takes_the_same_for_half_of_the_sequences():
    step = Cell("weights", 1.0, 8).hardware().step_s
    assert step(4, 400) == step(8, 800) == step(FREE_POSITIONS, 800)
    assert step(2 * FREE_POSITIONS, 800) == 2 * step(8, 800)


def test_a_step_that_reads_the_cache_takes_about_half_for_half_of_the_sequences():
    step = Cell("cache", 1.0, 8).hardware().step_s
    assert step(4, 464) == pytest.approx(0.016)
    assert step(40, 928) == step(8, 928)


def test_guesses_beside_each_other_are_free_up_to_a_limit():
    step = Cell("weights", 1.0, 8).hardware().draft_step_s
    assert step(1) == step(FREE_ROWS) == step(2 * FREE_ROWS) / 2
