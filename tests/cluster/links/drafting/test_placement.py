from dataclasses import replace

import pytest

from cluster.links.drafting.cause import Cause
from cluster.links.drafting.deadline import SHORTEST_S
from cluster.links.drafting.placement import BUSY_S, RETRY_MAX_S, RETRY_MIN_S, Placement
from cluster.links.drafting.standing import Standing
from cluster.links.drafting.stats import DraftingStats
from cluster.links.drafting.suspicion import STALLED_DEADLINES
from workers.contract.draft import (
    Busy,
    CloseDraft,
    CommitDraft,
    DraftBlock,
    OpenDraft,
    Outcome,
    UnknownSequence,
)
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams

PARAMS = SamplingParams(seed=3)


class Link:
    def __init__(self, open_sequences=0, name="small"):
        self.open_sequences = open_sequences
        self.name = name
        self.standing = Standing()
        self.sent, self.given_up = [], []

    def give_up(self, cause, why):
        self.given_up.append(cause)

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
    placement.tick()
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
            placement.tick()
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
    placement.tick()
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


def answer(seq_id, tokens, digest=None):
    return DraftBlock(seq_id, (Outcome(len(tokens), prefix_hash(tokens) if digest is None else digest, (9,)),))


def learned(link, seconds=0.01):
    """Have a drafter that is known to answer in so many seconds."""
    for _ in range(50):
        link.standing.deadline.observe(seconds)
        link.standing.deadline.observe(seconds, opened=2)
    return link


def test_an_overdue_sequence_moves_and_its_drafter_gets_no_more_until_it_answers(placement, clock):
    first, second = learned(Link()), learned(Link(open_sequences=5))
    placement.add_link(first)
    placement.add_link(second)
    placement.apply(opened(1))
    assert first.take() == [opened(1)]
    clock.now += 0.9 * SHORTEST_S
    placement.tick()
    assert second.sent == []
    clock.now += 0.2 * SHORTEST_S
    placement.tick()
    assert (first.take(), second.take()) == ([CloseDraft(1)], [opened(1)])
    placement.apply(opened(2))
    assert second.take() == [opened(2)]
    assert placement._stats.overdue == 1
    placement.receive(first, [answer(1, (1, 2))])
    placement.apply(opened(3))
    assert first.take() == [opened(3)]


def test_an_overdue_sequence_stays_where_there_is_no_other_drafter(placement, clock):
    link = learned(Link())
    placement.add_link(link)
    placement.apply(opened(1))
    clock.now += 2 * SHORTEST_S
    placement.tick()
    placement.tick()
    assert (link.take(), link.given_up, placement._stats.overdue) == ([opened(1)], [], 1)
    placement.apply(opened(2))
    assert link.take() == []
    assert placement.receive(link, [answer(1, (1, 2))])
    placement.tick()
    assert link.take() == [opened(2)]


def test_an_overdue_sequence_is_not_taken_from_the_drafter_that_its_request_names(placement, clock):
    wanted, other = learned(Link(name="small")), learned(Link(name="large"))
    placement.add_link(wanted)
    placement.add_link(other)
    placement.apply(replace(opened(1), drafter="small"))
    clock.now += 2 * SHORTEST_S
    placement.tick()
    assert (wanted.take(), other.take()) == ([opened(1)], [])


def test_a_drafter_that_lost_its_sequence_for_being_late_is_tried_with_another(placement, clock):
    first, second = learned(Link()), learned(Link(open_sequences=9))
    placement.add_link(first)
    placement.add_link(second)
    placement.apply(opened(1))
    clock.now += 1.1 * SHORTEST_S
    placement.tick()
    placement.apply(opened(2))
    assert second.take() == [opened(1), opened(2)]
    placement.receive(second, [answer(1, (1, 2)), answer(2, (1, 2))])
    clock.now += 1.1 * SHORTEST_S
    placement.tick()
    first.take()
    placement.apply(opened(3))
    placement.apply(opened(4))
    assert (first.take(), second.take()) == ([opened(3)], [opened(4)]), "one, until it has answered"
    placement.receive(second, [answer(4, (1, 2))])
    assert first.given_up == []
    clock.now += 2.2 * SHORTEST_S  # its deadline was doubled
    placement.tick()
    assert first.given_up == [Cause.OVERDUE], "twice in a row"
    assert second.take() == [opened(3)]


