"""Every example renders without a warning in every helm here, the same in all, and every object is a valid one."""

import re

import pytest
import yaml

from cluster.actors.roster_state import Role
from cluster.api.app import build_app
from cluster.api.page.routes import page_paths
from cluster.api.settings import ApiSettings
from cluster.links.generation.router import Router
from tests.helm.chart import (
    CHART,
    EXAMPLES,
    ChartRefusedError,
    Helm,
    any_helm,
    binaries,
    groups,
    needs_helm,
    of_kind,
    settings_of,
)
from tests.helm.schemas import crd_folder, faults
from tests.support.tiny_models import byte_tokenizer
from workers.rpc.roles import PeerRole
from workers.tokenizer import Tokenizer

pytestmark = needs_helm
every_helm = pytest.mark.parametrize("helm", [Helm(path) for path in binaries()], ids=lambda helm: helm.path)
every_example = pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.stem if path else "default")
EVERYTHING = {
    "target": {"autoscaling": {"max_replicas": 3}},
    "drafters": {"autoscaling": {"max_replicas": 9}, "spot": True, "model": "org/small", "pod": {"gpus": 1}},
    "ingress": {"enabled": True, "className": "nginx", "hosts": ["a.example", "b.example"]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["c.example"]},
    "tls": {"enabled": True},
    "metrics": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}, "dashboards": {"enabled": True}},
    "podDisruptionBudget": {"head": True},
    "front": {"exposed": ["api", "page", "probes"]},
    "huggingFace": {"tokenSecret": {"name": "hf"}},
    "imagePullSecrets": [{"name": "registry"}],
    "ray": {"gcsFaultTolerance": {"redisAddress": "redis:6380", "passwordSecret": {"name": "redis"}}},
    "networkPolicy": {"clients": [{"namespaceSelector": {}}]},
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}, "data": {"a": "b"}}
    ],
}


def values(example):
    return yaml.safe_load(example.read_text()) if example else None


@every_helm
@every_example
def test_lint_has_nothing_to_say(helm, example):
    report = helm.run("lint", "--strict", str(CHART), values=values(example))
    assert "[WARNING]" not in report and "[ERROR]" not in report


@every_example
def test_every_version_renders_the_same(example):
    rendered = [helm.objects(values(example)) for helm in (Helm(path) for path in binaries())]
    assert all(objects == rendered[0] for objects in rendered)


@every_helm
@pytest.mark.parametrize("given", [None, *map(values, EXAMPLES), EVERYTHING], ids=str)
def test_every_object_is_valid(helm, given):
    objects = helm.objects(given)
    assert len(objects) > 5
    assert {f"{o['kind']} {o['metadata']['name']}": found for o in objects if (found := faults(o))} == {}
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(names) == len(set(names))


@pytest.mark.skipif(crd_folder() is None, reason="no CRDs: name their folder in the environment variable CRDS")
def test_the_validation_sees_mistakes():
    service = of_kind(any_helm().objects(), "RayService")
    assert faults(service) == []
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containerz"] = []
    service["spec"]["upgradeStrategy"]["typo"] = 1
    assert len(faults(service)) == 2


def test_everything_can_be_turned_on_at_once():
    kinds = sorted(o["kind"] for o in any_helm().objects(EVERYTHING))
    for kind in ("Ingress", "HTTPRoute", "Certificate", "ServiceMonitor", "PrometheusRule", "Job", "ConfigMap"):
        assert kind in kinds
    assert kinds.count("PodDisruptionBudget") == 3
    assert kinds.count("NetworkPolicy") == 3


