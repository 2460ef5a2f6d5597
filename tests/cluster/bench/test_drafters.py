"""The benchmark of drafters: that all deployments get the same work, and what its table says of it."""

import io

import pytest
from rich.console import Console

from cluster.bench.drafters import SAMPLED, Comparison, table, workload_of
from cluster.bench.workload import GREEDY

PROMPTS = [[i] for i in range(10)]


@pytest.mark.parametrize(("at_once", "requests"), [(1, 10), (4, 20), (32, 64)])
def test_a_round_is_the_same_for_everybody_and_differs_from_the_next(at_once, requests):
    first = workload_of(PROMPTS, at_once, SAMPLED, 16, 1)
    assert (len(first.prompts), first.at_once) == (requests, at_once)
    assert first == workload_of(PROMPTS, at_once, SAMPLED, 16, 1)
    later, greedy = workload_of(PROMPTS, at_once, SAMPLED, 16, 2), workload_of(PROMPTS, at_once, GREEDY, 16, 1)
    assert len({first.salt, later.salt, greedy.salt}) == 3
    assert later.first_seed >= first.first_seed + requests


def test_every_prompt_has_its_turn():
    assert workload_of(PROMPTS, 1, GREEDY, 16, 0).prompts == PROMPTS
    assert workload_of(PROMPTS, 4, GREEDY, 16, 0).prompts == PROMPTS * 2


def shown(comparison):
    text = io.StringIO()
    Console(file=text, width=160).print(table([comparison]))
    return text.getvalue()


def test_a_loss_is_printed_as_plainly_as_a_win():
    missed = Comparison("mine", 1, 0.0, 1.5, [1.3, 1.35, 1.32], [40, 41, 42], [30, 30, 30], accepted=30, verified=20)
    assert "1.4, missed" in shown(missed)
    assert "2.50" in shown(missed)
    assert missed.to_json()["passed"] is False
    reached = Comparison("mine", 4, 0.0, None, [1.2, 1.16], [40, 41], [30, 30])
    assert reached.to_json()["passed"] is True
    assert "missed" not in shown(reached)
    slower = Comparison("ngram", 32, 0.8, None, [0.93, 0.92], [1, 1], [2, 2])
    assert slower.to_json()["passed"] is False
    assert "0.95, missed" in shown(slower)
