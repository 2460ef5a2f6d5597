"""Ways in which a drafter's messages are wrong. Each makes a change for a `MessageProxy` to apply."""

import random
from collections.abc import Callable

from tests.faults.message_proxy import Change
from workers.contract.draft import MAX_DRAFT_LENGTH
from workers.rpc.stubs import drafting_pb2 as pb


def every_outcome(lie: Callable[[pb.Outcome], None]) -> Change:
    """Change each outcome of each block."""

    def change(message: bytes) -> list[bytes]:
        response = pb.DraftResponse.FromString(message)
        for block in response.blocks:
            for outcome in block.outcomes:
                lie(outcome)
        return [response.SerializeToString()]

    return change


def wrong_tokens(vocab_size: int) -> Change:
    def lie(outcome: pb.Outcome) -> None:
        outcome.continuation[:] = [(token + 1) % vocab_size for token in outcome.continuation]

    return every_outcome(lie)


def out_of_vocabulary(vocab_size: int) -> Change:
    return every_outcome(lambda outcome: outcome.continuation.append(vocab_size))


def too_long() -> Change:
    return every_outcome(lambda outcome: outcome.continuation.extend([1] * (MAX_DRAFT_LENGTH + 1)))


def wrong_hash() -> Change:
    def lie(outcome: pb.Outcome) -> None:
        outcome.base_hash ^= 1 << 40

    return every_outcome(lie)


def wrong_length() -> Change:
    def lie(outcome: pb.Outcome) -> None:
        outcome.base_len += 1

    return every_outcome(lie)


def no_length() -> Change:
    def lie(outcome: pb.Outcome) -> None:
        outcome.base_len = 0

    return every_outcome(lie)


def duplicate() -> Change:
    """Send every message twice."""
    return lambda message: [message, message]


def reorder(seed: int = 0) -> Change:
    """Let messages overtake each other, up to four at a time."""
    draw, held = random.Random(seed), list[bytes]()

    def change(message: bytes) -> list[bytes]:
        if pb.DraftResponse.FromString(message).HasField("welcome"):
            return [message]
        held.append(message)
        if len(held) < 4 and draw.random() < 0.7:
            return []
        sent = draw.sample(held, len(held))
        held.clear()
        return sent

    return change


def replay() -> Change:
    """Send old messages again between new ones, those of sequences that have long ended among them."""
    draw, seen = random.Random(1), list[bytes]()

    def change(message: bytes) -> list[bytes]:
        if not pb.DraftResponse.FromString(message).blocks:
            return [message]
        seen.append(message)
        return [message, draw.choice(seen[-200:])]

    return change


def swallow() -> Change:
    """Answer nothing, and go on to tell of the load as if all were well."""

    def change(message: bytes) -> list[bytes]:
        response = pb.DraftResponse.FromString(message)
        response.ClearField("blocks")
        return [response.SerializeToString()]

    return change


def flood() -> Change:
    def change(message: bytes) -> list[bytes]:
        response = pb.DraftResponse.FromString(message)
        response.unknown.extend([2**63] * 100_000)
        return [response.SerializeToString()]

    return change


def garbage(seed: int = 0) -> Change:
    """Bytes that are no message at all."""
    draw = random.Random(seed)
    return lambda message: [draw.randbytes(len(message) + 20)]


def wrong_vocabulary() -> Change:
    def change(message: bytes) -> list[bytes]:
        response = pb.DraftResponse.FromString(message)
        if response.HasField("welcome"):
            response.welcome.tokenizer_fingerprint = "of another model"
        return [response.SerializeToString()]

    return change
