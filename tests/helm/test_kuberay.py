"""What KubeRay 1.7 asks of a RayService beyond the schema of its CRD; each rule is one that its code has."""

import re

import pytest
import yaml

from tests.helm.chart import EXAMPLES, ChartRefusedError, any_helm, needs_helm, of_kind

pytestmark = needs_helm
every_example = pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.stem if path else "default")
AUTOSCALED = {"drafters": {"autoscaling": {"max_replicas": 3}}}


def service(example=None):
    values = yaml.safe_load(example.read_text()) if example else None
    return of_kind(any_helm().objects(values), "RayService")


@every_example
def test_the_head_has_the_port_of_which_kuberay_makes_its_service(example):
    """Else it ends each round in an error, right before it would promote a cluster or prepare an upgrade."""
    head = service(example)["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "serve", "containerPort": 8000} in head["ports"]


@every_example
def test_a_group_says_in_one_place_what_it_offers(example):
    cluster = service(example)["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        if group.get("resources"):
            assert not group["rayStartParams"].keys() & {"num-cpus", "num-gpus", "memory", "resources", "labels"}


@every_example
def test_numbers_of_pods_are_in_order(example):
    for group in service(example)["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_pods_of_an_autoscaled_cluster_are_not_restarted_in_place():
    cluster = of_kind(any_helm().objects(AUTOSCALED), "RayService")["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert group["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("release", ["a", "a-very-long-name-of-a-release-that-goes-on-and-on"])
def test_the_name_is_one_that_it_takes(release):
    name = of_kind(any_helm().objects(release=release), "RayService")["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name)


@pytest.mark.parametrize("release", ["7b", "my.model"])
def test_a_name_that_it_would_only_complain_of_in_an_event_is_refused(release):
    with pytest.raises(ChartRefusedError, match=f"{release}-outrider is no name that KubeRay takes"):
        any_helm().objects(release=release)
    assert any_helm().objects({"fullnameOverride": "model"}, release=release)
