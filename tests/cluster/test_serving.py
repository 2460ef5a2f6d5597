from types import SimpleNamespace

import pytest

from cluster.private_ray import environment
from cluster.serving import _describe, asks_for_token


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
