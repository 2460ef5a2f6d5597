import pytest

from cluster.scheduler.estimates.run_ahead import RunAheadRecord


def test_before_anything_is_known_quick_drafters_are_trusted_to_be_ready():
    record = RunAheadRecord()
    assert record.readiness(block_s=0.01, step_s=0.02).hit == pytest.approx(0.8)
    late = record.readiness(block_s=0.02, step_s=0.02)
    assert (late.hit, late.soon) == (0.0, pytest.approx(0.8))
    assert 0 < late.soon_s < 0.02
    hopeless = record.readiness(block_s=0.06, step_s=0.02)
    assert (hopeless.hit, hopeless.soon) == (0.0, 0.0)


def test_hits_and_late_arrivals_are_counted_by_their_share_of_a_step():
    record = RunAheadRecord()
    for _ in range(300):
        record.note_verdicts([1.0] * 5 + [0.5] * 2 + [0.0] * 3)
        for _ in range(3):
            record.note_late(0.004, block_s=0.02)
        record.note_late(0.02, block_s=0.02)  # this one had not been prepared for
    ready = record.readiness(0.02, 0.02)
    assert ready.hit == pytest.approx(0.6, abs=0.06)
    assert ready.soon == pytest.approx(0.3, abs=0.05)
    assert ready.soon_s == pytest.approx(0.004, rel=0.01)
    assert (record.verdicts, record.hits) == (3000, 2100)


def test_what_was_learned_grows_old():
    record = RunAheadRecord()
    for _ in range(100):
        record.note_verdicts([0.0])
    assert record.readiness(0.01, 0.02).hit < 0.1
    for _ in range(3000):
        record.note_idle()
    assert record.readiness(0.01, 0.02).hit > 0.7
