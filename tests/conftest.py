"""The surroundings of every test; set before torch, Ray and transformers are imported."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# GNU OpenMP spins at a barrier for milliseconds before it sleeps. Where tests share two cores with Ray and
# drafters, the spinning starves the thread that is waited for: beside one busy process, 60 small matrix
# products took 290 to 580 ms, and 37 ms with this bound. It costs a quarter of the speed of a quiet machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Without a GPU, Triton's kernels run in its interpreter; it must be told before they are imported.
if not any(Path(sign).exists() for sign in ("/proc/driver/nvidia", "/dev/nvidia0", "/dev/nvidiactl")):
    os.environ.setdefault("TRITON_INTERPRET", "1")

from hypothesis import settings

# How long an example takes says how busy the machine is: no test is about that.
settings.register_profile("outrider", deadline=None)
settings.load_profile("outrider")
