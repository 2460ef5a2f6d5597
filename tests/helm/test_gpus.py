"""How pods get GPUs, and Ray knows of them."""

from tests.helm.chart import any_helm, groups, needs_helm

pytestmark = needs_helm


def test_gpu_pods_can_ask_for_the_runtime_that_has_the_gpus():
    """k3s and RKE2, for two, give them to no pod that does not."""
    values = {role: {"pod": {"runtimeClassName": "nvidia"}} for role in ("target", "drafters")}
    pods = {name: group["template"]["spec"] for name, group in groups(any_helm().objects(values)).items()}
    assert {name: pod.get("runtimeClassName") for name, pod in pods.items()} == {
        "target": "nvidia",
        "drafter": "nvidia",
        "front": None,
    }


def test_gpus_by_any_name_are_gpus_to_ray():
    """Its autoscaler finds those whose name ends with gpu, and starts no pod for others."""
    values = {
        "target": {"tensorParallel": 2, "pod": {"gpuResource": "nvidia.com/mig-3g.40gb"}},
        "drafters": {"model": "a/b", "pod": {"gpus": 0.5}},
    }
    found = groups(any_helm().objects(values))
    limits = found["target"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/mig-3g.40gb"] == 2
    assert found["target"]["resources"]["GPU"] == "2"
    assert found["drafter"]["resources"]["GPU"] == "1"
    assert "GPU" not in groups(any_helm().objects())["drafter"]["resources"]
