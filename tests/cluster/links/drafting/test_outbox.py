from hypothesis import given
from hypothesis import strategies as st

from cluster.links.drafting.outbox import DraftOutbox
from workers.contract.draft import CloseDraft, CommitDraft, OpenDraft
from workers.contract.sampling_params import SamplingParams

PARAMS = SamplingParams(seed=3)


def test_commits_merge_and_the_last_length_counts():
    outbox = DraftOutbox()
    outbox.put(CommitDraft(1, 10, (1, 2), 4))
    outbox.put(CommitDraft(2, 5, (7,), 4))
    outbox.put(CommitDraft(1, 12, (3,), 2))
    assert outbox.take() == [CommitDraft(1, 10, [1, 2, 3], 2), CommitDraft(2, 5, [7], 4)]
    assert len(outbox) == 0


def test_an_open_swallows_the_commits_after_it():
    outbox = DraftOutbox()
    prompt = (1, 2)
    outbox.put(OpenDraft(1, prompt, PARAMS, 4, "salt"))
    outbox.put(CommitDraft(1, 2, (3,), 5))
    assert outbox.take() == [OpenDraft(1, [1, 2, 3], PARAMS, 5, "salt")]
    assert prompt == (1, 2)


def test_a_close_is_all_that_is_left():
    outbox = DraftOutbox()
    outbox.put(OpenDraft(1, (1,), PARAMS, 4))
    outbox.put(CommitDraft(1, 1, (3,), 5))
    outbox.put(CloseDraft(1))
    assert outbox.take() == [CloseDraft(1)]


def test_messages_are_split_by_tokens():
    outbox = DraftOutbox()
    for seq_id in range(4):
        outbox.put(OpenDraft(seq_id, tuple(range(6)), PARAMS, 4))
    outbox.put(CloseDraft(9))
    taken = [[op.seq_id for op in outbox.take(max_tokens=12)] for _ in range(3)]
    assert taken == [[0, 1], [2, 3, 9], []]
    outbox.put(OpenDraft(1, tuple(range(60)), PARAMS, 4))
    assert len(outbox.take(max_tokens=12)) == 1


@given(st.data())
def test_a_drafter_ends_up_with_the_same_tokens_however_orders_merge(data):
    outbox, truth, drafter = DraftOutbox(), {}, {}

    def deliver():
        for op in outbox.take(data.draw(st.integers(1, 8))):
            if isinstance(op, OpenDraft):
                drafter[op.seq_id] = list(op.tokens)
            elif isinstance(op, CommitDraft):
                assert op.base_len == len(drafter[op.seq_id])
                drafter[op.seq_id] += op.tokens
            else:
                drafter.pop(op.seq_id, None)

    for _ in range(data.draw(st.integers(0, 25))):
        seq_id = data.draw(st.integers(0, 2))
        tokens = tuple(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
        action = data.draw(st.sampled_from(["open", "commit", "close", "deliver"]))
        if action == "open":
            truth[seq_id] = list(tokens)
            outbox.put(OpenDraft(seq_id, tokens, PARAMS, 4))
        elif action == "commit" and seq_id in truth:
            outbox.put(CommitDraft(seq_id, len(truth[seq_id]), tokens, 4))
            truth[seq_id] += tokens
        elif action == "close" and truth.pop(seq_id, None):
            outbox.put(CloseDraft(seq_id))
        elif action == "deliver":
            deliver()
    while outbox:
        deliver()
    assert drafter == truth
