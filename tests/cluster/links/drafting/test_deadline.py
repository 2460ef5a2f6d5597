import random

import pytest

from cluster.links.drafting.deadline import LONGEST_S, SHORTEST_S, AnswerDeadline


def measured(*samples, opened=0):
    deadline = AnswerDeadline()
    for sample in samples:
        deadline.observe(sample, opened)
    return deadline


def test_nothing_measured_is_the_longest():
    assert AnswerDeadline().seconds() == AnswerDeadline().seconds(10_000) == LONGEST_S


def test_it_follows_what_was_measured():
    fast, slow = measured(*[0.2] * 50), measured(*[0.6] * 50)
    assert 0.4 < fast.seconds() < 0.5
    assert 1.2 < slow.seconds() < 1.3
    for _ in range(60):
        slow.observe(0.2)
    assert slow.seconds() < 0.6


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
def test_answers_that_vary_as_they_did_are_hardly_ever_late(spread):
    draw = random.Random(1)
    deadline, late = AnswerDeadline(), 0
    for i in range(4000):
        sample = 0.3 * draw.lognormvariate(0, spread)
        late += i > 20 and sample > deadline.seconds()
        deadline.observe(sample)
    assert late < 60


def test_it_is_neither_shorter_nor_longer_than_makes_sense():
    assert measured(*[0.001] * 20).seconds() == SHORTEST_S
    assert measured(*[60.0] * 20).seconds() == LONGEST_S


def test_a_sequence_that_is_opened_gets_time_by_its_length():
    deadline = measured(*[0.05] * 50)
    for _ in range(50):
        deadline.observe(0.05 + 0.001 * 200, opened=200)
    assert deadline.seconds(1000) > 2.0
    assert deadline.seconds() == SHORTEST_S


def test_a_missed_deadline_doubles_it_until_an_answer_comes():
    deadline = measured(*[0.2] * 50)
    before = deadline.seconds()
    deadline.missed()
    deadline.missed()
    assert deadline.seconds() == pytest.approx(4 * before)
    deadline.observe(0.2)
    assert deadline.seconds() == pytest.approx(before, rel=0.1)