def test_a_drafter_that_answers_nothing_any_more_is_given_up_once(placement, clock):
    link = learned(Link())
    placement.add_link(link)
    placement.apply(opened(1))
    for _ in range(40):
        clock.now += STALLED_DEADLINES * SHORTEST_S / 10
        placement.tick()
    assert link.given_up == [Cause.OVERDUE]


def test_answers_to_some_orders_keep_a_slow_drafter(placement, clock):
    link = learned(Link())
    placement.add_link(link)
    text = [1, 2]
    placement.apply(opened(1))
    placement.apply(opened(2))
    for token in range(30):
        clock.now += SHORTEST_S / 2
        placement.tick()
        placement.receive(link, [answer(1, text)])
        placement.apply(CommitDraft(1, len(text), (token,), 4))
        text.append(token)
    assert link.given_up == []


def test_what_is_not_asked_for_is_not_overdue(placement, clock):
    link = learned(Link())
    placement.add_link(link)
    placement.apply(opened(1))
    placement.apply(CommitDraft(1, 2, (3,), 0))
    placement.apply(opened(2, length=0))
    clock.now += 100
    placement.tick()
    assert (placement._stats.overdue, link.given_up) == (0, [])


def test_a_lie_is_not_passed_on_and_ends_the_drafter(placement):
    link = Link()
    placement.add_link(link)
    placement.apply(opened(1))
    placement.apply(opened(2))
    good, lie = answer(1, (1, 2)), answer(2, (1, 2), digest=5)
    assert placement.receive(link, [good, lie, answer(2, (1, 2))]) == [good]
    assert link.given_up == [Cause.LYING]
    placement.apply(opened(3))
    assert all(op.seq_id != 3 for op in link.take())


def test_a_drafter_that_has_failed_is_let_in_bit_by_bit(placement, clock):
    link = learned(Link())
    link.standing.breaker.failed(Cause.LOST, clock.now)
    for seq_id in range(8):
        placement.apply(opened(seq_id))
    placement.add_link(link)
    given = []
    while not given or len(given) < 4:
        ops = link.take()
        given.append(len(ops))
        placement.receive(link, [answer(ops[0].seq_id, (1, 2))])
        placement.tick()
    assert given == [1, 1, 2, 4]


def test_an_answer_that_comes_too_late_does_not_earn_trust(placement, clock):
    link = learned(Link())
    link.standing.breaker.failed(Cause.LOST, clock.now)
    placement.add_link(link)
    placement.apply(opened(1))
    clock.now += 2 * SHORTEST_S
    placement.receive(link, [answer(1, (1, 2))])
    assert link.standing.breaker.allowance == 1


def test_a_drafter_that_answers_nobody_is_given_up_though_every_request_is_short(placement, clock):
    link = learned(Link(), seconds=0.5)
    placement.add_link(link)
    seq_id = 0
    while not link.given_up:
        seq_id += 1
        assert seq_id < 40, "nobody noticed"
        placement.apply(opened(seq_id))
        for _ in range(4):
            clock.now += 0.1
            placement.tick()
        placement.apply(CloseDraft(seq_id))
    assert link.given_up == [Cause.OVERDUE]
    assert placement._stats.overdue == 0, "no single order was"


def test_what_ended_long_ago_is_not_owed(placement, clock):
    link = learned(Link())
    placement.add_link(link)
    for seq_id in range(20):
        placement.apply(opened(seq_id))
        clock.now += 0.1
        placement.tick()
        placement.apply(CloseDraft(seq_id))
        placement.tick()
        clock.now += 60
    assert link.given_up == []
