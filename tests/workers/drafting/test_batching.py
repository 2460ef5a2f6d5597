import queue
import threading

import pytest

from tests.support.toy_target import VOCAB, ToyTarget, plain_text
from workers.contract.draft import (
    Busy,
    CloseDraft,
    CommitDraft,
    DraftBlock,
    OpenDraft,
    Outcome,
    UnknownSequence,
)
from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.drafting.batching import MAX_FAILED_STEPS, DraftBatcher
from workers.drafting.drafter import Advance, DraftPeer
from workers.drafting.model_drafter import ModelDrafter
from workers.drafting.ngram_drafter import NgramDrafter

PARAMS = SamplingParams(seed=3)


class SteppedDrafter:
    """Guesses token 1 as often as it is stepped; a step waits for the test, and runs into what the test set."""

    runs_ahead = False

    def __init__(self):
        self.identity = ModelIdentity("stepped", 0, "")
        self.entered, self.go = queue.Queue(), queue.Queue()
        self.poison = set()
        self.forgotten = []

    def advance(self, wanting):
        self.entered.put([state.seq_id for state in wanting])
        self.go.get(timeout=10)
        if any(state.seq_id in self.poison for state in wanting):
            raise RuntimeError("poisoned")
        for state in wanting:
            state.draft.append(1)
        return Advance(finished=[state for state in wanting if len(state.draft) >= state.wanted])

    def forget(self, state):
        self.forgotten.append(state.seq_id)

    def step(self):
        batch = self.entered.get(timeout=10)
        self.go.put(None)
        return batch


class Target:
    """A peer whose replies the test can wait for."""

    def __init__(self, vocab_size=VOCAB):
        self.inbox = queue.Queue()
        self.peer = DraftPeer(vocab_size, lambda replies: [self.inbox.put(reply) for reply in replies])

    def next(self):
        return self.inbox.get(timeout=10)


@pytest.fixture
def run():
    running = []

    def start(drafter, max_sequences=8):
        batcher = DraftBatcher(drafter, max_sequences)
        batcher.start()
        running.append((batcher, drafter))
        return batcher

    yield start
    for batcher, drafter in running:
        if isinstance(drafter, SteppedDrafter):
            for _ in range(50):
                drafter.go.put(None)
        batcher.stop()


def opened(seq_id, length=2, tokens=(5, 6)):
    return OpenDraft(seq_id, tokens, PARAMS, length)


def block(seq_id, tokens, *continuation):
    return DraftBlock(seq_id, (Outcome(len(tokens), prefix_hash(tokens), continuation),))


def test_targets_share_a_drafter_and_their_ids_do_not_meet(run):
    batcher = run(ModelDrafter(ToyTarget()))
    first, second = Target(), Target()
    batcher.post(first.peer, [opened(1, 4, (5, 6))])
    batcher.post(second.peer, [opened(1, 4, (7, 8))])
    assert first.next() == block(1, [5, 6], *plain_text([5, 6], PARAMS, 4))
    assert second.next() == block(1, [7, 8], *plain_text([7, 8], PARAMS, 4))
    batcher.leave(first.peer)
    batcher.post(second.peer, [CommitDraft(1, 2, (9,), 2)])
    assert second.next() == block(1, [7, 8, 9], *plain_text([7, 8, 9], PARAMS, 2))
    assert first.inbox.empty()
    assert batcher.load().open_sequences == 1
    assert batcher.load().drafted_tokens == 10


def test_what_arrives_during_a_step_joins_the_next(run):
    drafter = SteppedDrafter()
    batcher, target = run(drafter), Target()
    batcher.post(target.peer, [opened(1, 3)])
    assert drafter.entered.get(timeout=10) == [1]
    batcher.post(target.peer, [opened(2, 1), opened(3, 1), CloseDraft(3)])
    drafter.go.put(None)
    assert drafter.step() == [1, 2]
    assert target.next() == block(2, [5, 6], 1)
    assert drafter.step() == [1]
    assert target.next() == block(1, [5, 6], 1, 1, 1)


def test_a_commit_during_a_step_moves_the_base_and_keeps_right_guesses(run):
    drafter = SteppedDrafter()
    batcher, target = run(drafter), Target()
    batcher.post(target.peer, [opened(1, 3), opened(2, 3)])
    drafter.step()
    assert drafter.entered.get(timeout=10) == [1, 2]
    batcher.post(target.peer, [CommitDraft(1, 2, (1,), 2), CommitDraft(2, 2, (9,), 2)])
    drafter.go.put(None)
    assert drafter.step() == [1, 2]
    assert target.next() == block(1, [5, 6, 1], 1, 1)
    assert drafter.step() == [2]
    assert target.next() == block(2, [5, 6, 9], 1, 1)


