"""When front pods get connections: from the first target on, and whenever somebody listens."""

import pytest

from cluster.config_loader import parse_config
from tests.helm.chart import ChartRefusedError, any_helm, groups, needs_helm, of_kind, settings_of

pytestmark = needs_helm


def test_replacing_an_ingress_needs_no_room_that_there_is_not():
    objects = any_helm().objects()
    room = float(groups(objects)["front"]["resources"]["outrider_ingress"])
    http = settings_of(objects)["http"]
    assert room == http["resources"]["outrider_ingress"], "one process per pod, of which each has its port for metrics"
    assert http["rollout_surge"] is False, "Serve would wait for ever for a place beside the old process"


def test_whatever_the_settings_file_may_say_the_chart_may_say():
    """But for what the chart decides itself; a new setting is a value as soon as the schema is made anew."""
    drafters = ["10.0.7.1:5001", "gpu.example:5001", "[fd00::1]:5002"]
    values = {
        "target": {"settings": {"step_deadline_s": 120, "external_drafters": drafters}},
        "front": {"settings": {"resume_wait_s": 900}},
    }
    objects = any_helm().objects(values)
    settings = parse_config(settings_of(objects))
    assert settings.target.step_deadline_s == 120
    assert settings.target.external_drafters == tuple(drafters)
    assert settings.http.resume_wait_s == 900
    egress = of_kind(objects, "NetworkPolicy", "out-outrider")["spec"]["egress"]
    assert {"ports": [{"protocol": "TCP", "port": port} for port in (5001, 5002)]} in egress
    for part in ("target", "front"):
        with pytest.raises(ChartRefusedError, match="rollout_surge"):
            any_helm().objects({part: {"settings": {"rollout_surge": True}}})


def test_a_pod_whose_ingress_is_gone_gets_no_connections_for_long():
    (container,) = groups(any_helm().objects())["front"]["template"]["spec"]["containers"]
    started, ready = container["startupProbe"], container["readinessProbe"]
    assert started["httpGet"] == {"path": "/ready", "port": "http"}, "first when a target takes requests"
    assert started["periodSeconds"] * started["failureThreshold"] >= 24 * 3600, "models may take long to fetch"
    assert ready["httpGet"] == {"path": "/health", "port": "http"}, "then without targets too: they say 503"
    seen_s = ready["periodSeconds"] * ready["failureThreshold"]
    assert seen_s < settings_of(any_helm().objects())["http"]["leave_notice_s"] <= 15, "left out before it stops"
