"""The policies as Serve's controller uses them: made from the application's options, called with its context."""

from types import SimpleNamespace

import pytest
from ray.serve.config import AutoscalingConfig

from cluster import serve_app
from cluster.autoscaling.policies import DrafterPolicy, TargetPolicy
from cluster.autoscaling.signals import RecentShare
from cluster.config_loader import parse_config
from tests.cluster.test_serve_app import deployments
from workers.contract.errors import ConfigurationError


def context(current: int, **reports: list[float]) -> SimpleNamespace:
    found = {name: dict(enumerate(values)) for name, values in reports.items()}
    return SimpleNamespace(target_num_replicas=current, aggregated_metrics=found)


def test_targets_add_up_what_waits_and_average_the_caches():
    policy = TargetPolicy(max_replicas=8, waiting_per_replica=10, kv_usage=0.8)
    assert policy(context(2, waiting=[15, 15], kv_usage=[0.1, 0.1])) == (3, {})
    assert policy(context(2, waiting=[0, 0], kv_usage=[0.9, 0.9])) == (3, {})


def test_drafters_listen_to_the_target_that_waits_most():
    policy = DrafterPolicy(max_replicas=8)
    assert policy(context(2, queued=[3, 3], target_bubble=[0.0, 0.4])) == (3, {})
    assert policy(context(2, queued=[3, 3], target_bubble=[0.0, 0.0])) == (1, {})


@pytest.mark.parametrize("policy", [TargetPolicy(max_replicas=8), DrafterPolicy(max_replicas=8)])
@pytest.mark.parametrize("reports", [None, {}, {"waiting": {}}])
def test_without_reports_nothing_changes(policy, reports):
    assert policy(SimpleNamespace(target_num_replicas=3, aggregated_metrics=reports)) == (3, {})


def test_serve_takes_the_options_and_makes_our_policies(monkeypatch):
    monkeypatch.setattr(serve_app.ray, "cluster_resources", dict)
    found = deployments(
        {
            "target": {"autoscaling": {"max_replicas": 3, "kv_usage": 0.6}},
            "drafters": {"autoscaling": {"min_replicas": 2, "max_replicas": 9, "downscale_delay_s": 7}},
        }
    )
    target = found["Target"]._deployment_config.autoscaling_config
    drafter = found["Drafter"]._deployment_config.autoscaling_config
    assert isinstance(target, AutoscalingConfig)
    assert (target.min_replicas, target.max_replicas) == (1, 3)
    assert (drafter.min_replicas, drafter.max_replicas, drafter.downscale_delay_s) == (2, 9, 7)
    made = target.policy.get_policy()(**target.policy.policy_kwargs)
    assert made(context(1, waiting=[0], kv_usage=[0.7])) == (2, {})
    assert drafter.policy.get_policy()(**drafter.policy.policy_kwargs)(context(2, queued=[40, 0]))[0] == 3


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"target": {"replicas": 2, "autoscaling": {"max_replicas": 3}}}, "leave target.replicas out"),
        ({"drafters": {"replicas": 2, "autoscaling": {"max_replicas": 3}}}, "leave drafters.replicas out"),
        ({"drafters": {"autoscaling": {"min_replicas": 4, "max_replicas": 3}}}, "max_replicas .3. is less than"),
        ({"target": {"autoscaling": {}}}, "target.autoscaling.max_replicas"),
    ],
)
def test_contradictions_are_refused_by_name(values, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        parse_config(values)


def test_a_share_is_that_of_the_time_since_the_last_reading():
    now = 100.0
    share = RecentShare(lambda: now)
    now = 102.0
    assert share.of(0.5) == 0.25
    now = 102.1
    assert share.of(0.6) == 0.25, "too soon for another reading"
    now = 104.0
    assert share.of(9.0) == 1.0
    now = 106.0
    assert share.of(9.0) == 0.0
