"""What the settings ask of Ray, without a Ray."""

import subprocess
import sys

import pytest

from cluster import serve_app
from cluster.config_loader import parse_config
from cluster.serve_app import actor_options, build_application, gpus_per_process


@pytest.fixture
def cluster(monkeypatch):
    """Pretend to be connected to a cluster with so many GPUs."""

    def _with_gpus(count: float) -> None:
        monkeypatch.setattr(serve_app.ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": count})

    return _with_gpus


def deployments(values):
    """Return the deployments of an application, by name."""
    ingress = build_application(parse_config(values))._bound_deployment
    found = {"Ingress": ingress}
    for argument in ingress.init_args:
        if bound := getattr(argument, "_bound_deployment", None):
            found[bound.name] = bound
    return found


def test_a_single_process_target_needs_no_placement_group(cluster):
    cluster(0)
    found = deployments({"target": {"resources": {"large": 1}, "replicas": 2}, "drafters": {"replicas": 3}})
    assert found.keys() == {"Ingress", "Target", "Drafter"}
    target = found["Target"]
    assert target._replica_config.placement_group_bundles is None
    assert target.ray_actor_options["resources"] == {"large": 1}
    assert target.ray_actor_options["num_cpus"] == 0
    assert (target.num_replicas, found["Drafter"].num_replicas) == (2, 3)


def test_ranks_get_a_bundle_each_on_one_node(cluster):
    cluster(4)
    target = deployments({"target": {"tp": 2, "resources": {"large": 1}, "labels": {"a": "b"}}})["Target"]
    replica = target._replica_config
    assert replica.placement_group_bundles == [{"CPU": 0.001, "GPU": 1.0, "large": 1.0}] * 2
    assert replica.placement_group_strategy == "STRICT_PACK"
    assert replica.placement_group_bundle_label_selector == [{"a": "b"}] * 2
    assert target.ray_actor_options["num_gpus"] == 1.0


def test_no_drafter_deployment_where_none_is_wanted(cluster):
    cluster(0)
    assert deployments({"drafters": {"model": "none"}}).keys() == {"Ingress", "Target"}


def test_new_ingresses_start_first_only_where_there_is_room_for_them(cluster):
    """Serve stops no old replica before a new one runs where a surge is asked for, and waits for ever without room."""
    cluster(0)
    assert deployments({})["Ingress"]._deployment_config.max_surge_percent == 100
    patient = deployments({"http": {"leave_notice_s": 10}})["Ingress"]._deployment_config
    usual = deployments({})["Ingress"]._deployment_config
    assert patient.graceful_shutdown_timeout_s == usual.graceful_shutdown_timeout_s + 10
    assert deployments({"http": {"rollout_surge": False}})["Ingress"]._deployment_config.max_surge_percent == 0


@pytest.mark.parametrize(
    ("values", "available", "expected"),
    [
        ({}, 0, (0, 0)),
        ({}, 1, (1, 0)),
        ({"target": {"tp": 2}, "drafters": {"model": "ngram"}}, 1, (0, 0)),
        ({"target": {"tp": 2}}, 1, (0, 1)),
        ({"drafters": {"model": "m"}}, 1, (1, 0)),
        ({"drafters": {"model": "m"}}, 2, (1, 1)),
        ({"drafters": {"model": "m", "replicas": 2}}, 2, (1, 0)),
        ({"target": {"runner": {"device": "cpu"}}, "drafters": {"model": "m"}}, 1, (0, 1)),
        ({"target": {"runner": {"device": "cuda"}}}, 0, (1, 0)),
        ({"target": {"num_gpus": 0.5}, "drafters": {"model": "m", "num_gpus": 0.5}}, 1, (0.5, 0.5)),
    ],
)
def test_gpus_go_to_the_target_first(values, available, expected):
    assert gpus_per_process(parse_config(values), available) == expected


def test_labels_and_resources_reach_ray():
    drafters = parse_config({"drafters": {"labels": {"k": "v"}, "resources": {"cheap": 1}, "num_cpus": 0.5}}).drafters
    assert actor_options(drafters, 0.0) == {
        "num_cpus": 0.5,
        "num_gpus": 0.0,
        "resources": {"cheap": 1.0},
        "label_selector": {"k": "v"},
    }


def test_the_application_is_described_without_torch():
    code = (
        "import sys, cluster.serve_app, cluster.cli; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "[]", run.stderr
