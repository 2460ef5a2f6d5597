"""Drafters of different worth behind several targets, in simulated time: who gets which sequences."""

import random
from dataclasses import dataclass, field

import pytest

from cluster.links.drafting.placement import Placement
from cluster.links.drafting.standing import Standing
from cluster.links.drafting.stats import DraftingStats
from workers.contract.draft import CloseDraft, CommitDraft, DraftBlock, OpenDraft, Outcome
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams

PARAMS = SamplingParams()
STEP_S = 0.03
K = 4
REPORT_EVERY = 30


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@dataclass(eq=False)
class SimulatedDrafter:
    """Guesses a token rightly with a given probability, and answers after so many steps."""

    right: float
    late_steps: int = 0
    sequences: dict = field(default_factory=dict)
    reported: int = 0
    opened: int = 0

    def link(self, target):
        return SimulatedLink(self, target)


@dataclass(eq=False)
class SimulatedLink:
    drafter: SimulatedDrafter
    target: "SimulatedTarget"
    due: list = field(default_factory=list)
    standing: Standing = field(default_factory=Standing)

    @property
    def open_sequences(self):
        return self.drafter.reported

    def send(self, op):
        key = (self.target, op.seq_id)
        if isinstance(op, CloseDraft):
            self.drafter.sequences.pop(key)
            return
        if isinstance(op, OpenDraft):
            self.drafter.opened += 1
            self.drafter.sequences[key] = len(op.tokens)
        else:
            assert self.drafter.sequences[key] == op.base_len
            self.drafter.sequences[key] += len(op.tokens)
        self.due.append((self.target.steps + self.drafter.late_steps, op.seq_id, self.drafter.sequences[key]))

    def deliver(self):
        ready = [item for item in self.due if item[0] <= self.target.steps]
        self.due = [item for item in self.due if item[0] > self.target.steps]
        for _, seq_id, base in ready:
            if seq_id in self.target.texts:
                guess = self.target.guess(seq_id, base, self.drafter.right)
                digest = prefix_hash(self.target.texts[seq_id][:base])
                self.target.placement.receive(self, [DraftBlock(seq_id, (Outcome(base, digest, guess),))])


class SimulatedTarget:
    """Keeps some sequences running; each step decides as many tokens as were guessed rightly in time, and one."""

    def __init__(self, drafters, clock, running, seed=0):
        self.placement = Placement(clock, DraftingStats())
        self.links = [drafter.link(self) for drafter in drafters]
        for link in self.links:
            self.placement.add_link(link)
        self.texts, self.steps = {}, 0
        self._answers, self._next, self._running, self._draw = {}, 0, running, random.Random(seed)

    def guess(self, seq_id, base, right):
        answer = self._answers[seq_id][base : base + K]
        return tuple(token if self._draw.random() < right else -1 for token in answer)

    def step(self):
        self.steps += 1
        for link in self.links:
            link.deliver()
        for seq_id, text in list(self.texts.items()):
            answer = self._answers[seq_id]
            if len(text) > len(answer) - 2 * K:
                self.placement.apply(CloseDraft(seq_id))
                del self.texts[seq_id]
                continue
            news = answer[len(text) : len(text) + self._draw.randrange(1, 4)]
            self.placement.apply(CommitDraft(seq_id, len(text), tuple(news), K))
            text += news
        while len(self.texts) < self._running:
            self.open([self._draw.randrange(1000) for _ in range(20)])

    def open(self, prompt):
        self._next += 1
        self._answers[self._next] = [*prompt, *(self._draw.randrange(1000) for _ in range(60))]
        self.texts[self._next] = list(prompt)
        self.placement.apply(OpenDraft(self._next, tuple(prompt), PARAMS, K))


