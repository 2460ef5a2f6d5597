import pytest

from cluster.private_ray import environment
from cluster.serving import asks_for_token


@pytest.mark.parametrize(
    ("environ", "asked"),
    [({}, False), ({"RAY_AUTH_MODE": "disabled"}, False), ({"RAY_AUTH_MODE": "token"}, True), (environment(), True)],
)
def test_whether_ray_asks_for_a_token(environ, asked):
    assert asks_for_token(environ) is asked


def test_each_private_cluster_has_a_token_of_its_own():
    assert len({environment()["RAY_AUTH_TOKEN"] for _ in range(3)}) == 3
