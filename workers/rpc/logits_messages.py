"""What is done to logits, and what is read off them, on the wire: processors, grammars, log-probabilities."""

import math
from collections.abc import Sequence as Seq

from workers.contract.errors import InvalidParameterError, ProtocolError
from workers.contract.logprobs import MAX_LOGPROBS, TokenLogprobs
from workers.contract.processing import NEUTRAL, Grammar, GrammarKind, ProcessorParams
from workers.rpc.fields import check_range, check_tokens
from workers.rpc.stubs import generation_pb2 as pb

_KINDS = {
    GrammarKind.JSON_SCHEMA: pb.Grammar.KIND_JSON_SCHEMA,
    GrammarKind.REGEX: pb.Grammar.KIND_REGEX,
    GrammarKind.LARK: pb.Grammar.KIND_LARK,
}
_KINDS_FROM_PROTO = {number: kind for kind, number in _KINDS.items()}


def processors_message(params: ProcessorParams) -> pb.LogitsProcessors | None:
    """Return the message for processors, None where they change nothing."""
    if params.neutral:
        return None
    return pb.LogitsProcessors(
        logit_bias=params.logit_bias,
        allowed_token_ids=sorted(params.allowed_token_ids),
        repetition_penalty=params.repetition_penalty,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        min_tokens=params.min_tokens,
        banned=[pb.TokenIds(ids=ids) for ids in params.banned],
    )


def read_processors(submit: pb.Submit, vocab_size: int) -> ProcessorParams:
    """Return a request's processors; InvalidParameterError names what is out of range."""
    if not submit.HasField("processors"):
        return NEUTRAL
    message = submit.processors
    check_tokens("logit_bias", message.logit_bias, vocab_size)
    check_tokens("allowed_token_ids", message.allowed_token_ids, vocab_size)
    for sequence in message.banned:
        check_tokens("banned", sequence.ids, vocab_size)
    return ProcessorParams(
        logit_bias=dict(message.logit_bias),
        allowed_token_ids=frozenset(message.allowed_token_ids),
        repetition_penalty=message.repetition_penalty,
        frequency_penalty=message.frequency_penalty,
        presence_penalty=message.presence_penalty,
        min_tokens=message.min_tokens,
        banned=tuple(tuple(sequence.ids) for sequence in message.banned),
    )


def grammar_message(grammar: Grammar | None) -> pb.Grammar | None:
    """Return the message for a grammar."""
    return None if grammar is None else pb.Grammar(kind=_KINDS[grammar.kind], source=grammar.source)


def read_grammar(submit: pb.Submit) -> Grammar | None:
    """Return a request's grammar, not yet compiled; InvalidParameterError says what is wrong with it."""
    if not submit.HasField("grammar"):
        return None
    kind = _KINDS_FROM_PROTO.get(submit.grammar.kind)
    if kind is None:
        raise InvalidParameterError("response_format", f"the grammar's kind {submit.grammar.kind} is not known")
    return Grammar(kind, submit.grammar.source)


def read_count(submit: pb.Submit, name: str) -> int | None:
    """Return how many alternatives are wanted, None for no log-probabilities at all."""
    if not submit.HasField(name):  # type: ignore[arg-type]
        return None
    count: int = getattr(submit, name)
    if count > MAX_LOGPROBS:
        raise InvalidParameterError(name, f"at most {MAX_LOGPROBS} alternatives are possible, got {count}")
    return count


def logprobs_message(position: TokenLogprobs) -> pb.TokenLogprobs:
    """Return the message for one position."""
    return pb.TokenLogprobs(
        token=position.token,
        logprob=position.logprob,
        rank=position.rank,
        top_tokens=[token for token, _ in position.top],
        top_logprobs=[logprob for _, logprob in position.top],
    )


def read_logprobs(messages: Seq[pb.TokenLogprobs], where: str, vocab_size: int) -> tuple[TokenLogprobs, ...]:
    """Return positions that make sense; ProtocolError names the field that does not."""
    return tuple(_read_position(message, where, vocab_size) for message in messages)


def _read_position(message: pb.TokenLogprobs, where: str, vocab_size: int) -> TokenLogprobs:
    check_range(f"{where}.top_tokens", len(message.top_tokens), 0, MAX_LOGPROBS, "entries")
    if len(message.top_logprobs) != len(message.top_tokens):
        raise ProtocolError(f"{where}.top_logprobs: {len(message.top_logprobs)} for {len(message.top_tokens)} tokens")
    check_range(where, max((message.token, *message.top_tokens)), 0, vocab_size - 1)
    if any(math.isnan(value) or value > 0 for value in (message.logprob, *message.top_logprobs)):
        raise ProtocolError(f"{where}: a log-probability is above 0 or not a number")
    top = tuple(zip(message.top_tokens, message.top_logprobs, strict=True))
    return TokenLogprobs(message.token, message.logprob, message.rank, top)
