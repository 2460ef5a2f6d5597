from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract.draft import (
    MAX_AHEAD,
    MAX_DRAFT_LENGTH,
    Busy,
    CloseDraft,
    CommitDraft,
    DraftBlock,
    OpenDraft,
    Outcome,
    UnknownSequence,
)
from workers.contract.errors import ProtocolError
from workers.contract.features import FeatureSpec
from workers.contract.identity import ModelIdentity
from workers.contract.sampling_params import SamplingParams
from workers.rpc import drafting_messages as wire
from workers.rpc.stubs import drafting_pb2 as pb

LIMITS = wire.Limits(vocab_size=100, max_tokens=32)
SAMPLING = pb.SamplingParams(temperature=0.5, top_p=0.9)

ids = st.integers(0, 2**64 - 1)
token_lists = st.lists(st.integers(0, 99), min_size=1, max_size=16)
lengths = st.integers(0, MAX_DRAFT_LENGTH)
params = st.builds(
    SamplingParams,
    temperature=st.floats(0, 2),
    top_k=st.integers(0, 2**31 - 1),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    seed=ids,
)
ops = st.lists(
    st.one_of(
        st.builds(OpenDraft, ids, token_lists, params, lengths, st.text(max_size=20), st.integers(0, MAX_AHEAD)),
        st.builds(CommitDraft, ids, st.integers(1, 16), token_lists, lengths, st.integers(0, MAX_AHEAD)),
        st.builds(CloseDraft, ids),
    )
)
outcomes = st.builds(Outcome, st.integers(1, 32), ids, token_lists.map(tuple))
replies = st.lists(
    st.one_of(
        st.builds(DraftBlock, ids, st.lists(outcomes, max_size=1).map(tuple)),
        st.builds(DraftBlock, ids, st.lists(outcomes, max_size=4).map(tuple), st.integers(1, 32)),
        st.builds(UnknownSequence, ids),
        st.builds(Busy, ids),
    )
)


@given(ops)
def test_requests_survive_the_wire(sent):
    data = wire.request_message(sent).SerializeToString()
    got = wire.read_request(pb.DraftRequest.FromString(data), LIMITS)
    assert sorted(got, key=repr) == sorted(sent, key=repr)


@given(replies)
def test_responses_survive_the_wire(sent):
    data = wire.response_message(sent).SerializeToString()
    got = wire.read_response(pb.DraftResponse.FromString(data), LIMITS)
    assert sorted(got, key=repr) == sorted(sent, key=repr)


def opened(**changes):
    fields = {"seq_id": 1, "tokens": [1, 2], "sampling": SAMPLING, "draft_length": 4, **changes}
    return pb.DraftRequest(opens=[pb.OpenSequence(seq_id=9, tokens=[5], sampling=SAMPLING), fields])


def committed(**changes):
    fields = {"seq_id": 1, "base_len": 2, "tokens": [3], "draft_length": 4, **changes}
    return pb.DraftRequest(commits=[fields])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.DraftRequest(hello=pb.Hello()), "hello"),
        (opened(tokens=[]), "opens[1].tokens"),
        (opened(tokens=[1] * 33), "opens[1].tokens"),
        (opened(tokens=[1, 100, 2]), "opens[1].tokens[1]"),
        (opened(draft_length=MAX_DRAFT_LENGTH + 1), "opens[1].draft_length"),
        (opened(ahead=MAX_AHEAD + 1), "opens[1].ahead"),
        (opened(salt="x" * (wire.MAX_SALT_CHARS + 1)), "opens[1].salt"),
        (opened(sampling=pb.SamplingParams()), "opens[1].sampling.top_p"),
        (opened(sampling=pb.SamplingParams(top_p=1, temperature=float("nan"))), "opens[1].sampling.temperature"),
        (opened(sampling=pb.SamplingParams(top_p=1, temperature=-1)), "opens[1].sampling.temperature"),
        (opened(sampling=pb.SamplingParams(top_p=1, top_k=2**31)), "opens[1].sampling.top_k"),
        (opened(sampling=pb.SamplingParams(top_p=1, min_p=1.5)), "opens[1].sampling.min_p"),
        (committed(base_len=0), "commits[0].base_len"),
        (committed(base_len=33, tokens=[]), "commits[0].base_len"),
        (committed(base_len=31, tokens=[1, 2]), "commits[0].tokens"),
        (committed(tokens=[2**32 - 1]), "commits[0].tokens[0]"),
        (committed(draft_length=2**31), "commits[0].draft_length"),
        (committed(ahead=MAX_AHEAD + 1), "commits[0].ahead"),
    ],
)
def test_a_bad_request_is_refused_by_field(message, field):
    with pytest.raises(ProtocolError) as refused:
        wire.read_request(message, LIMITS)
    assert str(refused.value).startswith(f"{field}:")


