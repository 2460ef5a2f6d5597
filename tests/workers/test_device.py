import importlib.util
import shutil
import sysconfig

import torch

from workers.device import has_kernels, why_no_triton


def test_a_cpu_has_none():
    assert not has_kernels(torch.device("cpu"))


def test_it_says_what_triton_lacks(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "triton is not installed" in why_no_triton()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert "install gcc, or name one in CC" in why_no_triton()
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    assert "install python3-dev" in why_no_triton()
    (tmp_path / "Python.h").touch()
    assert why_no_triton() is None
