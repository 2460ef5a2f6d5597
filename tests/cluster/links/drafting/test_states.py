"""Which states go with which order to a drafter that reads them."""

import pytest

from cluster.links.drafting import states as states_module
from cluster.links.drafting.states import StatesSent
from workers.contract.draft import CloseDraft, CommitDraft, OpenDraft
from workers.contract.features import FeatureSpec
from workers.contract.sampling_params import SamplingParams

SPEC = FeatureSpec((1, 2), 3, window=8)


class Source:
    """A row per token, which names its position; only of tokens at positions below ``known``."""

    def __init__(self, known: int) -> None:
        self.known = known

    def of_tokens(self, seq_id: int, start: int, end: int) -> bytes:
        return row(*range(max(start, 1), end)) if end <= self.known else b""


def row(*positions: int) -> bytes:
    return b"".join(bytes([position]) * SPEC.row_bytes for position in positions)


def opened(seq_id: int, count: int) -> OpenDraft:
    return OpenDraft(seq_id, tuple(range(count)), SamplingParams(), 3)


def sent(states: StatesSent, *ops) -> list[list[bytes]]:
    return [[op.features for op in message] for message in states.messages(ops)]


def test_a_text_opened_before_its_prompt_was_computed_gets_all_states_with_the_next_tokens():
    source = Source(known=0)
    states = StatesSent(source, SPEC)
    assert sent(states, opened(1, 5)) == [[b""]]
    source.known = 99
    assert sent(states, CommitDraft(1, 5, (7,), 3)) == [[row(1, 2, 3, 4, 5)]]
    assert sent(states, CommitDraft(1, 6, (8, 9), 3)) == [[row(6, 7)]]
    assert sent(states, CommitDraft(1, 8, (), 3)) == [[b""]]


def test_states_that_were_not_known_go_with_a_later_order():
    source = Source(known=99)
    states = StatesSent(source, SPEC)
    assert sent(states, opened(1, 3)) == [[row(1, 2)]]
    source.known = 0
    assert sent(states, CommitDraft(1, 3, (7,), 3)) == [[b""]]
    source.known = 99
    assert sent(states, CommitDraft(1, 4, (8,), 3)) == [[row(3, 4)]]


def test_a_text_that_is_opened_anew_gets_everything_again():
    states = StatesSent(Source(known=99), SPEC)
    assert sent(states, opened(1, 3)) == [[row(1, 2)]]
    assert sent(states, opened(1, 4)) == [[row(1, 2, 3)]]
    assert list(states.messages([CloseDraft(1)])) == [[CloseDraft(1)]]
    assert sent(states, opened(1, 3)) == [[row(1, 2)]]


def test_messages_are_split_where_states_would_make_them_too_long(monkeypatch):
    monkeypatch.setattr(states_module, "MAX_FEATURE_BYTES", 4 * SPEC.row_bytes)
    source = Source(known=0)
    states = StatesSent(source, SPEC)
    sent(states, opened(1, 3), opened(2, 4), opened(3, 9))
    source.known = 99
    orders = [CommitDraft(1, 3, (7,), 3), CommitDraft(2, 4, (7,), 3), CommitDraft(3, 9, (7,), 3)]
    assert sent(states, *orders) == [[row(1, 2, 3)], [row(1, 2, 3, 4)], [row(6, 7, 8, 9)]]


@pytest.mark.parametrize("wanted", [None, SPEC])
def test_orders_come_out_as_they_went_in(wanted):
    states = StatesSent(Source(known=0), wanted)
    orders = [opened(1, 3), CommitDraft(2, 3, (7,), 3), CloseDraft(4)]
    assert [op for message in states.messages(orders) for op in message] == orders
