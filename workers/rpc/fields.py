"""Fields that both services share, and the checks that each value passes when it arrives."""

from collections.abc import Iterable
from collections.abc import Sequence as Seq

from workers.contract.errors import InvalidParameterError, ProtocolError
from workers.contract.sampling_params import SamplingParams
from workers.rpc.stubs import drafting_pb2 as pb


def sampling_message(params: SamplingParams) -> pb.SamplingParams:
    """Return sampling parameters for the wire."""
    return pb.SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        seed=params.seed,
    )


def read_sampling(message: pb.SamplingParams, where: str) -> SamplingParams:
    """Return sampling parameters that are within bounds; ProtocolError names the field that is not."""
    try:
        return SamplingParams(
            temperature=message.temperature,
            top_k=message.top_k,
            top_p=message.top_p,
            min_p=message.min_p,
            seed=message.seed,
        )
    except InvalidParameterError as error:
        raise ProtocolError(f"{where}.{error.param}: {error.message}") from error


def read_tokens(tokens: Seq[int], where: str, vocab_size: int) -> list[int]:
    """Return token ids of which each is in the vocabulary; ProtocolError names the first that is not."""
    ids = list(tokens)
    if ids and max(ids) >= vocab_size:
        bad = next(i for i, token in enumerate(ids) if token >= vocab_size)
        raise ProtocolError(f"{where}[{bad}]: {ids[bad]} is no token id of a vocabulary of {vocab_size}")
    return ids


def check_tokens(param: str, tokens: Iterable[int], vocab_size: int) -> None:
    """Raise InvalidParameterError where a request has a token id that the vocabulary does not have."""
    largest = max(tokens, default=0)
    if largest >= vocab_size:
        raise InvalidParameterError(param, f"token ids must lie between 0 and {vocab_size - 1}, got {largest}")


def check_range(where: str, value: int, low: int, high: int, unit: str = "") -> None:
    """Raise ProtocolError unless ``low <= value <= high``; ``where`` is the field's path in the message."""
    if not low <= value <= high:
        raise ProtocolError(f"{where}: must be {low} to {high}{unit and ' ' + unit}, got {value}")
