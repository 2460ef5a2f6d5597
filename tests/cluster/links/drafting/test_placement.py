from dataclasses import replace

import pytest

from cluster.links.drafting.placement import BUSY_S, RETRY_MAX_S, RETRY_MIN_S, DraftingStats, Placement
from workers.contract.draft import (
    Busy,
    CloseDraft,
    CommitDraft,
    DraftBlock,
    OpenDraft,
    UnknownSequence,
)
from workers.contract.sampling_params import SamplingParams

PARAMS = SamplingParams(seed=3)


class Link:
    def __init__(self, open_sequences=0, name="small"):
        self.open_sequences = open_sequences
        self.name = name
        self.sent = []

    def send(self, op):
        self.sent.append(op)

    def take(self):
        sent, self.sent = self.sent, []
        return sent


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def placement(clock):
    return Placement(clock, DraftingStats())


def opened(seq_id, tokens=(1, 2), length=4):
    return OpenDraft(seq_id, tokens, PARAMS, length, "salt")


def test_sequences_spread_over_drafters(placement):
    links = [Link(), Link(), Link(open_sequences=50)]
    for link in links:
        placement.add_link(link)
    for seq_id in range(6):
        placement.apply(opened(seq_id))
    assert [len(link.sent) for link in links] == [3, 3, 0]


def test_orders_follow_the_sequence(placement):
    link = Link()
    placement.add_link(link)
    ops = [opened(1), CommitDraft(1, 2, (3,), 2), CloseDraft(1)]
    for op in ops:
        placement.apply(op)
    assert link.take() == ops
    placement.apply(CommitDraft(1, 3, (4,), 2))
    placement.apply(CloseDraft(1))
    assert link.take() == []


def test_a_sequence_without_a_drafter_is_opened_when_one_appears(placement):
    placement.apply(opened(1))
    placement.apply(opened(2))
    placement.apply(CommitDraft(1, 2, (3, 4), 3))
    placement.apply(CloseDraft(2))
    link = Link()
    placement.add_link(link)
    assert link.take() == [opened(1, (1, 2, 3, 4), 3)]


def test_a_lost_drafters_sequences_move(placement):
    first, second = Link(), Link()
    placement.add_link(first)
    placement.apply(opened(1))
    placement.add_link(second)
    placement.apply(CommitDraft(1, 2, (3,), 4))
    placement.remove_link(first)
    assert second.take() == [opened(1, (1, 2, 3))]
    placement.remove_link(second)
    assert placement.connected == 0
    placement.add_link(first)
    assert first.take()[-1] == opened(1, (1, 2, 3))


def test_a_request_for_a_drafter_by_name_gets_no_other(placement):
    large, small, another = Link(name="large"), Link(open_sequences=9), Link(name="large")
    placement.add_link(large)
    wanted = replace(opened(1), drafter="small")
    placement.apply(wanted)
    assert large.take() == [], "it waits for its drafter, however idle others are"
    placement.add_link(small)
    assert small.take() == [opened(1)]
    placement.remove_link(small)
    placement.retry()
    assert large.take() == []
    placement.apply(replace(opened(2), drafter="large"))
    placement.add_link(another)
    placement.remove_link(large)
    assert another.take() == [opened(2)], "of the same name is as good"


def test_blocks_pass_only_from_the_drafter_that_has_the_sequence(placement):
    stats = placement._stats
    first, second = Link(), Link()
    placement.add_link(first)
    placement.apply(opened(1))
    placement.add_link(second)
    block = DraftBlock(1, ())
    assert placement.receive(first, [block, DraftBlock(7, ())]) == [block]
    assert placement.receive(second, [block]) == []
    placement.apply(CloseDraft(1))
    assert placement.receive(first, [block]) == []
    assert (stats.blocks, stats.stale_replies) == (1, 3)


def test_busy_goes_elsewhere_at_once(placement):
    first, second = Link(), Link(open_sequences=9)
    placement.add_link(first)
    placement.add_link(second)
    placement.apply(opened(1))
    assert first.take() == [opened(1)]
    placement.receive(first, [Busy(1)])
    assert (first.take(), second.take()) == ([], [opened(1)])
    placement.apply(opened(2))
    assert (first.take(), second.take()) == ([], [opened(2)])


def test_a_refused_sequence_does_not_count_as_load(placement, clock):
    first, second = Link(), Link()
    placement.add_link(first)
    placement.apply(opened(1))
    placement.apply(opened(2))
    placement.receive(first, [Busy(1), Busy(2)])
    placement.add_link(second)
    clock.now += BUSY_S
    for seq_id in range(3, 7):
        placement.apply(opened(seq_id))
    opens = [sum(isinstance(op, OpenDraft) for op in link.take()) for link in (first, second)]
    assert opens == [2 + 3, 2 + 1]


def test_busy_everywhere_waits_longer_and_longer(placement, clock):
    link = Link()
    placement.add_link(link)
    placement.apply(opened(1))
    pauses = []
    for _ in range(9):
        assert len(link.take()) == 1
        placement.receive(link, [Busy(1)])
        asked = clock.now
        while not link.sent:
            assert clock.now - asked < 2 * RETRY_MAX_S
            clock.now += BUSY_S / 2
            placement.retry()
        pauses.append(clock.now - asked)
    assert pauses[:4] == [BUSY_S, RETRY_MIN_S, 2 * RETRY_MIN_S, 4 * RETRY_MIN_S]
    assert pauses[-1] == RETRY_MAX_S
    link.take()
    placement.receive(link, [DraftBlock(1, ())])
    placement.receive(link, [UnknownSequence(1)])
    assert link.take() == [opened(1)]


def test_unknown_is_reopened_at_once_then_with_patience(placement, clock):
    link = Link()
    placement.add_link(link)
    placement.apply(opened(1))
    placement.apply(CommitDraft(1, 2, (3,), 4))
    link.take()
    placement.receive(link, [UnknownSequence(1)])
    assert link.take() == [opened(1, (1, 2, 3))]
    placement.receive(link, [UnknownSequence(1)])
    assert link.take() == []
    placement.apply(CommitDraft(1, 3, (4,), 4))
    clock.now += RETRY_MIN_S
    placement.retry()
    assert link.take() == [opened(1, (1, 2, 3, 4))]
    assert placement._stats.reopened == 2


def test_a_commit_that_does_not_fit_ends_the_drafting_of_its_sequence_alone(placement):
    link = Link()
    placement.add_link(link)
    placement.apply(opened(1))
    placement.apply(opened(2))
    placement.apply(CommitDraft(1, 9, (3,), 4))
    placement.apply(CommitDraft(2, 2, (3,), 4))
    assert link.take()[2:] == [CloseDraft(1), CommitDraft(2, 2, (3,), 4)]


def test_an_open_of_an_open_sequence_starts_it_anew(placement):
    first, second = Link(), Link(open_sequences=5)
    placement.add_link(first)
    placement.add_link(second)
    placement.apply(opened(1))
    placement.apply(opened(1, (5,)))
    assert first.take() == [opened(1), CloseDraft(1), opened(1, (5,))]
    placement.apply(CloseDraft(1))
    placement.apply(opened(2))
    assert first.take()[-1] == opened(2)
