"""What a command says when its Ray does not start; that it starts is shown wherever something is served."""

import os
import shutil
from pathlib import Path

import pytest
import ray

from cluster.private_ray import private_ray
from workers.contract.errors import ConfigurationError


def test_a_ray_that_does_not_start_is_an_error_in_a_sentence_that_names_its_logs(monkeypatch):
    def too_slow(**options):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", too_slow)
    before = dict(os.environ)
    with pytest.raises(ConfigurationError, match="timed out during startup") as refused, private_ray({}):
        raise AssertionError("it is not entered")
    logs = Path(str(refused.value).partition("Its logs are in ")[2].partition(";")[0])
    assert logs.parent.parent.is_dir(), "kept to be read"
    assert dict(os.environ) == before
    shutil.rmtree(logs.parent.parent)
