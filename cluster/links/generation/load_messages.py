"""EngineLoad on the wire, and the sum over several targets."""

import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import fields
from itertools import zip_longest
from typing import Any

from cluster.scheduler.load import EngineLoad
from workers.contract.errors import ProtocolError
from workers.rpc.hello import MAX_NAME_CHARS
from workers.rpc.stubs import generation_pb2 as pb

MAX_LIST = 64
"""Longest per-position or per-source list that a peer may send."""

GAUGES = (
    "running",
    "waiting",
    "kv_usage",
    "drafters_connected",
    "goodput_plain",
    "goodput_drafted",
    "round_trip_seconds",
)
SUMMED = ("running", "waiting", "goodput_plain", "goodput_drafted")
"""Fields that tell the present, and those of them that add up; all others only grow while a process lives."""


def load_to_proto(load: EngineLoad) -> pb.TargetLoad:
    """Return the message for a load; its fields have the same names."""
    return pb.TargetLoad(**{field.name: getattr(load, field.name) for field in fields(load)})


def load_from_proto(message: pb.TargetLoad) -> EngineLoad:
    """Return the load that a target reported, or raise ProtocolError where its numbers make no sense."""
    values: dict[str, Any] = {}
    for field in fields(EngineLoad):
        value = getattr(message, field.name)
        if isinstance(value, int | float):
            values[field.name] = _finite(field.name, value)
        elif len(value) > MAX_LIST:
            raise ProtocolError(f"load.{field.name} has {len(value)} entries, at most {MAX_LIST} make sense")
        else:
            values[field.name] = tuple(value)
    return EngineLoad(**values)


def drafters_from_proto(message: Mapping[str, int]) -> dict[str, int]:
    """Return how many drafters of each name a target reaches, or raise ProtocolError where that makes no sense."""
    drafters = dict(message)
    if len(drafters) > MAX_LIST or any(len(name) > MAX_NAME_CHARS for name in drafters):
        raise ProtocolError(f"drafters has {len(drafters)} names: at most {MAX_LIST} short ones make sense")
    return drafters


def sum_loads(live: Iterable[EngineLoad], gone: Iterable[EngineLoad]) -> EngineLoad:
    """Add up loads: counters of all, queues and expectations of the living.

    KV usage, the number of drafters and the round trip are those of the fullest, the best connected and the
    farthest living target, because a sum of either would mean nothing.
    """
    living = list(live)
    total: dict[str, Any] = {field.name: field.default for field in fields(EngineLoad)}
    for load in (*living, *gone):
        for name in total:
            if name not in GAUGES:
                total[name] = _add(total[name], getattr(load, name))
    return EngineLoad(
        **{
            **total,
            **{name: sum(getattr(load, name) for load in living) for name in SUMMED},
            "kv_usage": max((load.kv_usage for load in living), default=0.0),
            "round_trip_seconds": max((load.round_trip_seconds for load in living), default=0.0),
            "drafters_connected": max((load.drafters_connected for load in living), default=0),
        }
    )


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise ProtocolError(f"load.{name} is {value}")
    return value


def _add(left: float | Seq[int], right: float | Seq[int]) -> float | Seq[int]:
    if isinstance(left, Seq) and isinstance(right, Seq):
        return tuple(a + b for a, b in zip_longest(left, right, fillvalue=0))
    if isinstance(left, Seq) or isinstance(right, Seq):
        raise TypeError("a counter is a number or a list of numbers, not both")
    return left + right
