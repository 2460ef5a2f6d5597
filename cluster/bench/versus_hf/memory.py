"""The target's memory beside what it must hold: weights, keys and values, and 1 GB for everything else."""

from dataclasses import asdict, dataclass
from typing import Any

from cluster.bench.machine import named_descendants, pss_bytes
from workers.checkpoint.source import ModelSource

ALLOWANCE_BYTES = 10**9


@dataclass(frozen=True, slots=True)
class TargetMemory:
    """Proportional set size of the target process and its bound, in bytes."""

    pss: int
    weights: int
    kv_cache: int

    @property
    def bound(self) -> int:
        """The most that the process may hold."""
        return self.weights + self.kv_cache + ALLOWANCE_BYTES

    def sentence(self) -> str:
        """Say it in one line."""
        verdict = "within" if self.pss <= self.bound else "OVER"
        return (
            f"Target process: {self.pss / 1e6:.0f} MB (PSS), {verdict} {self.bound / 1e6:.0f} MB = weights "
            f"{self.weights / 1e6:.0f} + KV cache {self.kv_cache / 1e6:.0f} + {ALLOWANCE_BYTES / 1e6:.0f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return figures and verdict as JSON types."""
        return {**asdict(self), "bound": self.bound, "passed": self.pss <= self.bound}


def measure_target(server_pid: int, source: ModelSource, kv_cache_bytes: int) -> TargetMemory:
    """Measure the target among the processes of ``outrider serve``.

    Raises:
        RuntimeError: No process of that name is there.
    """
    targets = [pid for pid, command in named_descendants(server_pid) if _is_target(command)]
    if not targets:
        raise RuntimeError(f"process {server_pid} has no descendant that is a target replica")
    weights = sum(file.stat().st_size for file in source.path.glob("*.safetensors"))
    return TargetMemory(max(map(pss_bytes, targets)), weights, kv_cache_bytes)


def _is_target(command: str) -> bool:
    """Ray names a Serve replica's process ``ray::ServeReplica:<application>:<deployment>``."""
    return command.startswith("ray::ServeReplica:") and ":Target" in command
