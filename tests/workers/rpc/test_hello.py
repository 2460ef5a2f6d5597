import pytest

from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity, new_incarnation
from workers.rpc.hello import MAX_NAME_CHARS, Peer, check_drafter_fits, hello_message, read_hello
from workers.rpc.stubs import drafting_pb2 as pb

TARGET = ModelIdentity("big", 1000, "abc", 4096, "bf16/tp1/cpu")


def test_a_hello_survives_the_wire():
    incarnation = new_incarnation()
    data = hello_message(TARGET, incarnation).SerializeToString()
    assert read_hello(pb.Hello.FromString(data)) == Peer(TARGET, incarnation)


def test_what_a_drafter_wants_to_see_survives_the_wire():
    identity = ModelIdentity("small", 1000, "abc", features=FeatureSpec((2, 5), 576, 512))
    data = hello_message(identity, 5).SerializeToString()
    assert read_hello(pb.Hello.FromString(data)).identity == identity


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (pb.FeatureSpec(size=4, window=4), "hello.features.layers"),
        (pb.FeatureSpec(layers=[0, 1], size=4, window=4), "hello.features.layers: must be positive"),
        (pb.FeatureSpec(layers=[2, 1], size=4, window=4), "hello.features.layers: must be positive and ascending"),
        (pb.FeatureSpec(layers=range(1, 99), size=4, window=4), "hello.features.layers"),
        (pb.FeatureSpec(layers=[1], window=4), "hello.features.size"),
        (pb.FeatureSpec(layers=[1], size=4), "hello.features.window"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_field(spec, field):
    message = hello_message(TARGET, 5)
    message.features.CopyFrom(spec)
    with pytest.raises(ProtocolError, match=field):
        read_hello(message)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"protocol_version": 1}, "hello.protocol_version"),
        ({"incarnation": 0}, "hello.incarnation"),
        ({"model": "m" * (MAX_NAME_CHARS + 1)}, "hello.model"),
        ({"tokenizer_fingerprint": "m" * (MAX_NAME_CHARS + 1)}, "hello.tokenizer_fingerprint"),
        ({"numerics_class": "m" * (MAX_NAME_CHARS + 1)}, "hello.numerics_class"),
    ],
)
def test_a_bad_hello_is_refused_by_field(change, field):
    message = hello_message(TARGET, 5)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ProtocolError, match=field):
        read_hello(message)


def test_another_version_is_told_what_to_do():
    with pytest.raises(ProtocolError, match="run the same release"):
        read_hello(pb.Hello(incarnation=1))


def test_a_drafter_needs_the_targets_tokenizer():
    check_drafter_fits(ModelIdentity("small", 1000, "abc"), TARGET)
    check_drafter_fits(ModelIdentity("padded head", 1024, "abc"), TARGET)
    check_drafter_fits(ModelIdentity("ngram", 0, ""), TARGET)
    with pytest.raises(ProtocolError, match=r"'other'.*'big'.*choose a draft model"):
        check_drafter_fits(ModelIdentity("other", 1000, "xyz"), TARGET)


def test_a_target_without_a_vocabulary_is_refused():
    with pytest.raises(ProtocolError, match=r"hello\.vocab_size"):
        check_drafter_fits(ModelIdentity("ngram", 0, ""), ModelIdentity("big", 0, "abc"))
