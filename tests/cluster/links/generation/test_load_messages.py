"""Loads on the wire and their sum."""

import math
from dataclasses import fields, replace

import pytest

from cluster.links.generation.load_messages import (
    GAUGES,
    drafters_from_proto,
    load_from_proto,
    load_to_proto,
    sum_loads,
)
from cluster.scheduler.load import EngineLoad
from workers.contract.errors import ProtocolError
from workers.rpc.stubs import generation_pb2 as pb

FULL = EngineLoad(
    **{
        field.name: (3, 2, 1) if field.default == () else 0.5 if isinstance(field.default, float) else i + 1
        for i, field in enumerate(fields(EngineLoad))
    }
)


def test_the_message_has_exactly_the_fields_of_the_load():
    assert {field.name for field in pb.TargetLoad.DESCRIPTOR.fields} == {field.name for field in fields(EngineLoad)}


def test_a_load_survives_the_wire():
    wire = load_to_proto(FULL).SerializeToString()
    assert load_from_proto(pb.TargetLoad.FromString(wire)) == FULL


@pytest.mark.parametrize("wrong", [{"kv_usage": math.nan}, {"busy_seconds": -1.0}, {"accepted_per_position": [1] * 65}])
def test_numbers_that_make_no_sense_break_the_protocol(wrong):
    with pytest.raises(ProtocolError, match=next(iter(wrong))):
        load_from_proto(pb.TargetLoad(**wrong))


def test_names_of_drafters_are_few_and_short():
    assert drafters_from_proto({"small": 1}) == {"small": 1}
    for names in ({str(i): 1 for i in range(65)}, {"x" * 1025: 1}):
        with pytest.raises(ProtocolError, match="drafters"):
            drafters_from_proto(names)


def test_counters_add_up_and_gauges_tell_of_the_living():
    fuller = replace(FULL, kv_usage=0.75, drafters_connected=40, accepted_per_position=(1, 1, 1, 1))
    gone = replace(FULL, running=99, waiting=99, kv_usage=1.0, drafters_connected=99)
    total = sum_loads([FULL, fuller], [gone])
    assert (total.running, total.waiting) == (2 * FULL.running, 2 * FULL.waiting)
    assert (total.kv_usage, total.drafters_connected) == (0.75, 40)
    assert total.accepted_per_position == (7, 5, 3, 1)
    for field in fields(EngineLoad):
        if field.name not in GAUGES and field.default != ():
            assert getattr(total, field.name) == 3 * getattr(FULL, field.name), field.name


def test_no_loads_sum_to_nothing():
    assert sum_loads([], []) == EngineLoad()
