import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

ROOT = Path(__file__).resolve().parents[3]
GPUS = {"A100": 80, "L4": 89, "H100": 90}


@pytest.fixture(scope="module")
def compiling(tmp_path_factory):
    """A process for each kind of GPU: compiling takes one core."""
    processes = {}
    for name, capability in GPUS.items():
        cache = str(tmp_path_factory.mktemp(name))
        surroundings = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": cache}
        command = [sys.executable, "-m", "tests.workers.kernels.compile_ahead", str(capability)]
        processes[name] = subprocess.Popen(command, cwd=ROOT, env=surroundings, stderr=subprocess.PIPE, text=True)
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("gpu", GPUS)
def test_every_kernel_becomes_machine_code(gpu, compiling):
    _, errors = compiling[gpu].communicate()
    assert compiling[gpu].returncode == 0, errors
