"""What may be evicted, how many at once, and how long they have: in terms that Kubernetes and Ray can work with."""

import pytest
import yaml
from ray._private import ray_constants

from cluster.serve_app import STOP_MARGIN_S
from tests.helm.chart import any_helm, groups, needs_helm, of_kind
from tests.helm.schemas import crd_folder

pytestmark = needs_helm


def budgets(values=None):
    found = [o for o in any_helm().objects(values) if o["kind"] == "PodDisruptionBudget"]
    return {o["metadata"]["name"].removeprefix("out-outrider-"): o["spec"] for o in found}


@pytest.mark.skipif(crd_folder() is None, reason="no CRDs: name their folder in the environment variable CRDS")
def test_the_owner_of_the_pods_has_no_scale():
    crd = yaml.safe_load((crd_folder() / "ray.io_rayclusters.yaml").read_text())
    assert not any("scale" in version.get("subresources", {}) for version in crd["spec"]["versions"])


def test_budgets_are_numbers_of_pods_that_stay():
    """Where the owner has no scale, maxUnavailable and shares end in no eviction at all, for ever."""
    for budget in budgets({"podDisruptionBudget": {"head": True}}).values():
        assert "maxUnavailable" not in budget
        assert isinstance(budget["minAvailable"], int)
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(
    ("values", "front", "target"),
    [
        (None, 1, 0),
        ({"front": {"replicas": 4}, "target": {"replicas": 3}}, 3, 2),
        ({"target": {"autoscaling": {"max_replicas": 5}}}, 1, 0),
        ({"target": {"autoscaling": {"min_replicas": 3, "max_replicas": 5}}}, 1, 2),
        ({"front": {"replicas": 1}, "podDisruptionBudget": {"maxUnavailable": 2}}, 0, 0),
        ({"target": {"replicas": 4}, "podDisruptionBudget": {"maxUnavailable": 0}}, 2, 4),
    ],
    ids=str,
)
def test_as_many_may_be_evicted_as_are_said_to(values, front, target):
    found = budgets(values)
    assert (found["front"]["minAvailable"], found["target"]["minAvailable"]) == (front, target)


def test_the_head_stays_where_that_is_asked_for_and_drafters_never_must():
    assert budgets().keys() == {"front", "target"}
    assert budgets({"podDisruptionBudget": {"head": True}})["head"]["minAvailable"] == 1


DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


@pytest.mark.parametrize("drain", [0, 20, 600])
def test_an_evicted_pod_has_the_time_that_its_replica_is_given(drain):
    """Ray gives a node half a minute unless told otherwise, however long Kubernetes would wait."""
    assert hasattr(ray_constants, DRAIN), "Ray still knows the variable"
    objects = any_helm().objects({"target": {"drainTimeoutSeconds": drain}})
    pods = {name: group["template"]["spec"] for name, group in groups(objects).items()}
    pods["head"] = of_kind(objects, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    for role, pod in pods.items():
        (given,) = [int(e["value"]) for e in pod["containers"][0]["env"] if e["name"] == DRAIN]
        finishes = (0 if role == "drafter" else drain) + STOP_MARGIN_S
        assert finishes < given < pod["terminationGracePeriodSeconds"], role
