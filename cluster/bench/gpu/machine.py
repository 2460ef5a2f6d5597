"""The GPU that a benchmark ran on: its name, clocks and software. Works where Ray is not installed."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = ("torch", "triton", "transformers")
CLOCKS = ("clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "temperature.gpu", "driver_version")
"""What nvidia-smi is asked for."""


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """Return the device, the clocks of this moment and the versions, as JSON types."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        **(_clocks() if device.type == "cuda" else {}),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _clocks() -> dict[str, str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(zip(CLOCKS, (value.strip() for value in line.split(",")), strict=False))
