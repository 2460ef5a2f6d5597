"""Requests are sent when they should be, whatever becomes of others."""

import asyncio
import itertools
from statistics import mean

import pytest

from cluster.bench.load.arrivals import closed_loop, open_loop, poisson_arrivals


def test_arrivals_are_a_function_of_the_seed():
    assert poisson_arrivals(2.0, 50, seed=7) == poisson_arrivals(2.0, 50, seed=7)
    assert poisson_arrivals(2.0, 50, seed=7) != poisson_arrivals(2.0, 50, seed=8)


def test_arrivals_have_the_rate_and_the_spread_of_a_poisson_process():
    moments = poisson_arrivals(4.0, 4001, seed=1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert moments[0] == 0.0
    assert mean(gaps) == pytest.approx(0.25, rel=0.05)
    assert mean(gap > 0.25 for gap in gaps) == pytest.approx(0.368, abs=0.03), "a share of 1/e is above the mean"


async def test_a_closed_loop_keeps_so_many_under_way():
    under_way, most, seen = 0, 0, []

    async def send(index, due):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        seen.append(index)

    await closed_loop(send, 3, 10)
    assert most == 3
    assert sorted(seen) == list(range(10))


async def test_an_open_loop_does_not_wait_for_answers():
    begun, dues = [], []
    everybody_came = asyncio.Event()

    async def send(index, due):
        begun.append(index)
        dues.append(due)
        if len(begun) == 5:
            everybody_came.set()
        await everybody_came.wait()

    async with asyncio.timeout(10):
        await open_loop(send, [0.0, 0.001, 0.001, 0.002, 0.003])
    assert begun == list(range(5))
    assert [due - dues[0] for due in dues] == pytest.approx([0.0, 0.001, 0.001, 0.002, 0.003])
