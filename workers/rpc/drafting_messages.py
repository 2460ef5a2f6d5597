"""The Drafting protocol's messages as contract values and back; whatever arrives is validated field by field.

Within one request opens come before commits before closes, and a sender puts at most one of them per
sequence into a message, so that no order is lost. An ``Open`` of a sequence that is open starts it anew.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.contract.draft import (
    MAX_AHEAD,
    MAX_DRAFT_LENGTH,
    Busy,
    CloseDraft,
    CommitDraft,
    DraftBlock,
    DraftOp,
    DraftReply,
    OpenDraft,
    Outcome,
    UnknownSequence,
)
from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.rpc.fields import check_range, read_sampling, read_tokens, sampling_message
from workers.rpc.stubs import drafting_pb2 as pb

MAX_OUTCOMES = 64
"""Outcomes per block: three verdicts at each of 16 positions, and some to spare."""
MAX_SALT_CHARS = 256
MAX_UINT32 = 2**32 - 1
MAX_SEQUENCE_TOKENS = 2**20
"""Bound of a sequence's length where the target does not say one; 5 MiB on the wire."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the token ids and lengths on one stream may be: the target's vocabulary and context."""

    vocab_size: int
    max_tokens: int
    features: FeatureSpec | None = None
    """The states that the drafter asked for."""

    @classmethod
    def of(cls, target: ModelIdentity, features: FeatureSpec | None = None) -> "Limits":
        """Return the limits of a stream of this target to a drafter that wants ``features``."""
        known = 0 < target.max_model_len < MAX_SEQUENCE_TOKENS
        return cls(target.vocab_size, target.max_model_len if known else MAX_SEQUENCE_TOKENS, features)


def request_message(ops: Iterable[DraftOp]) -> pb.DraftRequest:
    """Return one message that carries ``ops``, at most one per sequence."""
    message = pb.DraftRequest()
    for op in ops:
        match op:
            case OpenDraft():
                opened = message.opens.add(
                    seq_id=op.seq_id,
                    draft_length=op.draft_length,
                    salt=op.salt,
                    ahead=op.ahead,
                    features=op.features,
                )
                opened.tokens.extend(op.tokens)
                opened.sampling.CopyFrom(sampling_message(op.params))
            case CommitDraft():
                commit = message.commits.add(
                    seq_id=op.seq_id,
                    base_len=op.base_len,
                    draft_length=op.draft_length,
                    ahead=op.ahead,
                    features=op.features,
                )
                commit.tokens.extend(op.tokens)
            case CloseDraft():
                message.closes.append(op.seq_id)
    return message


def read_request(message: pb.DraftRequest, limits: Limits) -> list[DraftOp]:
    """Return what a target asks for; ProtocolError names the first field that is wrong."""
    if message.HasField("hello"):
        raise ProtocolError("hello: only the first message of a stream may carry one")
    ops: list[DraftOp] = [_read_open(m, f"opens[{i}]", limits) for i, m in enumerate(message.opens)]
    ops += [_read_commit(m, f"commits[{i}]", limits) for i, m in enumerate(message.commits)]
    ops += [CloseDraft(seq_id) for seq_id in message.closes]
    return ops


def response_message(replies: Iterable[DraftReply]) -> pb.DraftResponse:
    """Return one message that carries ``replies``."""
    message = pb.DraftResponse()
    for reply in replies:
        match reply:
            case DraftBlock():
                block = message.blocks.add(
                    seq_id=reply.seq_id, ahead_of=reply.ahead_of, drafting_us=min(reply.drafting_us, MAX_UINT32)
                )
                for outcome in reply.outcomes:
                    block.outcomes.add(
                        base_len=outcome.base_len,
                        base_hash=outcome.base_hash,
                        continuation=outcome.continuation,
                    )
            case UnknownSequence():
                message.unknown.append(reply.seq_id)
            case Busy():
                message.busy.append(reply.seq_id)
    return message


def read_response(message: pb.DraftResponse, limits: Limits, drafter: str = "") -> list[DraftReply]:
    """Return what the drafter of that name answers; ProtocolError names the first field that is wrong."""
    if message.HasField("welcome"):
        raise ProtocolError("welcome: only the first message of a stream may carry one")
    replies: list[DraftReply] = [UnknownSequence(seq_id) for seq_id in message.unknown]
    replies += [Busy(seq_id) for seq_id in message.busy]
    replies += [_read_block(block, f"blocks[{i}]", limits, drafter) for i, block in enumerate(message.blocks)]
    return replies


def _read_open(message: pb.OpenSequence, where: str, limits: Limits) -> OpenDraft:
    check_range(f"{where}.tokens", len(message.tokens), 1, limits.max_tokens, "tokens")
    check_range(f"{where}.salt", len(message.salt), 0, MAX_SALT_CHARS, "characters")
    check_range(f"{where}.draft_length", message.draft_length, 0, MAX_DRAFT_LENGTH)
    check_range(f"{where}.ahead", message.ahead, 0, MAX_AHEAD)
    return OpenDraft(
        seq_id=message.seq_id,
        tokens=read_tokens(message.tokens, f"{where}.tokens", limits.vocab_size),
        params=read_sampling(message.sampling, f"{where}.sampling"),
        draft_length=message.draft_length,
        salt=message.salt,
        ahead=message.ahead,
        features=_read_features(message.features, f"{where}.features", len(message.tokens), limits),
    )


def _read_commit(message: pb.CommitTokens, where: str, limits: Limits) -> CommitDraft:
    check_range(f"{where}.base_len", message.base_len, 1, limits.max_tokens)
    check_range(f"{where}.tokens", len(message.tokens), 0, limits.max_tokens - message.base_len, "tokens")
    check_range(f"{where}.draft_length", message.draft_length, 0, MAX_DRAFT_LENGTH)
    check_range(f"{where}.ahead", message.ahead, 0, MAX_AHEAD)
    return CommitDraft(
        seq_id=message.seq_id,
        base_len=message.base_len,
        tokens=read_tokens(message.tokens, f"{where}.tokens", limits.vocab_size),
        draft_length=message.draft_length,
        ahead=message.ahead,
        features=_read_features(message.features, f"{where}.features", message.base_len + len(message.tokens), limits),
    )


def _read_features(data: bytes, where: str, num_tokens: int, limits: Limits) -> bytes:
    if not data:
        return data
    if limits.features is None:
        raise ProtocolError(f"{where}: {len(data)} bytes, but this drafter asked for none")
    rows, rest = divmod(len(data), limits.features.row_bytes)
    if rest:
        raise ProtocolError(f"{where}: {len(data)} bytes are no whole rows of {limits.features.row_bytes}")
    check_range(where, rows, 1, num_tokens, "rows, at most one per token,")
    return data


def _read_block(message: pb.DraftBlock, where: str, limits: Limits, drafter: str) -> DraftBlock:
    check_range(f"{where}.ahead_of", message.ahead_of, 0, limits.max_tokens)
    outcomes = tuple(_read_outcomes(message, where, limits))
    return DraftBlock(message.seq_id, outcomes, message.ahead_of, message.drafting_us, drafter)


def _read_outcomes(block: pb.DraftBlock, where: str, limits: Limits) -> Iterator[Outcome]:
    most = MAX_OUTCOMES if block.ahead_of else 1  # an order is about one text, and so is its answer
    check_range(f"{where}.outcomes", len(block.outcomes), 0, most, "outcomes")
    for i, message in enumerate(block.outcomes):
        at = f"{where}.outcomes[{i}]"
        check_range(f"{at}.base_len", message.base_len, 1, limits.max_tokens)
        check_range(f"{at}.continuation", len(message.continuation), 0, MAX_DRAFT_LENGTH, "tokens")
        tokens = read_tokens(message.continuation, f"{at}.continuation", limits.vocab_size)
        yield Outcome(message.base_len, message.base_hash, tuple(tokens))
