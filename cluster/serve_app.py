"""Turn settings into a Ray Serve application: one ingress, one target and one drafter deployment.

``import_path: cluster.serve_app:build`` in a Serve config, with the settings as ``args``. Importing this
module does not import torch: it runs in Serve's controller and in the command line as well.
"""

from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.serve import Application

from cluster.actors.drafter import Drafter
from cluster.actors.ingress import Ingress
from cluster.actors.replica import UNBOUNDED
from cluster.actors.target import Target
from cluster.autoscaling.settings import Scaling
from cluster.config import ClusterConfig, Placement
from cluster.config_loader import parse_config

HEALTH = {"health_check_period_s": 2.0, "health_check_timeout_s": 10.0}
"""Serve replaces a replica after three checks in a row that fail or are not answered: within 36 s where a process is
stopped altogether."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}
STOP_POLL_S = 0.2
STOP_MARGIN_S = 10.0
"""What a replica gets to stop beyond the time in which its requests may finish."""
TARGET_POLICY = "cluster.autoscaling.policies:TargetPolicy"
DRAFTER_POLICY = "cluster.autoscaling.policies:DrafterPolicy"
SCALING_LOOK_BACK_S = 20.0
"""Over how long the replicas' reports are averaged: two of Serve's periods of reporting."""
LEAST_CPU = 0.001
"""A bundle of a placement group may not be empty."""


def build(args: Mapping[str, Any]) -> Application:
    """Return the application that ``args``, a mapping like the settings file, describes.

    Raises:
        ConfigurationError: A key or value is wrong.
    """
    return build_application(parse_config(args))


def build_application(config: ClusterConfig) -> Application:
    """Return the application of validated settings. Ray must be connected: its GPUs are counted."""
    target_gpus, drafter_gpus = gpus_per_process(config, ray.cluster_resources().get("GPU", 0.0))
    drain_s = config.target.drain_timeout_s
    target = serve.deployment(Target, **_target_options(config, target_gpus))
    served_name = next(iter(config.http.api.served_model_names), "")
    members = [target.bind(config.target, config.scheduler, config.tls, served_name)]
    if config.drafters.enabled:
        drafter = serve.deployment(
            Drafter,
            ray_actor_options=actor_options(config.drafters, drafter_gpus),
            **_number(config.drafters.replicas, config.drafters.autoscaling, DRAFTER_POLICY),
            **_common(STOP_MARGIN_S),
        )
        members.append(drafter.bind(config.drafters, config.tls))
    ingress = serve.deployment(
        Ingress,
        num_replicas=config.http.replicas,
        ray_actor_options=actor_options(config.http, config.http.num_gpus or 0.0),
        max_surge_percent=100 if config.http.rollout_surge else 0,
        **_common(config.http.leave_notice_s + drain_s + STOP_MARGIN_S),
    )
    return ingress.bind(config.target.model, config.http, drain_s, config.tls, *members)


def gpus_per_process(config: ClusterConfig, available: float) -> tuple[float, float]:
    """Return the GPUs that each target rank and each drafter reserve on a cluster with ``available`` of them.

    What is set is taken. A role on device ``cuda`` gets one. On ``auto`` a role gets one where there is one
    for each of its processes, the target first, and runs on the CPU otherwise.
    """
    target, drafters = config.target, config.drafters
    ranks = target.most_replicas * target.tp
    per_rank = _gpus(target, target.runner.device, ranks, available)
    if not drafters.computes:
        return per_rank, drafters.num_gpus or 0.0
    left = available - per_rank * ranks
    return per_rank, _gpus(drafters, drafters.runner.device, drafters.most_replicas, left)


def _gpus(placement: Placement, device: str, processes: int, available: float) -> float:
    if placement.num_gpus is not None:
        return placement.num_gpus
    wanted = device == "cuda" or (device == "auto" and available >= processes)
    return 1.0 if wanted else 0.0


def actor_options(placement: Placement, num_gpus: float) -> dict[str, Any]:
    """Return the Ray options that put one process where ``placement`` wants it."""
    options: dict[str, Any] = {"num_cpus": placement.num_cpus, "num_gpus": num_gpus}
    if placement.resources:
        options["resources"] = dict(placement.resources)
    if placement.labels:
        options["label_selector"] = dict(placement.labels)
    return options


def _target_options(config: ClusterConfig, num_gpus: float) -> dict[str, Any]:
    target = config.target
    options = _common(target.drain_timeout_s + STOP_MARGIN_S)
    options |= _number(target.replicas, target.autoscaling, TARGET_POLICY)
    options["max_surge_percent"] = 1 if target.rollout_surge else 0  # rounded up to one replica
    if target.tp == 1:
        return options | {"ray_actor_options": actor_options(target, num_gpus)}
    cpus = max(target.num_cpus, LEAST_CPU)
    rank_zero = actor_options(target.model_copy(update={"num_cpus": cpus, "labels": {}}), num_gpus)
    options |= {
        "ray_actor_options": rank_zero,
        "placement_group_bundles": [{"CPU": cpus, "GPU": num_gpus, **target.resources}] * target.tp,
        "placement_group_strategy": "STRICT_PACK",
    }
    if target.labels:
        options["placement_group_bundle_label_selector"] = [dict(target.labels)] * target.tp
    return options


def _number(replicas: int, scaling: Scaling | None, policy: str) -> dict[str, Any]:
    """Return Serve's options for a fixed number of replicas, or for one that a policy of ours decides."""
    if scaling is None:
        return {"num_replicas": replicas}
    rules = scaling.model_dump()
    return {
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
            "look_back_period_s": SCALING_LOOK_BACK_S,
            "policy": {"policy_function": policy, "policy_kwargs": rules},
        }
    }


def _common(stop_within_s: float) -> dict[str, Any]:
    return {
        "max_ongoing_requests": UNBOUNDED,
        "graceful_shutdown_wait_loop_s": STOP_POLL_S,
        "graceful_shutdown_timeout_s": stop_within_s,
        "logging_config": dict(QUIET),
        **HEALTH,
    }
