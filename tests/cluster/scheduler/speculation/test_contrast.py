"""Now and then a step goes the other way: at bounded cost, and more rarely where nothing comes of it."""

import pytest

from cluster.scheduler.speculation.contrast import BUDGET, LEAST, RAREST, Contrast


def turns(contrast, steps, verifies, loss):
    return [i for i in range(steps) if contrast.turns(verifies, loss)]


@pytest.mark.parametrize("verifies", [True, False])
@pytest.mark.parametrize("loss", [-0.02, 0.01, 0.3, 0.67])
def test_what_it_costs_stays_within_the_budget(verifies, loss):
    steps = 20_000
    gone = turns(Contrast(), steps, verifies, loss)
    assert len(gone) * loss / steps <= BUDGET
    assert steps / len(gone) <= 1 + RAREST * max(LEAST, loss / BUDGET)
    assert gone[0] == LEAST if loss < 0.1 else gone[0] > LEAST


def test_after_a_change_of_mind_it_is_curious_again():
    contrast = Contrast()
    turns(contrast, 5000, True, 0.01)
    assert turns(contrast, LEAST + 1, False, 0.01) == [LEAST]
    assert turns(contrast, LEAST + 1, True, 0.01) == [LEAST]


def test_steps_without_any_draft_count_as_plain_ones():
    contrast = Contrast()
    for _ in range(100):
        assert not turns(contrast, LEAST, True, 0.01)
        contrast.note_plain()
    assert turns(contrast, LEAST, False, 0.01) == []
    contrast.note_plain()
    assert turns(contrast, 1, False, 0.01) == [0]
