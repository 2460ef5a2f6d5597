"""What is tried although it does not pay: often at first, rarely later, and never with everybody at once."""

import itertools
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from cluster.scheduler.speculation.probing import (
    AWAITED,
    BUDGET,
    DECISIONS,
    FUTILE,
    LONGEST_GAP,
    PATIENCE,
    SHAPES,
    Probing,
)


@dataclass(eq=False)
class Asked:
    """What a probe wants to know of a request."""

    drafter_is_behind: bool = False
    asks: dict[int, Any] = field(default_factory=dict)


def asked_for(count: int, **known: Any) -> Any:
    return cast(Any, {Asked(**known): 4 for _ in range(count)})


def probes(running: int, steps: int) -> list[tuple[int, int, int, bool]]:
    """Return each probe's step, sequences, tokens, and whether it is waited for, where drafters are up to date."""
    probing, found, able = Probing(), [], asked_for(running)
    for step in range(steps):
        probing.step()
        if asks := probing.probe(able):
            order = next(iter(asks.values()))
            found.append((step, len(asks), order.length, order.awaited))
    return found


@pytest.mark.parametrize(("running", "within"), [(1, 20), (8, 20), (32, 80), (256, 600)])
def test_first_probes_are_spread_the_wider_the_more_sequences_run(running, within):
    found = [step for step, *_ in probes(running, 1000)]
    assert within / 2 < found[15] < within
    assert max(sequences for _, sequences, *_ in probes(running, 1000)) == min(running, 8)


def test_lengths_and_sequences_vary_independently_beside_steps_and_while_none_runs():
    shapes = [(sequences, length, awaited) for _, sequences, length, awaited in probes(32, 1000)]
    assert set(shapes[:20]) == {(n, k, w) for n, k in ((4, 4), (1, 1), (8, 1), (8, 4)) for w in (False, True)}


@pytest.mark.parametrize(("came", "between"), [(True, AWAITED), (False, AWAITED * FUTILE)])
def test_who_waits_in_vain_waits_more_rarely(came, between):
    probing, able, awaited = Probing(), asked_for(4), []
    for _ in range(5000):
        probing.step()
        if asks := probing.probe(able):
            awaited.append(next(iter(asks.values())).awaited)
            if awaited[-1]:
                probing.note_awaited(came)
                probing.note_awaited(came)  # of each sequence comes a block
    first, second, *_ = [i for i, waits in enumerate(awaited) if waits]
    assert second - first == between


def test_they_grow_rare():
    found = [step for step, *_ in probes(32, 20_000)]
    assert found[-1] - found[-2] == LONGEST_GAP
    assert len(found) < 100


@pytest.mark.parametrize("price", [0.2, 1.0, 100.0])
def test_where_a_device_waits_for_decisions_they_cost_a_small_share_of_its_time(price):
    probing, found, able = Probing(), [], asked_for(8)
    for step in range(20_000):
        probing.step()
        if probing.probe(able, price):
            found.append(step)
    first, later = found[: len(SHAPES)], found[len(SHAPES) :]
    assert first[-1] < 10  # without these nothing would be known
    gaps = [after - before for before, after in itertools.pairwise(later)]
    assert min(gaps) >= min(int(DECISIONS * price / BUDGET), LONGEST_GAP)
    assert max(gaps) == LONGEST_GAP


def test_a_drafter_that_is_behind_reads_first_and_is_measured_then():
    probing, able = Probing(), asked_for(4, drafter_is_behind=True)
    reading = probing.probe(able)
    assert [order.awaited for order in reading.values()] == [False] * 4
    for active in able:
        active.asks[10] = object()
    probing.step()
    assert not probing.probe(able)  # not answered yet
    for active in able:
        active.asks.clear()
    assert [order.awaited for order in probing.probe(able).values()] == [True] * 4


def test_who_does_not_answer_is_not_measured_and_asked_again_later():
    probing, able = Probing(), asked_for(2, drafter_is_behind=True)
    silent, ready = able
    assert len(probing.probe(able)) == 2
    silent.asks[10] = object()
    for _ in range(PATIENCE):
        assert not (asks := probing.probe(able))
        probing.step()
    asks = probing.probe(able)
    assert list(asks) == [ready]
    probing.step()
    assert probing.probe(able)
