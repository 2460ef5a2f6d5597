"""Costs that are known, seen with noise and accidents, must come out of the fit."""

import random
from dataclasses import asdict

import pytest

from cluster.plan.calibration import DRAFTED, Calibration, CalibrationError
from cluster.plan.observation import EngineWatch, Observation, SeenBlock, SeenStep
from cluster.scheduler.events import DraftsArrived, Wait
from workers.contract.draft import CommitDraft, DraftBlock, DraftSource, Outcome
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepOutput, StepPlan

PARAMS = SamplingParams(seed=0)


def row(tokens: list[int], start: int, num_samples: int) -> Row:
    return Row(1, tokens, start, (0,), num_samples, PARAMS, DraftSource.DRAFTER)


def seen_steps(rng: random.Random, slow: float = 1.0) -> Observation:
    """Steps of 20 ms + 1 ms per position + 2 us per context, half a millisecond and 10 us per row between them."""
    steps = []
    for rows in (1, 3, 8, 24):
        for i in range(64):
            context = rows * (50 + i)
            seconds = (0.020 + 0.001 * rows + 2e-6 * context) * rng.uniform(0.97, 1.03) * slow
            steps.append(SeenStep(rows, rows, context, seconds, 0.0005 + 1e-5 * rows, drafting=False))
    prompts = ((n, 0.020 + 0.001 * n + 2e-6 * n) for n in (64, 256))
    steps += [SeenStep(2, n, n, seconds, None, drafting=False) for n, seconds in prompts]
    return Observation(steps=steps)


def test_costs_come_out_of_the_fit():
    calibration = Calibration()
    calibration.add(seen_steps(random.Random(0)))
    costs = calibration.step_costs()
    for positions, context in ((1, 100), (16, 3000), (128, 128)):
        assert costs.step_s(positions, context) == pytest.approx(0.020 + 0.001 * positions + 2e-6 * context, rel=0.05)
    assert costs.overhead_s(16) == pytest.approx(0.0005 + 16e-5, rel=0.05)


def test_the_first_draft_token_of_a_step_has_a_price_of_its_own():
    calibration = Calibration()
    calibration.add(seen_steps(random.Random(0)))
    assert calibration.step_costs().drafts_ms == 0
    verifying = [
        SeenStep(rows, n, 60 * rows, 0.020 + 0.001 * n + 1.2e-4 * rows + 0.008, None, drafting=False, verifies=True)
        for rows in (1, 6, 24)
        for n in (rows + 1, 2 * rows, 5 * rows)
    ]
    calibration.add(Observation(steps=verifying))
    costs = calibration.step_costs()
    assert costs.drafts_ms == pytest.approx(8, rel=0.1)
    assert costs.step_s(12, 720, verifies=True) == pytest.approx(0.020 + 0.012 + 0.0014 + 0.008, rel=0.05)
    assert costs.step_s(12, 720) == pytest.approx(0.020 + 0.012 + 0.0014, rel=0.05)


def test_a_round_in_which_others_used_the_machine_does_not_count():
    calibration = Calibration()
    for slow in (1.0, 2.5, 1.0):
        calibration.add(seen_steps(random.Random(0), slow))
    assert calibration.step_costs().step_s(8, 500) == pytest.approx(0.029, rel=0.05)


def test_steps_beside_drafters_tell_nothing_of_steps_alone():
    calibration = Calibration()
    calibration.add(seen_steps(random.Random(0)))
    calibration.add(Observation(steps=[SeenStep(8, 8, 400 + i, 0.3, None, drafting=True) for i in range(500)]))
    assert calibration.step_costs().step_s(8, 500) == pytest.approx(0.029, rel=0.05)


def test_blocks_split_into_round_trip_beginning_and_tokens():
    calibration = Calibration()
    for length, sequences in ((1, 1), (4, 1), (2, 6), (4, 6), (4, 24), (1, 24)):
        seconds = 0.004 + 0.0002 * sequences + 0.002 * length + 0.0001 * length * sequences
        calibration.add(Observation(blocks=[SeenBlock(length, sequences, seconds + 0.003, seconds)] * 3))
    drafter, round_trip_ms = calibration.draft_costs()
    assert round_trip_ms == pytest.approx(3)
    assert 4 * drafter.step_s(6) == pytest.approx(0.008 + 0.0024, rel=0.05)
    assert drafter.begin_s(6) == pytest.approx(0.004 + 0.0012, rel=0.05)


def test_a_drafter_whose_blocks_take_the_same_time_however_long_is_busy_all_of_it():
    calibration = Calibration()
    for length, sequences in DRAFTED:
        calibration.add(Observation(blocks=[SeenBlock(length, sequences, 0.006, 0.005)] * 3))
    drafter, round_trip_ms = calibration.draft_costs()
    assert round_trip_ms == pytest.approx(1)
    assert drafter.begin_s(1) + 4 * drafter.step_s(1) == pytest.approx(0.005, rel=0.05)
    assert drafter.begin_s(1) > 0.0045


def test_nothing_seen_is_an_error_and_not_a_profile():
    with pytest.raises(CalibrationError, match="too few steps"):
        Calibration().step_costs()
    with pytest.raises(CalibrationError, match="no draft block"):
        Calibration().draft_costs()


