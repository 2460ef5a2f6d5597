import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("capability", [80, 89, 90], ids=["A100", "L4", "H100"])
def test_every_kernel_becomes_machine_code(capability, tmp_path):
    surroundings = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.workers.kernels.compile_ahead", str(capability)]
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
