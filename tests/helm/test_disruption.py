"""What may be evicted, and how many at once: budgets that Kubernetes can work out for pods of a RayCluster."""

import pytest
import yaml

from tests.helm.chart import any_helm, needs_helm
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
