"""When front pods get connections: from the first target on, and whenever somebody listens."""

from tests.helm.chart import any_helm, groups, needs_helm, settings_of

pytestmark = needs_helm


def test_replacing_an_ingress_needs_no_room_that_there_is_not():
    objects = any_helm().objects()
    room = float(groups(objects)["front"]["resources"]["outrider_ingress"])
    http = settings_of(objects)["http"]
    assert room == http["resources"]["outrider_ingress"], "one process per pod, of which each has its port for metrics"
    assert http["rollout_surge"] is False, "Serve would wait for ever for a place beside the old process"


def test_a_pod_whose_ingress_is_gone_gets_no_connections_for_long():
    (container,) = groups(any_helm().objects())["front"]["template"]["spec"]["containers"]
    started, ready = container["startupProbe"], container["readinessProbe"]
    assert started["httpGet"] == {"path": "/ready", "port": "http"}, "first when a target takes requests"
    assert started["periodSeconds"] * started["failureThreshold"] >= 24 * 3600, "models may take long to fetch"
    assert ready["httpGet"] == {"path": "/health", "port": "http"}, "then without targets too: they say 503"
    assert ready["periodSeconds"] * ready["failureThreshold"] < 10
