"""Measured costs: a kinked curve is followed where it was measured, and drafters on shared cores have a price."""

import pytest

from cluster.scheduler.estimates.cost_model import MOST_HELD_UP, CostModel


def gpu_step(positions: int) -> float:
    """Flat while the weights' transfer takes longest, then proportional."""
    return max(0.02, 0.02 * positions / 160)


def learned(step, sizes, rounds=60) -> CostModel:
    costs = CostModel()
    for _ in range(rounds):
        for positions in sizes:
            costs.observe_step(positions, 100 * positions, False, step(positions))
    return costs


def test_a_kink_is_followed_where_it_was_measured():
    costs = learned(gpu_step, (1, 64, 128, 160, 320, 512))
    for positions in (1, 64, 128, 320, 512):
        assert costs.step_s(positions, 100 * positions) == pytest.approx(gpu_step(positions), rel=0.1)
    assert costs.step_s(90, 9000) == pytest.approx(0.02, rel=0.1)


def test_sizes_that_were_never_measured_follow_their_nearest_neighbour():
    costs = learned(lambda n: 0.01 + 0.001 * n, (8, 16))
    assert costs.step_s(64, 6400) == pytest.approx(0.074, rel=0.15)
    assert costs.step_s(1, 100) == pytest.approx(0.011, rel=0.15)


def test_a_step_beside_drafters_at_work_is_priced_apart():
    costs = CostModel()
    for i in range(400):
        drafting = i % 4 != 0
        costs.observe_step(4, 400, drafting, 0.02 * (1.5 if drafting else 1.0))
    assert costs.step_s(4, 400, drafting=False) == pytest.approx(0.02, rel=0.1)
    assert costs.step_s(4, 400, drafting=True) == pytest.approx(0.03, rel=0.1)


def test_blocks_cost_by_length_and_number():
    costs = CostModel()
    for _ in range(30):
        for length, sequences in ((1, 1), (4, 1), (4, 16), (1, 16)):
            costs.observe_block(length, sequences, 0.002 + 0.003 * length + 0.0001 * length * sequences)
    assert costs.block_s(4, 64) == pytest.approx(0.002 + 0.012 + 0.0256, rel=0.1)


def test_nothing_measured_is_told_from_nothing_spent():
    costs = CostModel()
    assert (costs.measured_steps, costs.measured_blocks) == (0, 0)
    assert costs.step_s(10, 10) == costs.block_s(4, 1) == 0.0


def test_a_curve_is_the_single_times_but_never_falls():
    costs = learned(gpu_step, (1, 8, 64, 128, 160, 320, 512))
    curve = costs.step_curve(40, 4000, 400)
    assert len(curve) == 401
    assert curve == sorted(curve)
    for more in (0, 1, 24, 88, 280, 400):
        assert curve[more] == pytest.approx(max(costs.step_s(n, 4000) for n in range(40, 41 + more)), rel=0.05)
    assert costs.step_curve(1, 10, 0) == pytest.approx([costs.step_s(1, 10)])


@pytest.mark.parametrize("plain_every", [4, 32])
def test_the_first_draft_token_of_a_step_has_a_price_of_its_own(plain_every):
    """Plain steps must not look as dear as the others where they are rare."""

    def step(positions: int) -> float:
        return 0.04 + 0.0003 * positions + 0.008 * (positions > 32)

    costs = CostModel()
    for i in range(800):
        positions = 32 if i % plain_every == 0 else 33 + 7 * i % 24
        costs.observe_step(positions, 6400, False, step(positions), positions > 32)
    curve = costs.step_curve(32, 6400, 24)
    assert curve[0] == pytest.approx(costs.step_s(32, 6400)) == pytest.approx(step(32), rel=0.02)
    assert curve[1] == pytest.approx(step(33), rel=0.02)
    assert curve[24] == pytest.approx(step(56), rel=0.02)
    assert costs.step_s(56, 6400, verified=1.0) == pytest.approx(step(56), rel=0.02)


def test_a_machine_that_is_slow_for_a_while_is_slow_at_every_size():
    """Sizes that do not come up meanwhile must not look cheap beside the one that does."""
    costs = learned(lambda n: 0.02 + 0.0005 * n, (32, 40, 64), rounds=200)
    for _ in range(60):
        costs.observe_step(32, 3200, False, 1.3 * (0.02 + 0.0005 * 32))
    assert costs.step_s(32, 3200) == pytest.approx(1.3 * 0.036, rel=0.03)
    assert costs.step_s(64, 6400) == pytest.approx(1.3 * 0.052, rel=0.1)


def test_a_machine_that_was_slow_when_a_size_was_measured_does_not_make_it_dear_for_good():
    costs = learned(lambda n: 2 * (0.02 + 0.0005 * n), (4, 20))
    for _ in range(60):
        costs.observe_step(4, 400, False, 0.022)
    assert costs.step_s(20, 2000) == pytest.approx(0.03, rel=0.15)


def test_steps_beside_drafters_have_a_price_of_their_own_and_a_curve():
    costs = learned(lambda n: 0.02 + 0.0005 * n, (4, 20))
    for _ in range(60):
        costs.observe_step(4, 400, True, 0.044)
    assert costs.step_s(4, 400) == pytest.approx(0.022, rel=0.05)
    assert costs.step_curve(4, 400, 0, drafting=True) == pytest.approx([0.044], rel=0.05)
    assert costs.step_s(20, 2000, drafting=True) == pytest.approx(0.06, rel=0.05)


def test_a_drafter_that_reads_each_text_first_is_dear_for_many_texts_even_for_one_token():
    costs = CostModel()
    for _ in range(40):
        for length, sequences in ((4, 4), (1, 1), (1, 8), (4, 8)):
            costs.observe_block(length, sequences, 0.002 + 0.001 * length + 0.001 * sequences)
    assert costs.block_s(1, 32) == pytest.approx(0.035, rel=0.1)
    assert costs.block_s(4, 32) == pytest.approx(0.038, rel=0.1)


def test_blocks_made_beside_steps_are_another_matter_than_those_that_steps_wait_for():
    costs = CostModel()
    for _ in range(40):
        costs.observe_block(4, 1, 0.008)
        costs.observe_block(4, 1, 0.016, beside=True)
        costs.observe_block(4, 4, 0.030, beside=True)
    assert costs.block_s(4, 1) == pytest.approx(0.008, rel=0.1)
    assert costs.block_s(4, 1, beside=True) == pytest.approx(0.016, rel=0.1)
    assert costs.block_s(4, 4, beside=True) == pytest.approx(0.030, rel=0.1)
    assert costs.block_s(4, 4) == costs.block_s(4, 1)  # not seen: taken for cheap, until it is asked for
    assert costs.block_s(4, 16) == pytest.approx(costs.block_s(4, 16, beside=True) / MOST_HELD_UP)  # within reason


def test_until_one_kind_of_blocks_was_seen_the_other_one_tells():
    costs = CostModel()
    for _ in range(40):
        costs.observe_block(4, 1, 0.016, beside=True)
    assert costs.block_s(4, 1) == costs.block_s(4, 1, beside=True) == pytest.approx(0.016, rel=0.1)
