"""Protobuf messages that hypothesis makes up: any field with any value that its type can hold, and bytes gone wrong."""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

Field = FieldDescriptor


def _unsigned(bits: int) -> st.SearchStrategy[int]:
    top = 2**bits - 1
    return st.one_of(st.integers(0, 300), st.sampled_from([top, top // 2, top // 2 + 1]), st.integers(0, top))


def _signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    Field.TYPE_UINT32: _unsigned(32),
    Field.TYPE_FIXED32: _unsigned(32),
    Field.TYPE_UINT64: _unsigned(64),
    Field.TYPE_FIXED64: _unsigned(64),
    Field.TYPE_INT32: _signed(32),
    Field.TYPE_SINT32: _signed(32),
    Field.TYPE_INT64: _signed(64),
    Field.TYPE_SINT64: _signed(64),
    Field.TYPE_DOUBLE: st.one_of(st.floats(), st.floats(0, 1)),
    Field.TYPE_FLOAT: st.floats(width=32),
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_STRING: st.text(max_size=20),
    Field.TYPE_BYTES: st.binary(max_size=48),
    Field.TYPE_ENUM: st.integers(0, 12),
}


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type)
    return _SCALARS[field.type]


def _field(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
        return st.dictionaries(_value(key), _value(value), max_size=4)
    value = _value(field)
    return st.lists(value, max_size=5) if field.is_repeated else value


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """Return a message; each field is set about as often as not."""
    fields = {f.name: draw(_field(f)) for f in descriptor.fields if draw(st.booleans())}
    return GetMessageClass(descriptor)(**fields)


@st.composite
def spoiled(draw: st.DrawFn, descriptor: Descriptor) -> bytes:
    """Return the bytes of a message with some of them changed, lost, or repeated; or bytes of no message."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(messages(descriptor)).SerializeToString())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                data[at:at] = data[: draw(st.integers(0, 16))]
    return bytes(data)