def test_a_sequence_closed_during_a_step_gets_no_block(run):
    drafter = SteppedDrafter()
    batcher, target = run(drafter), Target()
    batcher.post(target.peer, [opened(1, 2), opened(2, 2)])
    assert drafter.entered.get(timeout=10) == [1, 2]
    batcher.post(target.peer, [CloseDraft(1)])
    drafter.go.put(None)
    assert drafter.step() == [2]
    assert target.next() == block(2, [5, 6], 1, 1)
    assert drafter.forgotten == [1]


def test_a_commit_may_only_advance(run):
    batcher, target = run(NgramDrafter(4, 1)), Target()
    batcher.post(target.peer, [opened(1, 0, (1, 2, 1))])
    batcher.post(target.peer, [CommitDraft(1, 3, (2,), 0)])
    batcher.post(target.peer, [CommitDraft(1, 4, (1,), 3)])
    assert target.next() == block(1, [1, 2, 1, 2, 1], 2, 1, 2)
    assert target.inbox.empty()


@pytest.mark.parametrize("commit", [CommitDraft(7, 2, (1,), 2), CommitDraft(1, 3, (1,), 2)])
def test_a_commit_that_fits_nothing_is_answered_unknown(run, commit):
    batcher, target = run(NgramDrafter(4, 2)), Target()
    batcher.post(target.peer, [opened(1, 0), commit])
    assert target.next() == UnknownSequence(commit.seq_id)
    batcher.post(target.peer, [opened(commit.seq_id, 2, (1, 2, 1, 2))])
    assert target.next() == block(commit.seq_id, [1, 2, 1, 2], 1, 2)


def test_more_sequences_than_room_are_answered_busy(run):
    batcher, target = run(NgramDrafter(4, 2), max_sequences=2), Target()
    batcher.post(target.peer, [opened(1), opened(2), opened(3)])
    assert [target.next() for _ in range(3)] == [Busy(3), block(1, [5, 6]), block(2, [5, 6])]
    batcher.post(target.peer, [CloseDraft(1), opened(3)])
    assert target.next() == block(3, [5, 6])


def test_one_sequences_fault_drops_that_sequence_only(run):
    drafter = SteppedDrafter()
    batcher, target = run(drafter), Target()
    drafter.poison.add(2)
    batcher.post(target.peer, [opened(1, 1), opened(2, 1), opened(3, 1)])
    assert [drafter.step() for _ in range(4)] == [[1, 2, 3], [1], [2], [3]]
    assert [target.next() for _ in range(3)] == [Busy(2), block(1, [5, 6], 1), block(3, [5, 6], 1)]
    assert drafter.forgotten == [2]
    batcher.post(target.peer, [CommitDraft(2, 2, (7,), 1)])
    assert target.next() == UnknownSequence(2)
    assert batcher.trouble is None


def test_a_drafter_that_keeps_failing_is_not_healthy(run):
    drafter = SteppedDrafter()
    batcher, target = run(drafter), Target()
    drafter.poison.add(1)
    for _ in range(MAX_FAILED_STEPS):
        assert batcher.trouble is None
        batcher.post(target.peer, [opened(1)])
        drafter.step()
        drafter.step()
        assert target.next() == Busy(1)
    assert batcher.trouble == "the drafter's steps keep failing"


def test_a_peer_that_leaves_takes_its_sequences_along(run):
    drafter = SteppedDrafter()
    batcher, target, other = run(drafter), Target(), Target()
    batcher.post(target.peer, [opened(1), opened(2, 0)])
    assert drafter.entered.get(timeout=10) == [1]
    batcher.leave(target.peer)
    batcher.post(other.peer, [opened(1, 1), opened(5, 1)])
    drafter.go.put(None)
    assert drafter.step() == [1, 5]
    assert [other.next(), other.next()] == [block(1, [5, 6], 1), block(5, [5, 6], 1)]
    assert sorted(drafter.forgotten) == [1, 2]
    assert target.inbox.empty()
    assert batcher.load().open_sequences == 2


def test_an_answer_that_needs_no_step_does_not_wait_for_one(run):
    drafter = SteppedDrafter()
    batcher, target = run(drafter, max_sequences=2), Target()
    batcher.post(target.peer, [opened(1, 2)])
    assert [drafter.step(), drafter.step()] == [[1], [1]]
    assert target.next() == block(1, [5, 6], 1, 1)
    batcher.post(target.peer, [CommitDraft(1, 2, (1,), 1), opened(2, 1), opened(3, 1)])
    assert drafter.entered.get(timeout=10) == [2]
    assert [target.next(), target.next()] == [block(1, [5, 6, 1], 1), Busy(3)]
    drafter.go.put(None)
    assert target.next() == block(2, [5, 6], 1)


def test_stop_ends_the_thread():
    batcher = DraftBatcher(NgramDrafter(4, 2), 4)
    batcher.start()
    assert batcher.trouble is None
    batcher.stop()
    assert batcher.trouble == "the drafter's thread has ended"
    assert "drafting" not in [thread.name for thread in threading.enumerate()]