def blocks(*outcomes_, ahead_of=1):
    return pb.DraftResponse(blocks=[pb.DraftBlock(seq_id=1, outcomes=outcomes_, ahead_of=ahead_of)])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.DraftResponse(welcome=pb.Hello()), "welcome"),
        (blocks(*[pb.Outcome(base_len=1, continuation=[1])] * (wire.MAX_OUTCOMES + 1)), "blocks[0].outcomes"),
        (blocks(*[pb.Outcome(base_len=1, continuation=[1])] * 2, ahead_of=0), "blocks[0].outcomes"),
        (pb.DraftResponse(blocks=[pb.DraftBlock(ahead_of=33)]), "blocks[0].ahead_of"),
        (blocks(pb.Outcome(base_len=0, continuation=[1])), "blocks[0].outcomes[0].base_len"),
        (blocks(pb.Outcome(base_len=33, continuation=[1])), "blocks[0].outcomes[0].base_len"),
        (
            blocks(pb.Outcome(base_len=1, continuation=[1] * (MAX_DRAFT_LENGTH + 1))),
            "blocks[0].outcomes[0].continuation",
        ),
        (
            blocks(pb.Outcome(base_len=1, continuation=[99]), pb.Outcome(base_len=1, continuation=[1, 100])),
            "blocks[0].outcomes[1].continuation[1]",
        ),
    ],
)
def test_a_bad_response_is_refused_by_field(message, field):
    with pytest.raises(ProtocolError) as refused:
        wire.read_response(message, LIMITS)
    assert str(refused.value).startswith(f"{field}:")


SPEC = FeatureSpec((1, 2), 3, window=8)


def test_states_survive_the_wire():
    rows = bytes(range(2 * SPEC.row_bytes))
    sent = [
        OpenDraft(1, [1, 2, 3], SamplingParams(), 3, features=rows),
        CommitDraft(2, 3, [1, 2], 3, features=rows),
    ]
    data = wire.request_message(sent).SerializeToString()
    assert wire.read_request(pb.DraftRequest.FromString(data), replace(LIMITS, features=SPEC)) == sent


@pytest.mark.parametrize(
    ("size", "spec", "why"),
    [
        (SPEC.row_bytes, None, "asked for none"),
        (SPEC.row_bytes + 2, SPEC, "no whole rows of 12"),
        (6 * SPEC.row_bytes, SPEC, "at most one per token"),
    ],
)
def test_states_that_fit_no_tokens_are_refused(size, spec, why):
    limits = replace(LIMITS, features=spec)
    for op in (
        OpenDraft(1, [1, 2], SamplingParams(), 3, features=bytes(size)),
        CommitDraft(2, 3, [1, 2], 3, features=bytes(size)),
    ):
        with pytest.raises(ProtocolError, match=why) as refused:
            wire.read_request(wire.request_message([op]), limits)
        assert "[0].features" in str(refused.value)


@pytest.mark.parametrize(("said", "held"), [(0, 2**20), (2048, 2048), (2**31, 2**20)])
def test_the_context_bounds_lengths(said, held):
    assert wire.Limits.of(ModelIdentity("m", 10, "f", said)) == wire.Limits(10, held)
