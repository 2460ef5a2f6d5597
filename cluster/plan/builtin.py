"""Profiles that come with Outrider: derived from data sheets, not measured.

A step reads all weights once, so it takes no less than their bytes over the memory bandwidth; each position costs two
floating-point operations per weight; each token of context its keys and values. What hardware reaches of its data
sheet is assumed, and so is how often drafts are right. Good for comparing shapes of a fleet, not for promises:
`outrider plan --measure` and profiles of your own are for those.
"""

from dataclasses import dataclass
from typing import Any

from cluster.plan.profile import DraftCosts, HardwareProfile, StepCosts
from cluster.scheduler.settings import SchedulerSettings
from workers.contract.errors import ConfigurationError

BANDWIDTH_REACHED = 0.7
COMPUTE_REACHED = 0.5
OVERHEAD_MS, OVERHEAD_PER_ROW_MS = 0.2, 0.03
"""Our own planning and packing, as `make bench-overhead` shows it on a server's core."""
ROUND_TRIP_MS = 0.5
"""Between machines of one rack, gRPC at both ends included."""
ACCEPTANCE = (0.75, 0.72, 0.7, 0.68)
"""Assumed of a drafter of the target's own family on chat; measure yours."""
MS = 1e3


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as its data sheet has it: dense bf16, no sparsity."""

    name: str
    bytes_per_s: float
    flops: float


@dataclass(frozen=True, slots=True)
class Model:
    """A model in bf16."""

    name: str
    parameters: float
    kv_bytes_per_token: float


H100 = Device("H100 SXM", 3.35e12, 989e12)
L40S = Device("L40S", 864e9, 362e12)
L4 = Device("L4", 300e9, 121e12)
LLAMA_70B = Model("Llama 3 70B", 70.6e9, 80 * 2 * 8 * 128 * 2)
LLAMA_8B = Model("Llama 3 8B", 8.03e9, 32 * 2 * 8 * 128 * 2)
LLAMA_1B = Model("Llama 3.2 1B", 1.24e9, 16 * 2 * 8 * 64 * 2)


def derived(target: Model, device: Device, count: int, drafter: Model, draft_device: Device) -> HardwareProfile:
    """Return the profile of ``target`` on ``count`` devices and ``drafter`` on one of its own."""
    weights, work = _pass_ms(target, device, count)
    draft_weights, draft_work = _pass_ms(drafter, draft_device, 1)
    return HardwareProfile(
        name=f"{target.name} on {count} x {device.name}, {drafter.name} on {draft_device.name}",
        origin=f"derived from data-sheet bandwidth and FLOPs, not measured: bf16, {BANDWIDTH_REACHED:.0%} of the "
        f"bandwidth and {COMPUTE_REACHED:.0%} of the FLOPs reached; acceptance and round trip are assumptions",
        target=StepCosts(
            fixed_ms=weights,
            per_position_ms=work,
            per_context_ms=target.kv_bytes_per_token / (count * device.bytes_per_s * BANDWIDTH_REACHED) * MS,
            roofline=True,
            plans_ahead=True,
            overhead_ms=OVERHEAD_MS,
            overhead_per_row_ms=OVERHEAD_PER_ROW_MS,
        ),
        drafter=DraftCosts(fixed_ms=draft_weights, per_row_ms=draft_work),
        round_trip_ms=ROUND_TRIP_MS,
        acceptance=ACCEPTANCE,
        scheduler=SchedulerSettings(max_running=256, max_waiting=4096, max_tokens_per_step=2048, draft_wait_ms=1000),
    )


def _pass_ms(model: Model, device: Device, count: int) -> tuple[float, float]:
    """Return the milliseconds of a pass over the weights, and of a position's arithmetic."""
    weights = 2 * model.parameters / (count * device.bytes_per_s * BANDWIDTH_REACHED)
    work = 2 * model.parameters / (count * device.flops * COMPUTE_REACHED)
    return weights * MS, work * MS


BUILTIN: dict[str, tuple[Any, ...]] = {
    "70b-h100x4-1b-l40s": (LLAMA_70B, H100, 4, LLAMA_1B, L40S),
    "70b-h100x4-1b-l4": (LLAMA_70B, H100, 4, LLAMA_1B, L4),
    "8b-h100-1b-l40s": (LLAMA_8B, H100, 1, LLAMA_1B, L40S),
}
DEFAULT = "70b-h100x4-1b-l40s"


def builtin(name: str) -> HardwareProfile:
    """Return a built-in profile.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if name not in BUILTIN:
        raise ConfigurationError(
            f"there is no profile {name!r}: give a file, or one of {', '.join(BUILTIN)} that are built in"
        )
    return derived(*BUILTIN[name])
