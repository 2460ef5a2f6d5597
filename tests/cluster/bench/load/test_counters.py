from cluster.bench.load.counters import Counters, parse_counters

TEXT = """# TYPE outrider_spec_rounds counter
outrider_spec_rounds_total{model="a"} 10.0
outrider_spec_rounds_total{model="b"} 5.0
# TYPE outrider_spec_draft_tokens counter
outrider_spec_draft_tokens_total{model="a"} 40.0
# TYPE outrider_spec_accepted_tokens counter
outrider_spec_accepted_tokens_total{model="a"} 30.0
# TYPE outrider_generated_tokens counter
outrider_generated_tokens_total{model="a"} 100.0
# TYPE outrider_requests counter
outrider_requests_total{model="a"} 7.0
"""


def test_counters_are_summed_over_labels():
    assert parse_counters(TEXT) == Counters(generated=100, drafts=15, drafted=40, accepted=30)


def test_metrics_of_others_hold_no_counters():
    assert parse_counters("# TYPE vllm_tokens counter\nvllm_tokens_total 7\n") is None
    assert parse_counters("<html>") is None


def test_a_restart_does_not_make_a_gain_negative():
    earlier = Counters(100, 15, 40, 30)
    assert Counters(150, 25, 80, 60).since(earlier) == Counters(50, 10, 40, 30)
    assert Counters(20, 2, 8, 6).since(earlier) == Counters(20, 2, 8, 6)
