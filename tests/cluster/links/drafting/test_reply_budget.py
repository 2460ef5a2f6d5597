import pytest

from cluster.links.drafting.reply_budget import LARGEST, SMALLEST, ReplyBudget
from workers.rpc.drafting_messages import MAX_OUTCOMES


@pytest.fixture
def spent():
    """The budget of a drafter that has used up what it begins with, at a time that does not move."""
    budget = ReplyBudget(0.0)
    assert budget.spend(SMALLEST, 0.0)
    assert not ReplyBudget(0.0).spend(SMALLEST + 1, 0.0)
    return budget


@pytest.mark.parametrize("orders", [1, 64, 400])
def test_whoever_runs_ahead_with_the_largest_blocks_may_and_twice(spent, orders):
    spent.asked(orders)
    for _ in range(2 * orders):
        for amount in (1 + 1, 1, 1 + 1, MAX_OUTCOMES):  # an answer, then what was prepared: messages and their outcomes
            assert spent.spend(amount, 0.0)


def test_what_may_be_saved_up_is_bounded(spent):
    spent.asked(10**6)
    assert spent.spend(LARGEST, 0.0)
    assert not spent.spend(1, 0.0)
