"""The Generation messages: what goes in comes out, and what makes no sense does not come in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract.draft import DraftSource
from workers.contract.errors import InvalidParameterError, OverloadedError, ProtocolError, UnavailableError
from workers.contract.logprobs import MAX_LOGPROBS, TokenLogprobs
from workers.contract.processing import Grammar, GrammarKind, ProcessorParams
from workers.contract.request import MAX_PRIORITY, FinishReason, GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.rpc.generation_messages import (
    rejection_from_proto,
    rejection_to_proto,
    submit_from_proto,
    submit_to_proto,
    tokens_from_proto,
    tokens_to_proto,
)
from workers.rpc.stubs import generation_pb2 as pb

VOCAB = 100
IDS = st.lists(st.integers(0, VOCAB - 1), max_size=8)

REQUESTS = st.builds(
    GenerationRequest,
    request_id=st.text(min_size=1, max_size=20),
    prompt=IDS,
    params=st.builds(
        SamplingParams,
        temperature=st.floats(0, 2),
        top_k=st.integers(0, 2**31 - 1),
        top_p=st.floats(0, 1, exclude_min=True),
        min_p=st.floats(0, 1),
        seed=st.integers(0, 2**64 - 1),
    ),
    stopping=st.builds(Stopping, st.integers(1, 1000), st.frozensets(st.integers(0, VOCAB - 1), max_size=4)),
    emitted=IDS,
    salt=st.text(max_size=10),
    max_draft_tokens=st.none() | st.integers(0, 16),
    tenant=st.text(max_size=10),
    priority=st.integers(-MAX_PRIORITY, MAX_PRIORITY),
    processors=st.builds(
        ProcessorParams,
        logit_bias=st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-100, 100), max_size=3),
        allowed_token_ids=st.frozensets(st.integers(0, VOCAB - 1), max_size=3),
        repetition_penalty=st.floats(0, 10, exclude_min=True),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        min_tokens=st.integers(0, 1000),
    ),
    grammar=st.none() | st.builds(Grammar, st.sampled_from(GrammarKind), st.text(max_size=10)),
    draft_from=st.sampled_from([None, DraftSource.DRAFTER, DraftSource.LOOKUP]),
    drafter=st.text(max_size=10),
    num_logprobs=st.none() | st.integers(0, MAX_LOGPROBS),
    num_prompt_logprobs=st.none() | st.integers(0, MAX_LOGPROBS),
)
LOGPROBS = st.builds(
    TokenLogprobs,
    st.integers(0, VOCAB - 1),
    st.floats(max_value=0, width=32, allow_nan=False),
    st.integers(1, VOCAB),
    st.lists(st.tuples(st.integers(0, VOCAB - 1), st.floats(max_value=0, width=32, allow_nan=False)), max_size=3).map(
        tuple
    ),
)


@given(REQUESTS)
def test_a_request_survives_the_wire(request):
    wire = submit_to_proto(request).SerializeToString()
    assert submit_from_proto(pb.Submit.FromString(wire), VOCAB) == request


@given(
    IDS,
    st.none() | st.sampled_from(FinishReason),
    st.integers(0, 1000),
    st.integers(0, 16),
)
def test_progress_survives_the_wire(tokens, finish, offset, drafts):
    sources = [DraftSource(i % len(DraftSource)) for i in range(len(tokens))]
    progress = Progress(
        "r", offset, tokens, tuple(sources), finish, "why", 1, drafts, 7, drafter="small", queued_s=0.25
    )
    wire = tokens_to_proto(progress).SerializeToString()
    assert tokens_from_proto(pb.Tokens.FromString(wire), VOCAB) == progress


@given(st.lists(LOGPROBS, max_size=3), st.lists(LOGPROBS, max_size=3))
def test_logprobs_survive_the_wire(logprobs, prompt_logprobs):
    tokens = [item.token for item in logprobs]
    sources = (DraftSource.NONE,) * len(tokens)
    progress = Progress("r", 0, tokens, sources, logprobs=tuple(logprobs), prompt_logprobs=tuple(prompt_logprobs))
    wire = tokens_to_proto(progress).SerializeToString()
    assert tokens_from_proto(pb.Tokens.FromString(wire), VOCAB) == progress


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"token": VOCAB}, "logprobs"),
        ({"token": 1, "logprob": 0.5}, "above 0"),
        ({"token": 1, "logprob": math.nan}, "not a number"),
        ({"token": 1, "top_tokens": [1]}, "top_logprobs"),
        ({"token": 1, "top_tokens": [1] * 21, "top_logprobs": [-1.0] * 21}, "top_tokens"),
        ({"token": 1, "top_tokens": [VOCAB], "top_logprobs": [-1.0]}, "logprobs"),
    ],
)
def test_logprobs_that_make_no_sense_are_refused(fields, why):
    message = pb.Tokens(request_id="r", tokens=[1], sources=b"\0", logprobs=[pb.TokenLogprobs(**fields)])
    with pytest.raises(ProtocolError, match=why):
        tokens_from_proto(message, VOCAB)


def test_logprobs_must_be_one_for_each_token():
    message = pb.Tokens(request_id="r", tokens=[1, 2], sources=b"\0\0", logprobs=[pb.TokenLogprobs(token=1)])
    with pytest.raises(ProtocolError, match="logprobs"):
        tokens_from_proto(message, VOCAB)


def good_submit(**fields) -> pb.Submit:
    message = submit_to_proto(GenerationRequest("r", [1], SamplingParams(), Stopping(4)))
    message.MergeFrom(pb.Submit(**fields))
    return message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [VOCAB]}, "prompt"),
        ({"emitted": [2**32 - 1]}, "emitted"),
        ({"stop_token_ids": [VOCAB]}, "stop_token_ids"),
        ({"stop_token_ids": [1] * 5000}, "stop_token_ids"),
        ({"salt": "s" * 300}, "salt"),
        ({"max_draft_tokens": 17}, "max_draft_tokens"),
        ({"processors": {"logit_bias": {VOCAB: 1.0}, "repetition_penalty": 1.0}}, "logit_bias"),
        ({"processors": {"logit_bias": {1: math.inf}, "repetition_penalty": 1.0}}, "logit_bias"),
        ({"processors": {"logit_bias": {1: 101.0}, "repetition_penalty": 1.0}}, "logit_bias"),
        ({"processors": {"allowed_token_ids": [VOCAB], "repetition_penalty": 1.0}}, "allowed_token_ids"),
        ({"processors": {"allowed_token_ids": [1] * 9, "repetition_penalty": math.nan}}, "repetition_penalty"),
        ({"processors": {"min_tokens": 3}}, "repetition_penalty"),
        ({"processors": {"repetition_penalty": 1.0, "presence_penalty": 2.1}}, "presence_penalty"),
        ({"processors": {"repetition_penalty": 1.0, "frequency_penalty": -3}}, "frequency_penalty"),
        ({"grammar": {"kind": 0, "source": "{}"}}, "response_format"),
        ({"grammar": {"kind": 1, "source": "x" * 70_000}}, "response_format"),
        ({"num_logprobs": 21}, "num_logprobs"),
        ({"draft_from": 9}, "draft_from"),
        ({"num_prompt_logprobs": 21}, "num_prompt_logprobs"),
        ({"tenant": "t" * 300}, "tenant"),
        ({"priority": MAX_PRIORITY + 1}, "priority"),
        ({"priority": -(2**31)}, "priority"),
        ({"sampling": {"temperature": math.nan}}, "sampling"),
        ({"sampling": {"temperature": 2.5}}, "sampling"),
    ],
)
def test_a_request_that_cannot_be_served_names_its_field(fields, param):
    with pytest.raises(InvalidParameterError) as caught:
        submit_from_proto(good_submit(**fields), VOCAB)
    assert caught.value.param == param


def test_a_request_without_max_tokens_or_sampling_is_refused():
    with pytest.raises(InvalidParameterError, match="max_tokens"):
        submit_from_proto(pb.Submit(request_id="r", prompt=[1], sampling={"top_p": 1.0}), VOCAB)
    with pytest.raises(InvalidParameterError, match="top_p"):
        submit_from_proto(pb.Submit(request_id="r", prompt=[1], max_tokens=1), VOCAB)


@pytest.mark.parametrize("request_id", ["", "x" * 200])
def test_a_request_that_cannot_be_addressed_breaks_the_protocol(request_id):
    message = good_submit()
    message.request_id = request_id
    with pytest.raises(ProtocolError, match="request_id"):
        submit_from_proto(message, VOCAB)


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens": [VOCAB], "sources": b"\0"},
        {"tokens": [1, 2], "sources": b"\0"},
        {"tokens": [1], "sources": b"\3"},
        {"tokens": [1] * 5000, "sources": b"\0" * 5000},
        {"finish_reason": 9},
    ],
)
def test_tokens_that_make_no_sense_break_the_protocol(fields):
    with pytest.raises(ProtocolError):
        tokens_from_proto(pb.Tokens(request_id="r", **fields), VOCAB)


def test_rejections_come_back_as_the_error_that_they_were():
    invalid = rejection_from_proto(rejection_to_proto("r", InvalidParameterError("top_k", "no")))
    assert isinstance(invalid, InvalidParameterError)
    assert (invalid.param, invalid.message) == ("top_k", "no")
    busy = rejection_from_proto(rejection_to_proto("r", OverloadedError("full", 7.0)))
    assert isinstance(busy, OverloadedError)
    assert busy.retry_after_s == 7.0
    assert isinstance(rejection_from_proto(rejection_to_proto("r", UnavailableError("x"))), UnavailableError)
    assert isinstance(rejection_from_proto(pb.Rejected(request_id="r")), ProtocolError)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 0.0, 1e9])
def test_a_senseless_retry_after_becomes_a_second(seconds):
    message = pb.Rejected(request_id="r", reason=pb.Rejected.REASON_OVERLOADED, retry_after_s=seconds)
    error = rejection_from_proto(message)
    assert isinstance(error, OverloadedError)
    assert error.retry_after_s == 1.0
