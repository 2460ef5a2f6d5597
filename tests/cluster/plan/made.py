"""Figures and profiles made by hand."""

from cluster.plan.fleet import FleetFigures
from cluster.plan.profile import HardwareProfile, parse_profile


def profile(**changes) -> HardwareProfile:
    """Steps of 20 ms whatever they hold, exact drafters' times, no jitter, no overhead."""
    values = {
        "target": {"fixed_ms": 20.0},
        "drafter": {"fixed_ms": 0.5},
        "jitter": 0.0,
        "acceptance": [0.8],
        "prompt_tokens": 1,
        "answer_tokens": 100,
        "scheduler": {"draft_wait_ms": 1000, "max_running": 256, "max_waiting": 4096, "max_tokens_per_step": 4096},
    }
    return parse_profile({**values, **changes})


def fleet(targets: int = 1, drafters: int = 0, **changes) -> FleetFigures:
    """A fleet's figures."""
    values = {
        "targets": targets,
        "drafters": drafters,
        "goodput": 1000.0,
        "ttft": {"p50": 0.05, "p95": 0.1},
        "itl": {"p50": 0.02, "p95": 0.03},
        "target_idle": 0.0,
        "drafter_busy": 0.5,
        "ways": {"plain": 1.0},
        "acceptance_length": None,
        "keeps_up": True,
        "tokens": 1000,
        "seconds": 1.0,
        "cost_per_million": None,
    }
    return FleetFigures.model_validate({**values, **changes})