def run(drafters, targets, clock, steps):
    """Let time pass; return how many sequences each drafter was given in the second half of it."""
    opened = []
    for step in range(steps):
        if step == steps // 2:
            opened = [drafter.opened for drafter in drafters]
        clock.now += STEP_S
        if step % REPORT_EVERY == 0:
            for drafter in drafters:
                drafter.reported = len(drafter.sequences)
        for target in targets:
            target.step()
    return [drafter.opened - before for drafter, before in zip(drafters, opened, strict=True)]


@pytest.fixture
def clock():
    return Clock()


def test_equal_drafters_get_equally_many(clock):
    drafters = [SimulatedDrafter(0.7) for _ in range(3)]
    given = run(drafters, [SimulatedTarget(drafters, clock, 12)], clock, 2000)
    assert min(given) > 0.8 * max(given)


@pytest.mark.parametrize("bad", [SimulatedDrafter(0.0), SimulatedDrafter(0.9, late_steps=6)], ids=["wrong", "slow"])
def test_a_wrong_or_slow_drafter_gets_few_sequences_but_some(clock, bad):
    bad = SimulatedDrafter(bad.right, bad.late_steps)
    drafters = [SimulatedDrafter(0.8), bad]
    given = run(drafters, [SimulatedTarget(drafters, clock, 8)], clock, 6000)
    assert 0 < given[1] < 0.15 * given[0]


def test_a_better_drafter_gets_more(clock):
    drafters = [SimulatedDrafter(0.9), SimulatedDrafter(0.4)]
    given = run(drafters, [SimulatedTarget(drafters, clock, 12)], clock, 2000)
    assert 1.3 * given[1] < given[0] < 10 * given[1]


def test_a_drafter_that_mends_its_ways_is_found_out(clock):
    drafters = [SimulatedDrafter(0.8), SimulatedDrafter(0.0)]
    targets = [SimulatedTarget(drafters, clock, 8)]
    before = run(drafters, targets, clock, 2000)
    drafters[1].right = 0.8
    after = run(drafters, targets, clock, 8000)
    assert before[1] < 0.15 * before[0]
    assert after[1] > 0.6 * after[0]


def test_targets_leave_each_other_room(clock):
    """One target has a drafter to itself at first; another, which could use all three, fills up the other two."""
    drafters = [SimulatedDrafter(0.7) for _ in range(3)]
    first = SimulatedTarget(drafters[:1], clock, 12, seed=1)
    second = SimulatedTarget(drafters, clock, 24, seed=2)
    run(drafters, [first, second], clock, 1500)
    held = [len(drafter.sequences) for drafter in drafters]
    assert sum(held) == 36
    assert max(held) - min(held) <= 6
    assert sum(target is second for target, _ in drafters[0].sequences) <= 4


def test_a_text_goes_back_to_the_drafter_that_knows_it(clock):
    drafters = [SimulatedDrafter(0.7) for _ in range(4)]
    target = SimulatedTarget(drafters, clock, 0)
    prompts = [[i] * 64 for i in range(8)]
    homes = []
    for prompt in prompts:
        target.open(prompt)
        homes.append(next(d for d in drafters if (target, target._next) in d.sequences))
    for seq_id in list(target.texts):
        target.placement.apply(CloseDraft(seq_id))
    assert {id(home) for home in homes} == {id(drafter) for drafter in drafters}
    for i in (3, 0, 6, 5):
        target.open([*prompts[i], 7, 7])
        assert (target, target._next) in homes[i].sequences
        target.placement.apply(CloseDraft(target._next))


def test_what_a_drafter_knew_is_forgotten_when_it_is_lost(clock):
    drafters = [SimulatedDrafter(0.7) for _ in range(2)]
    target = SimulatedTarget(drafters, clock, 0)
    target.open([5] * 64)
    home = next(i for i, d in enumerate(drafters) if d.sequences)
    target.placement.apply(CloseDraft(1))
    link = target.links[home]
    target.placement.remove_link(link)
    target.placement.add_link(link)  # now the last to be looked at, and as unknown as the other
    target.open([5] * 64)
    assert (target, 2) in drafters[1 - home].sequences