def test_pods_have_no_more_rights_than_they_need():
    objects = any_helm().objects(EVERYTHING)
    cluster = of_kind(objects, "RayService")["spec"]["rayClusterConfig"]
    workers = [group["template"]["spec"] for group in cluster["workerGroupSpecs"]]
    others = [of_kind(objects, "Job")["spec"]["template"]["spec"], of_kind(objects, "Pod")["spec"]]
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["automountServiceAccountToken"] is True and "serviceAccountName" not in head, "Ray's autoscaler's own"
    for pod in [*workers, *others]:
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] == "out-outrider"
    for pod in [head, *workers, *others]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    plain = of_kind(any_helm().objects(), "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert plain["automountServiceAccountToken"] is False


def test_one_pod_holds_one_replica_of_its_role():
    objects = any_helm().objects({"target": {"tensorParallel": 4, "replicas": 2}, "drafters": {"replicas": 5}})
    target, drafter, front = (groups(objects)[name] for name in ("target", "drafter", "front"))
    assert (target["replicas"], drafter["replicas"], front["replicas"]) == (2, 5, 2)
    assert target["resources"] == {"outrider_target": "4", "GPU": "4"}
    assert target["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 4
    settings = settings_of(objects)
    assert settings["target"]["resources"] == {"outrider_target": 1}, "per rank"
    assert settings["drafters"]["resources"] == {"outrider_drafter": 1}
    assert drafter["resources"] == {"outrider_drafter": "1"}


def test_groups_scale_as_their_role_does():
    objects = any_helm().objects(EVERYTHING)
    size = {name: (group["minReplicas"], group["maxReplicas"]) for name, group in groups(objects).items()}
    assert size == {"target": (1, 3), "drafter": (1, 9), "front": (2, 2)}
    assert settings_of(objects)["drafters"]["autoscaling"] == {"max_replicas": 9}
    assert "replicas" not in settings_of(objects)["drafters"]


def test_no_drafters_no_group():
    objects = any_helm().objects({"drafters": {"model": "none"}})
    assert groups(objects).keys() == {"target", "front"}
    assert settings_of(objects)["drafters"] == {"model": "none"}


def test_http_reaches_the_front_and_nothing_else():
    objects = any_helm().objects()
    service = of_kind(objects, "Service")["spec"]
    for name, group in groups(objects).items():
        labels = group["template"]["metadata"]["labels"]
        assert (service["selector"].items() <= labels.items()) == (name == "front")
    ports = groups(objects)["front"]["template"]["spec"]["containers"][0]["ports"]
    assert service["ports"][0]["targetPort"] in {port["name"] for port in ports}


@pytest.mark.parametrize("exposed", [None, ["api", "page"], ["probes", "api", "page"]], ids=str)
def test_what_is_exposed_is_a_choice_and_metrics_never_are(exposed):
    doors = {
        "ingress": {"enabled": True, "hosts": ["a.example"]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
    }
    objects = any_helm().objects(doors | ({"front": {"exposed": exposed}} if exposed else {}))
    (host,) = of_kind(objects, "Ingress")["spec"]["rules"]
    by_ingress = {(path["path"], path["pathType"] == "Prefix") for path in host["http"]["paths"]}
    rules = of_kind(objects, "HTTPRoute")["spec"]["rules"]
    by_gateway = {
        (match["path"]["value"], match["path"]["type"] == "PathPrefix") for r in rules for match in r["matches"]
    }
    assert by_ingress == by_gateway
    assert all(len(rule["matches"]) <= 8 for rule in rules), "more are an error to older gateways"
    reached = {path for path in served_paths() if any(reaches(path, door, prefix) for door, prefix in by_ingress)}
    api = {path for path in served_paths() if path.startswith("/v1/")} | {"/tokenize", "/detokenize", "/openapi.json"}
    page = page_paths() if exposed else set()
    probes = {"/health", "/ready", "/version"} if exposed and "probes" in exposed else set()
    assert reached == api | page | probes
    assert served_paths() - reached >= {"/metrics", "/metrics/targets"}


def served_paths():
    """Every path of the API as a real application has it."""
    app = build_app(Router(), Tokenizer(byte_tokenizer(), [258]), ApiSettings())
    return {*app.openapi()["paths"], *page_paths(), "/openapi.json"}


def reaches(path, door, prefix):
    """Whether a path goes through a door; prefixes are of whole elements, as both kinds of object define it."""
    return path == door or (prefix and path.startswith(door.rstrip("/") + "/"))


ROLES = {"front": PeerRole.INGRESS, "target": PeerRole.TARGET, "drafter": PeerRole.DRAFTER}


def tls_secrets(objects):
    """Return the Secret that each group's pods have mounted where the settings look for certificates."""
    tls = settings_of(objects)["tls"]
    found = {}
    for name, group in groups(objects).items():
        pod = group["template"]["spec"]
        (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "tls"]
        assert {path.rpartition("/")[0] for path in tls.values()} == {mount["mountPath"]}
        (found[name],) = [v["secret"]["secretName"] for v in pod["volumes"] if v["name"] == "tls"]
    return found


def test_each_pod_has_the_certificate_of_its_role_and_no_other():
    objects = any_helm().objects({"tls": {"enabled": True}})
    made = {o["spec"]["secretName"]: o["spec"] for o in objects if o["kind"] == "Certificate"}
    for group, secret in tls_secrets(objects).items():
        assert made[secret]["dnsNames"] == [ROLES[group].dns_name]
        assert made[secret]["usages"] == ["server auth", "client auth"], "it dials, or is dialled, or both"
    assert len(set(tls_secrets(objects).values())) == len(ROLES)


def test_certificates_of_ones_own_are_mounted_instead():
    secrets = {"ingress": "a", "target": "b", "drafter": "c"}
    objects = any_helm().objects({"tls": {"enabled": True, "existingSecrets": secrets}})
    assert [o for o in objects if o["apiVersion"].startswith("cert-manager")] == []
    assert tls_secrets(objects) == {"front": "a", "target": "b", "drafter": "c"}
    with pytest.raises(ChartRefusedError, match="each of ingress, target and drafter"):
        any_helm().objects({"tls": {"enabled": True, "existingSecrets": {"ingress": "a"}}})


def test_api_keys_are_mounted_at_the_front_alone():
    values = {"front": {"apiKeys": {"name": "mine"}}, "test": {"apiKey": {"name": "one"}}}
    objects = any_helm().objects(values)
    path = settings_of(objects)["http"]["api"]["api_keys_file"]
    for name, group in groups(objects).items():
        pod = group["template"]["spec"]
        volumes = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "api-keys"]
        mounts = [m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if m["name"] == "api-keys"]
        if name == "front":
            assert [f"{mount}/{item['path']}" for mount in mounts for item in volumes[0]["items"]] == [path]
            assert volumes[0]["secretName"] == "mine"
        else:
            assert (volumes, mounts) == ([], [])
    (env,) = [
        e
        for e in of_kind(objects, "Pod", "out-outrider-test")["spec"]["containers"][0]["env"]
        if e["name"] == "API_KEY"
    ]
    assert env["valueFrom"]["secretKeyRef"] == {"name": "one", "key": "key"}
    assert "api_keys_file" not in settings_of(any_helm().objects())["http"]["api"]


@pytest.mark.parametrize(
    ("kind", "endpoints"), [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")]
)
def test_scraped_processes_get_the_role_that_alerts_ask_for(kind, endpoints):
    objects = any_helm().objects({"metrics": {kind[0].lower() + kind[1:]: {"enabled": True}}})
    (endpoint,) = of_kind(objects, kind)["spec"][endpoints]
    found = set()
    for group in groups(objects).values():
        pod = group["template"]
        assert endpoint["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        instance = pod["metadata"]["labels"]["app.kubernetes.io/instance"]
        discovered = {f"{POD_LABEL}_component": component, f"{POD_LABEL}_instance": instance}
        found.add(tuple(relabelled(discovered, endpoint)[label] for label in ("role", "release")))
    assert found == {(str(role), "out") for role in Role}


POD_LABEL = "__meta_kubernetes_pod_label_app_kubernetes_io"


def relabelled(labels, endpoint):
    """What Prometheus makes of labels by the rules of an endpoint."""
    for rule in endpoint["relabelings"]:
        value = ";".join(labels.get(name, "") for name in rule["sourceLabels"])
        if matched := re.fullmatch(rule.get("regex", "(.*)"), value):
            labels = {**labels, rule["targetLabel"]: rule.get("replacement", matched[0])}
    return labels


def test_models_are_fetched_as_far_as_they_must_be():
    def fetched(given):
        jobs = [o for o in any_helm().objects(given) if o["kind"] == "Job"]
        return jobs[0]["spec"]["template"]["spec"]["containers"][0]["args"] if jobs else None

    assert fetched(None) == ["smollm2-135m-instruct"]
    assert fetched({"target": {"model": "a/b"}, "drafters": {"model": "a/c"}}) == ["a/b", "a/c"]
    assert fetched({"target": {"model": "/models/x"}}) is None
    assert fetched({"modelCache": {"type": "ephemeral"}}) is None
    assert fetched({"modelCache": {"download": {"models": ["x/y"]}}}) == ["x/y"]


def test_long_names_stay_within_what_kuberay_allows():
    objects = any_helm().objects(release="a-very-long-name-of-a-release-that-goes-on-and-on")
    assert len(of_kind(objects, "RayService")["metadata"]["name"]) <= 40


def test_names_that_look_like_numbers_stay_names():
    objects = any_helm().objects({"fullnameOverride": "e1", "target": {"pod": {"sharedMemory": "1"}}}, release="42")
    assert {o["metadata"]["name"]: found for o in objects if (found := faults(o))} == {}


def test_the_test_hook_is_a_hook():
    pod = of_kind(any_helm().objects(), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    compile(pod["spec"]["containers"][0]["args"][0], "chat_test", "exec")
