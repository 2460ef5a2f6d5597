import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import serving
from cluster.config_loader import parse_config
from cluster.private_ray import environment
from cluster.serving import _describe, asks_for_token, ray_for


@pytest.mark.parametrize(
    ("environ", "asked"),
    [({}, False), ({"RAY_AUTH_MODE": "disabled"}, False), ({"RAY_AUTH_MODE": "token"}, True), (environment(), True)],
)
def test_whether_ray_asks_for_a_token(environ, asked):
    assert asks_for_token(environ) is asked


@pytest.mark.parametrize(
    ("status", "message", "line"),
    [
        ("HEALTHY", "", "target ready"),
        (
            "UPDATING",
            "Deployment 'T' in application 'o' has 1 replicas that have taken more than 30s to initialize.\nThis",
            "target is still starting",
        ),
        ("UPDATING", "Failed\n  in between\nValueError: why", "target: Failed: ValueError: why"),
        ("UPDATING", "", ""),
    ],
)
def test_what_is_said_of_a_role(status, message, line):
    role = SimpleNamespace(status=status, message=message, replica_states={"RUNNING": 1})
    assert _describe("target", role) == line


def test_each_private_cluster_has_a_token_of_its_own():
    assert len({environment()["RAY_AUTH_TOKEN"] for _ in range(3)}) == 3


def test_a_private_cluster_offers_what_each_role_asks_for(monkeypatch):
    """A file that is meant for several machines starts on one."""
    offered = {}

    @contextlib.contextmanager
    def private_ray(resources):
        offered.update(resources)
        yield Path("logs")

    monkeypatch.setattr(serving, "private_ray", private_ray)
    roles = {role: {"resources": {f"outrider_{role}": 1}} for role in ("target", "drafters", "http")}
    with ray_for(parse_config(roles)):
        assert offered.keys() == {"outrider_target", "outrider_drafters", "outrider_http"}
