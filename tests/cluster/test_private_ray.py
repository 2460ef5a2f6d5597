"""What a command says when its Ray does not start; that it starts is shown wherever something is served."""

import os
import shutil
from pathlib import Path

import pytest
import ray

from cluster.private_ray import STARTS, private_ray
from workers.contract.errors import ConfigurationError


def test_a_ray_that_does_not_start_is_an_error_in_a_sentence_that_names_its_logs(monkeypatch):
    tried = []

    def too_slow(**options):
        tried.append(options)
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", too_slow)
    before = dict(os.environ)
    with pytest.raises(ConfigurationError, match="timed out during startup") as refused, private_ray({}):
        raise AssertionError("it is not entered")
    logs = Path(str(refused.value).partition("Its logs are in ")[2].partition(";")[0])
    assert logs.parent.parent.is_dir(), "kept to be read"
    assert len(tried) == STARTS
    assert dict(os.environ) == before
    shutil.rmtree(logs.parent.parent)


def test_a_ray_that_does_not_start_at_once_is_started_again(monkeypatch):
    tried = []

    def slow_at_first(**options):
        tried.append(options)
        if len(tried) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", slow_at_first)
    with private_ray({"x": 1.0}):
        assert len(tried) == 2
        assert tried[0] == tried[1]
