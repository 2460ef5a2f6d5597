"""What is tried although it does not pay: often at first, rarely later, and never with everybody at once."""

from typing import Any, cast

import pytest

from cluster.scheduler.speculation.probing import LONGEST_GAP, Probing


def probes(running: int, steps: int) -> list[tuple[int, int, int]]:
    """Return the step of each probe, how many sequences it asked for, and for how many tokens."""
    probing, found = Probing(), []
    able = cast(Any, {object(): 4 for _ in range(running)})
    for step in range(steps):
        probing.step()
        if asks := probing.probe(able):
            found.append((step, len(asks), next(iter(asks.values())).length))
    return found


@pytest.mark.parametrize(("running", "within"), [(1, 20), (8, 20), (32, 80), (256, 600)])
def test_first_probes_are_spread_the_wider_the_more_sequences_run(running, within):
    found = [step for step, _, _ in probes(running, 1000)]
    assert within / 2 < found[15] < within
    assert max(sequences for _, sequences, _ in probes(running, 1000)) == min(running, 8)


def test_lengths_and_sequences_vary_independently():
    shapes = {(sequences, length) for _, sequences, length in probes(32, 100)}
    assert shapes == {(4, 4), (1, 1), (8, 1), (8, 4)}


def test_they_grow_rare():
    found = [step for step, _, _ in probes(32, 20_000)]
    assert found[-1] - found[-2] == LONGEST_GAP
    assert len(found) < 100
