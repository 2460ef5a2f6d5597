"""A load as metrics: nothing in it is hidden, and no index of a list is misnamed."""

from dataclasses import fields

from cluster.metrics.load import COUNTERS, GAUGES, LISTS, load_metrics
from cluster.scheduler.fallback import Fallback
from cluster.scheduler.load import EngineLoad
from workers.contract.draft import Waste


def samples(load: EngineLoad) -> dict[tuple[str, ...], float]:
    return {
        (s.name, *(v for k, v in sorted(s.labels.items()) if k != "model")): s.value
        for metric in load_metrics(load, "m")
        for s in metric.samples
    }


def test_every_field_of_a_load_is_shown():
    shown = [field for _, field, *_ in (*GAUGES, *COUNTERS, *LISTS)] + ["rows_by_draft_length"]
    assert sorted(shown) == sorted(field.name for field in fields(EngineLoad))


def test_lists_are_named_by_what_their_index_means():
    load = EngineLoad(
        wasted_draft_tokens=tuple(range(10, 10 + len(Waste))),
        fallback_rounds=tuple(range(20, 20 + len(Fallback))),
        steps_by_way=(1, 2, 3, 4, 5),
        draft_tokens_by_source=(99, 6, 7),
        accepted_per_position=(9, 8),
    )
    seen = samples(load)
    for cause in Waste:
        assert seen["outrider_spec_wasted_draft_tokens_total", cause.name.lower()] == 10 + cause
    for cause in Fallback:
        assert seen["outrider_fallback_rounds_total", cause.name.lower()] == 20 + cause
    assert seen["outrider_target_steps_by_way_total", "plain"] == 1
    assert seen["outrider_target_steps_by_way_total", "two_groups"] == 5
    assert seen["outrider_spec_draft_tokens_by_source_total", "drafter"] == 6
    assert ("outrider_spec_draft_tokens_by_source_total", "none") not in seen
    assert seen["outrider_spec_accepted_per_position_total", "1"] == 8


def test_a_newer_targets_longer_lists_are_shown_as_far_as_they_are_known():
    seen = samples(EngineLoad(wasted_draft_tokens=(1,) * 20, rows_by_draft_length=(1,) * 20))
    assert len([key for key in seen if key[0] == "outrider_spec_wasted_draft_tokens_total"]) == len(Waste)
    assert seen["outrider_spec_draft_length_bucket", "+Inf"] == 20


def test_draft_lengths_are_a_histogram():
    seen = samples(EngineLoad(rows_by_draft_length=(5, 0, 3)))
    assert seen["outrider_spec_draft_length_bucket", "0.0"] == 5
    assert seen["outrider_spec_draft_length_bucket", "1.0"] == 5
    assert seen["outrider_spec_draft_length_bucket", "2.0"] == 8
    assert seen["outrider_spec_draft_length_bucket", "16.0"] == 8
    assert seen["outrider_spec_draft_length_count",] == 8
    assert seen["outrider_spec_draft_length_sum",] == 6
