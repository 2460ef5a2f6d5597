"""Whether asking pays, against the closed forms of speculative decoding."""

import pytest

from cluster.scheduler.estimates.cost_model import CostModel
from cluster.scheduler.estimates.run_ahead import RunAheadRecord
from cluster.scheduler.settings import Way
from cluster.scheduler.speculation.ways import AskValue, Prospect, ask_value

NOTHING = Prospect(1.0, [])


def costs(step=lambda n: 0.02, block=lambda k: 0.002 * k) -> CostModel:
    learned = CostModel()
    for _ in range(40):
        for n in (1, 2, 4, 8, 16, 32):
            learned.observe_step(n, 0, False, step(n))
        for k in (1, 2, 4, 8):
            for sequences in (1, 8):
                learned.observe_block(k, sequences, block(k))
    return learned


def value_of(costs: CostModel, drafters, lookups, rows, context, ways=(Way.IN_TURN, Way.OVERLAPPED)) -> AskValue:
    even = dict.fromkeys(ways, 1.0)
    return ask_value(costs, RunAheadRecord(), drafters, lookups, rows, context, even, even)


def powers(rate: float, length: int) -> list[float]:
    return [rate**j for j in range(1, length + 1)]


def test_one_sequence_gets_the_textbook_speed_up():
    value = value_of(costs(), [Prospect(1.0, powers(0.8, 4))], [NOTHING], 1, 0)
    expected = sum(0.8**j for j in range(5)) / (0.02 + 0.008)
    assert value.lengths == [4]
    assert value.plain == pytest.approx(1 / 0.02, rel=0.03)
    assert value.asked == pytest.approx(expected, rel=0.05)


def test_a_drafter_that_is_never_right_is_not_asked():
    value = value_of(costs(), [Prospect(1.0, powers(0.02, 4))], [NOTHING], 1, 0)
    assert value.asked < value.plain * 1.03


def test_a_dear_drafter_is_asked_for_less():
    few = value_of(costs(block=lambda k: 0.01 * k), [Prospect(1.0, powers(0.7, 8))], [NOTHING], 1, 0)
    many = value_of(costs(block=lambda k: 0.001 * k), [Prospect(1.0, powers(0.7, 8))], [NOTHING], 1, 0)
    assert few.lengths[0] < many.lengths[0]


def test_where_positions_cost_as_much_as_tokens_nobody_is_asked():
    expensive = costs(step=lambda n: 0.01 * n)
    value = value_of(expensive, [Prospect(1.0, powers(0.8, 4))] * 8, [NOTHING] * 8, 8, 0)
    assert value.asked < value.plain * 1.03


def test_a_hopeless_request_is_left_out_while_others_are_asked():
    good, hopeless = Prospect(1.0, powers(0.8, 4)), Prospect(1.0, powers(0.03, 4))
    value = value_of(costs(step=lambda n: 0.02 + 0.001 * n), [good, hopeless, good], [NOTHING] * 3, 3, 0)
    assert value.asked > value.plain * 1.5
    assert value.lengths[1] == 0 < min(value.lengths[0], value.lengths[2])


def test_a_drafter_that_knows_no_more_than_the_text_itself_is_not_worth_its_time():
    same = Prospect(0.5, powers(0.8, 4))
    value = value_of(costs(), [same], [same], 1, 0)
    assert value.asked <= value.plain


def test_drafts_slower_than_a_step_can_still_serve_the_one_after():
    value = value_of(costs(block=lambda k: 0.019), [Prospect(1.0, powers(0.95, 4))], [NOTHING], 1, 0)
    assert value.asked > value.plain * 1.8


@pytest.mark.parametrize("way", [Way.IN_TURN, Way.OVERLAPPED, Way.TWO_GROUPS])
def test_blocks_that_bring_nothing_do_not_hide_what_the_texts_own_guesses_cost(way):
    """Where a drafter is late or never right, the step still verifies look-ups, at their price."""
    dear = costs(step=lambda n: 0.02 + 0.001 * n, block=lambda k: 0.019)
    hopeless, lookups = Prospect(1.0, powers(0.6, 1)), Prospect(0.2, powers(0.9, 4))
    value = value_of(dear, [hopeless] * 16, [lookups] * 16, 16, 0, ways=(way,))
    assert value.asked < value.plain * 1.01