def test_acceptance_counts_what_was_reached_and_what_was_missing():
    seen = Observation()
    seen.count_draft(wanted=3, drafted=3, accepted=3)
    seen.count_draft(wanted=3, drafted=3, accepted=1)
    seen.count_draft(wanted=3, drafted=1, accepted=1)
    seen.count_draft(wanted=3, drafted=0, accepted=0)
    assert seen.tried == [4, 3, 1]
    assert seen.right == [3, 1, 1]
    calibration = Calibration()
    calibration.add(seen)
    calibration.add(seen)
    assert calibration.acceptance() == (0.75, 0.3333, 1.0)


def test_an_engine_is_followed_through_a_step_and_a_block():
    watch = EngineWatch()
    watch.ordered([CommitDraft(1, 10, [5], 2)], 0.5)
    watch.took(DraftsArrived([DraftBlock(1, [Outcome(11, 0, (6, 7))], drafting_us=60_000)], 0.6), 0.7)
    watch.stepped(StepPlan((row([5, 6, 7], 10, 3),)), StepOutput([[6, 9, 9]]), 1.0, 1.5)
    watch.ordered([CommitDraft(1, 12, [6], 2)], 1.6)
    watch.stepped(StepPlan((row([9], 12, 1),)), StepOutput([[4]]), 1.7, 2.0)
    watch.took(DraftsArrived([DraftBlock(1, [Outcome(12, 0, (1, 2))])], 1.9), 2.0)
    watch.waits(Wait(None), 2.1)
    watch.stepped(StepPlan((row([4], 13, 1),)), StepOutput([[4]]), 3.0, 3.5)
    seen = watch.take()
    assert [(step.rows, step.positions, step.context) for step in seen.steps] == [(1, 3, 13), (1, 1, 13), (1, 1, 14)]
    assert [step.drafting for step in seen.steps] == [False, True, False]
    assert [step.verifies for step in seen.steps] == [True, False, False]
    gaps = [step.gap for step in seen.steps]
    assert gaps == [None, pytest.approx(0.2), None], "what waits in between says nothing of planning"
    assert [(b.draft_length, b.sequences, round(b.seconds, 6)) for b in seen.blocks] == [(2, 1, 0.1), (2, 1, 0.3)]
    assert [b.drafting_s for b in seen.blocks] == [0.06, 0.0]
    assert (seen.tried, seen.right) == ([2, 1], [1, 0])
    assert watch.take() == Observation()
    assert Observation.from_json(asdict(seen)) == seen


def test_a_draft_is_held_against_what_was_ordered():
    """One right token, as ordered, says nothing of a second position; a step without an order says nothing at all."""
    watch = EngineWatch()
    watch.ordered([CommitDraft(1, 10, [5], 1)], 0.5)
    watch.stepped(StepPlan((row([5, 6], 10, 2),)), StepOutput([[6, 9]]), 1.0, 1.5)
    watch.stepped(StepPlan((row([9], 12, 1),)), StepOutput([[4]]), 1.7, 2.0)
    seen = watch.take()
    assert (seen.tried, seen.right) == ([1], [1])


def test_work_of_a_drafter_and_steps_of_its_target_are_held_against_each_other():
    """Blocks of 100 ms that take 20 ms to go and come, half of the second one beside a step."""
    watch = EngineWatch()
    for ordered in (1.0, 2.0):
        watch.ordered([CommitDraft(1, 10, [5], 2)], ordered)
        block = DraftBlock(1, [Outcome(11, 0, (6, 7))], drafting_us=100_000)
        watch.took(DraftsArrived([block], ordered + 0.12), ordered + 0.2)
    watch.stepped(StepPlan((row([5, 6, 7], 10, 3),)), StepOutput([[6, 9, 9]]), 2.06, 2.5)
    seen = watch.take()
    assert [block.beside_s for block in seen.blocks] == [0.0, pytest.approx(0.05)]
    assert [step.beside_s for step in seen.steps] == [pytest.approx(0.05)]


def test_interference_comes_out_of_steps_and_blocks_that_overlap():
    """A drafter at work takes a third of what its target could do, and needs half as long again itself."""
    calibration = Calibration()
    calibration.add(seen_steps(random.Random(0)))
    for length, sequences in DRAFTED:
        drafting_s = 0.002 + 0.001 * length
        calibration.add(Observation(blocks=[SeenBlock(length, sequences, drafting_s + 0.001, drafting_s)] * 3))
    costs = calibration.step_costs(), calibration.draft_costs()[0]
    assert calibration.interference(*costs) == (0.0, 0.0)
    beside_s = 0.009
    step = SeenStep(1, 1, 100, 0.0212 + beside_s / 3, None, drafting=True, beside_s=beside_s)
    calibration.add(Observation(steps=[step] * 20, blocks=[SeenBlock(4, 1, 0.01, beside_s, beside_s)] * 20))
    target, drafter = calibration.interference(*costs)
    assert target == pytest.approx(0.5, rel=0.1)
    assert drafter == pytest.approx(0.5, rel=0.1)
