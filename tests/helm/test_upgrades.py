"""What `helm upgrade` does to what runs: as little as the change asks for, and nothing that cannot be done."""

import copy
import json
import subprocess

import pytest

from tests.helm.chart import CHART, any_helm, groups, needs_helm, of_kind

pytestmark = needs_helm
GATED = {"target": {"model": "a/b"}}


def next_chart(folder):
    """Return a copy of the chart as its next release would be: another version, nothing else."""
    subprocess.run(["cp", "-r", str(CHART), str(folder)], check=True)
    chart = folder / "Chart.yaml"
    chart.write_text(chart.read_text().replace("0.1.0", "0.1.1"))
    return folder


def cluster(objects):
    return of_kind(objects, "RayService")["spec"]["rayClusterConfig"]


def test_another_version_of_the_chart_alone_starts_no_second_cluster(tmp_path):
    values = {"image": {"tag": "mine"}, **GATED}
    before = any_helm().objects(values)
    after = any_helm().objects(values, chart=next_chart(tmp_path / "chart"))
    assert of_kind(before, "RayService")["metadata"] != of_kind(after, "RayService")["metadata"]
    assert cluster(before) == cluster(after), "KubeRay makes a new cluster of any difference"
    assert of_kind(before, "Job")["spec"] == of_kind(after, "Job")["spec"]
    assert of_kind(before, "Job")["metadata"]["name"] == of_kind(after, "Job")["metadata"]["name"]


@pytest.mark.parametrize(
    "change",
    [
        {"huggingFace": {"tokenSecret": {"name": "added-after-the-first-try"}}},
        {"modelCache": {"download": {"resources": {"limits": {"memory": "16Gi"}}}}},
        {"modelCache": {"download": {"backoffLimit": 9}}},
        {"imagePullSecrets": [{"name": "registry"}]},
        {"podSecurityContext": {"runAsUser": 10002}},
        {"serviceAccount": {"create": False, "name": "mine"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_job_that_differs_is_another_job(change):
    """An API server refuses to change a Job's pods, and helm's upgrade fails with it."""
    before, after = (of_kind(any_helm().objects({**GATED, **values}), "Job") for values in ({}, change))
    assert before["spec"] != after["spec"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


@pytest.mark.parametrize("change", [{"drafters": {"spot": True}}, {"target": {"pod": {"tolerations": [{"key": "a"}]}}}])
def test_kuberay_sees_that_tolerations_have_changed(change):
    """It leaves them out of its hash: without a difference elsewhere they would never arrive."""

    def hashed(values):
        seen = copy.deepcopy(groups(any_helm().objects(values)))
        for group in seen.values():
            group["template"]["spec"].pop("tolerations", None)
        return seen

    assert hashed(None) != hashed(change)
    annotations = [group["template"]["metadata"].get("annotations") for group in hashed(None).values()]
    assert annotations == [None, None, None]


RESIZE = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "patch"}, "data": {}}]
RESIZE[0]["data"]["patch"] = '{{ include "outrider.resize" . }}'


def patched(running, patch):
    for step in patch:
        _, _, _, index, key = step["path"].split("/")
        assert step["op"] == "replace" and key in running[int(index)]
        running[int(index)][key] = step["value"]
    return running


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ({}, {"target": {"replicas": 3}, "drafters": {"replicas": 4}, "front": {"replicas": 5}}),
        (
            {"target": {"autoscaling": {"max_replicas": 2}}},
            {"target": {"autoscaling": {"max_replicas": 6}}, "front": {"replicas": 3}},
        ),
        ({"drafters": {"model": "none"}}, {"drafters": {"model": "none"}, "front": {"replicas": 3}}),
    ],
    ids=str,
)
def test_the_notes_say_how_numbers_of_pods_reach_a_running_cluster(now, then):
    """KubeRay 1.7 passes them on to no cluster that is there already."""
    objects = any_helm().objects({**then, "extraObjects": RESIZE})
    patch = json.loads(of_kind(objects, "ConfigMap", "patch")["data"]["patch"])
    running, wanted = (cluster(found)["workerGroupSpecs"] for found in (any_helm().objects(now), objects))
    assert patched(running, patch) == wanted
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    assert 'include "outrider.resize"' in notes and ".Release.IsUpgrade" in notes


def test_an_autoscaled_group_keeps_the_pods_that_it_has():
    values = {"drafters": {"autoscaling": {"max_replicas": 9}}, "extraObjects": RESIZE}
    patch = json.loads(of_kind(any_helm().objects(values), "ConfigMap", "patch")["data"]["patch"])
    assert {step["path"].rpartition("/")[2] for step in patch if "/1/" in step["path"]} == {
        "minReplicas",
        "maxReplicas",
    }
