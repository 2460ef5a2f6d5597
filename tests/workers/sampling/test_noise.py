import math

import pytest
import torch
from scipy import stats

from tests.workers.sampling import reference
from workers.sampling.noise import GROUP, exponential, group_lead, gumbel, position_state, splitmix64

SEEDS = [0, 1, 42, 2**63 - 1, 2**63, 2**64 - 1]


def as_int64(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def i64(*values: int) -> torch.Tensor:
    return torch.tensor([as_int64(v) for v in values])


def test_splitmix64_gives_the_published_outputs():
    # The first outputs for seed 1234567, as printed with the reference implementation in C.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(i64(1234567), torch.arange(4)).tolist() == [as_int64(x) for x in published]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_noise_is_that_of_plain_integer_arithmetic(seed):
    ids = torch.tensor([0, 1, 63, 64, 65, 49151, 151935, 2**31 - 1])
    for position in (0, 1, 2047, 10**6):
        state = position_state(i64(seed), i64(position))
        assert state.tolist() == [as_int64(reference.state_of(seed, position))]
        expected = [reference.gumbel(seed, position, v) for v in ids.tolist()]
        assert gumbel(state, ids).tolist() == pytest.approx(expected, rel=1e-14, abs=1e-14)


def test_a_groups_leader_is_where_its_members_noise_is_largest():
    state = position_state(torch.arange(50), torch.full((50,), 7))[:, None]
    lead, leader = group_lead(state, torch.arange(4))
    noise = gumbel(state, torch.arange(4 * GROUP)).view(50, 4, GROUP)
    assert torch.equal(noise.argmax(-1) + torch.arange(4) * GROUP, leader)
    torch.testing.assert_close(noise.amax(-1), -lead.log(), rtol=0, atol=0)


def test_noise_is_finite_at_both_ends_of_the_bits():
    ends = exponential(i64(0, 2**64 - 1))
    assert ends[0].item() == pytest.approx(2.0**-33, rel=1e-9)
    assert ends[1].item() == pytest.approx(33 * math.log(2), rel=1e-9)


def clocks(num_seeds: int, positions: int, ids: torch.Tensor) -> torch.Tensor:
    """Exponential values ``[num_seeds * positions, len(ids)]``."""
    grid = torch.cartesian_prod(torch.arange(num_seeds), torch.arange(positions))
    return torch.exp(-gumbel(position_state(grid[:, 0], grid[:, 1])[:, None], ids))


def test_every_id_has_exponential_noise_wherever_it_stands_in_its_group():
    values = clocks(200, 100, torch.tensor([0, 1, 63, 64, 1000]))
    for column in values.unbind(1):
        assert stats.kstest(column.numpy(), "expon").pvalue > 0.001
    assert stats.kstest(values.flatten().numpy(), "expon").pvalue > 0.001


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 63), (63, 64), (0, 64), (3, 4099)])
def test_the_noise_of_two_ids_is_independent(one, other):
    # Both uniforms fall into a 10 x 10 grid: within a group they share a lead, which must not show.
    uniforms = 1 - torch.exp(-clocks(400, 100, torch.tensor([one, other])))
    cells = (uniforms * 10).long().clamp(max=9)
    counts = torch.bincount(cells[:, 0] * 10 + cells[:, 1], minlength=100)
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize("step", ["seed", "position"])
def test_the_noise_of_neighbouring_seeds_and_positions_is_independent(step):
    values = clocks(200, 200, torch.tensor([5])).view(200, 200)
    pair = (values[:-1], values[1:]) if step == "seed" else (values[:, :-1], values[:, 1:])
    assert abs(stats.spearmanr(pair[0].flatten(), pair[1].flatten()).statistic) < 4 / math.sqrt(200 * 199)


def test_the_first_clock_of_a_group_is_every_member_equally_often():
    winners = clocks(100, 200, torch.arange(GROUP)).argmin(-1)
    assert stats.chisquare(torch.bincount(winners, minlength=GROUP).numpy()).pvalue > 0.001
