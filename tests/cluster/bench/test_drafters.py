"""The benchmark of drafters: that all deployments get the same work, and what its table says of it."""

import io

import pytest
from rich.console import Console

from cluster.bench.drafters import SAMPLED, Comparison, table, workloads
from cluster.bench.workload import GREEDY

PROMPTS = [[i] for i in range(10)]


@pytest.mark.parametrize(("at_once", "runs"), [(1, 10), (4, 2), (32, 1)])
def test_a_round_is_the_same_for_everybody_and_differs_from_the_next(at_once, runs):
    first = list(workloads(PROMPTS, at_once, SAMPLED, 16, 1))
    assert [len(workload.prompts) for workload in first] == [at_once] * runs
    assert first == list(workloads(PROMPTS, at_once, SAMPLED, 16, 1))
    seeds = {(w.first_seed + i, w.salt) for w in first for i in range(at_once)}
    assert len(seeds) == at_once * runs
    later = list(workloads(PROMPTS, at_once, SAMPLED, 16, 2))
    assert not {w.salt for w in first} & {w.salt for w in later}
    assert not {w.salt for w in first} & {w.salt for w in workloads(PROMPTS, at_once, GREEDY, 16, 1)}


def test_one_at_a_time_every_prompt_has_its_turn():
    assert [workload.prompts[0] for workload in workloads(PROMPTS, 1, GREEDY, 16, 0)] == PROMPTS


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
    assert Comparison("ngram", 1, 0.0, None, [0.5], [1], [2]).to_json()["passed"] is True
