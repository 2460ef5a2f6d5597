"""The first message of a stream of either service: who is there, and whether the two can work together."""

from dataclasses import dataclass

from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.identity import PROTOCOL_VERSION, ModelIdentity
from workers.rpc.fields import check_range
from workers.rpc.stubs import drafting_pb2 as pb

MAX_NAME_CHARS = 1024
"""Bound of each string in a Hello."""
MAX_FEATURE_LAYERS = 64
MAX_FEATURE_SIZE = 2**17
MAX_FEATURE_WINDOW = 2**16


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a stream; a new incarnation is a restarted process that remembers nothing."""

    identity: ModelIdentity
    incarnation: int


def hello_message(identity: ModelIdentity, incarnation: int) -> pb.Hello:
    """Return what a process says of itself, as Hello or as Welcome."""
    message = pb.Hello(
        protocol_version=PROTOCOL_VERSION,
        incarnation=incarnation,
        model=identity.name,
        vocab_size=identity.vocab_size,
        tokenizer_fingerprint=identity.tokenizer_fingerprint,
        max_model_len=identity.max_model_len,
        numerics_class=identity.numerics_class,
    )
    if (spec := identity.features) is not None:
        message.features.CopyFrom(pb.FeatureSpec(layers=spec.layers, size=spec.size, window=spec.window))
    return message


def read_hello(message: pb.Hello) -> Peer:
    """Return who sent a Hello or Welcome; ProtocolError names what is wrong with it."""
    if message.protocol_version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"hello.protocol_version: the peer speaks version {message.protocol_version} and this process "
            f"{PROTOCOL_VERSION}; run the same release of outrider on both"
        )
    if message.incarnation == 0:
        raise ProtocolError("hello.incarnation: must be a random number, got 0")
    for name in ("model", "tokenizer_fingerprint", "numerics_class"):
        if len(getattr(message, name)) > MAX_NAME_CHARS:
            raise ProtocolError(f"hello.{name}: longer than {MAX_NAME_CHARS} characters")
    identity = ModelIdentity(
        name=message.model,
        vocab_size=message.vocab_size,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        max_model_len=message.max_model_len,
        numerics_class=message.numerics_class,
        features=_read_features(message.features) if message.HasField("features") else None,
    )
    return Peer(identity, message.incarnation)


def check_drafter_fits(drafter: ModelIdentity, target: ModelIdentity) -> None:
    """Raise ProtocolError where the drafter's token ids do not mean what the target's mean.

    An empty fingerprint is that of a drafter which copies ids without knowing what they stand for.
    """
    if target.vocab_size == 0:
        raise ProtocolError("hello.vocab_size: a target must say how many token ids it has, got 0")
    if drafter.tokenizer_fingerprint not in ("", target.tokenizer_fingerprint):
        raise ProtocolError(
            f"hello.tokenizer_fingerprint: drafter {drafter.name!r} has another tokenizer than target "
            f"{target.name!r} (vocabularies of {drafter.vocab_size} and {target.vocab_size} ids); choose a "
            f"draft model of the target's family, or the drafter `ngram`, which works with any"
        )


def _read_features(message: pb.FeatureSpec) -> FeatureSpec:
    layers = tuple(message.layers)
    check_range("hello.features.layers", len(layers), 1, MAX_FEATURE_LAYERS, "layers")
    if list(layers) != sorted(set(layers)) or layers[0] < 1:
        raise ProtocolError(f"hello.features.layers: must be positive and ascending, got {list(layers)}")
    check_range("hello.features.size", message.size, 1, MAX_FEATURE_SIZE)
    check_range("hello.features.window", message.window, 1, MAX_FEATURE_WINDOW)
    return FeatureSpec(layers, message.size, message.window)
