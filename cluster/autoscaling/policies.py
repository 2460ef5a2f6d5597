"""Ray Serve's side of autoscaling: what its controller calls with what the replicas have recorded.

Serve ships this module to its controller by value, so it holds nothing but these classes.
"""

from collections.abc import Mapping
from typing import Any

from cluster.autoscaling.decisions import drafters_wanted, targets_wanted
from cluster.autoscaling.settings import DrafterScaling, TargetScaling

Decision = tuple[int, dict[str, Any]]
"""Replicas, and what the policy wants to remember: nothing."""


class TargetPolicy:
    """More targets where requests wait or KV caches fill, fewer where the rest would be calm."""

    def __init__(self, **scaling: Any) -> None:
        self._scaling = TargetScaling(**scaling)

    def __call__(self, context: Any) -> Decision:
        """Decide from Serve's AutoscalingContext; as it is where nobody has reported yet."""
        waiting, kv_usage = _reports(context, "waiting"), _reports(context, "kv_usage")
        if not waiting or not kv_usage:
            return context.target_num_replicas, {}
        mean = sum(kv_usage.values()) / len(kv_usage)
        return targets_wanted(context.target_num_replicas, sum(waiting.values()), mean, self._scaling), {}


class DrafterPolicy:
    """More drafters where sequences queue for them and targets wait, fewer where nobody does."""

    def __init__(self, **scaling: Any) -> None:
        self._scaling = DrafterScaling(**scaling)

    def __call__(self, context: Any) -> Decision:
        """Decide from Serve's AutoscalingContext; as it is where nobody has reported yet."""
        queued, bubbles = _reports(context, "queued"), _reports(context, "target_bubble")
        if not queued:
            return context.target_num_replicas, {}
        bubble = max(bubbles.values(), default=0.0)
        return drafters_wanted(context.target_num_replicas, sum(queued.values()), bubble, self._scaling), {}


def _reports(context: Any, name: str) -> Mapping[Any, float]:
    """Return a figure by replica, averaged over the time that Serve looks back."""
    found: Mapping[Any, float] = (context.aggregated_metrics or {}).get(name) or {}
    return found
