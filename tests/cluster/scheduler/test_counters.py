"""What the planner counts: idle time, rounds without drafts by cause, and what became of draft tokens."""

import pytest

from cluster.scheduler.events import Cancelled, DraftersConnected
from cluster.scheduler.fallback import Fallback
from tests.cluster.scheduler.test_planner import Rig, request
from tests.support.toy_target import plain_text
from workers.contract.draft import DraftBlock, DraftSource, Outcome, Waste
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams

PROMPT = [7, 8]
TEXT = plain_text(PROMPT, SamplingParams(seed=1), 40)


def outcome(emitted: int, *continuation: int) -> Outcome:
    base = [*PROMPT, *TEXT[:emitted]]
    return Outcome(len(base), prefix_hash(base), continuation)


@pytest.fixture
def rig():
    rig = Rig(lookup=False, draft_length=4, draft_wait_ms=0.0)
    rig.planner.observe(DraftersConnected(1))
    rig.add(request("a", PROMPT, 40, seed=1))
    rig.step()
    return rig


def block(rig: Rig, *outcomes: Outcome) -> None:
    rig.draft([DraftBlock(1, outcomes)])


def wasted(rig: Rig) -> dict[Waste, int]:
    counts = rig.planner.load().wasted_draft_tokens
    return {cause: counts[cause] for cause in Waste if counts[cause]}


def fallbacks(rig: Rig) -> dict[Fallback, int]:
    counts = rig.planner.load().fallback_rounds
    return {cause: counts[cause] for cause in Fallback if counts[cause]}


def test_time_without_work_is_idle_and_time_with_it_is_not():
    rig = Rig(draft_length=0)
    rig.step()
    rig.now = 3.0
    rig.step()
    assert rig.planner.load().idle_seconds == 3.0, "it grows while nothing happens"
    rig.now = 5.0
    rig.add(request("a", [1], 2))
    rig.step()
    rig.now = 50.0
    rig.step()
    assert rig.planner.load().idle_seconds == 5.0


def test_a_draft_that_is_refused_is_waste_as_far_as_it_was_wrong(rig):
    right, wrong = TEXT[1], (TEXT[2] + 1) % 50
    block(rig, outcome(1, right, wrong, 3, 4))
    rig.step()
    assert wasted(rig) == {Waste.REJECTED: 3}
    assert rig.planner.load().rows_by_draft_length[4] == 1


def test_what_a_stop_token_cuts_off_was_not_accepted():
    rig = Rig(lookup=False, draft_length=4, draft_wait_ms=0.0)
    rig.planner.observe(DraftersConnected(1))
    rig.add(request("a", PROMPT, 40, seed=1, stop=[TEXT[2]]))
    rig.step()
    block(rig, outcome(1, *TEXT[1:5]))
    rig.step()
    assert rig.text["a"] == TEXT[:3], "the stop token is the last"
    load = rig.planner.load()
    assert (load.generated_tokens, load.draft_tokens, load.accepted_tokens) == (3, 4, 2)
    assert load.accepted_tokens_by_source[DraftSource.DRAFTER] == rig.sources["a"].count(DraftSource.DRAFTER) == 2
    assert load.accepted_per_position == (1, 1, 0, 0)
    assert wasted(rig) == {Waste.REJECTED: 2}


def test_outcomes_are_wasted_by_cause(rig):
    rig.step()
    rig.step()
    assert rig.text["a"] == TEXT[:3]
    block(rig, outcome(1, TEXT[1], TEXT[2]))
    rig.step()
    assert wasted(rig) == {Waste.LATE: 2}
    block(rig, outcome(1, TEXT[1], TEXT[2] + 1, 9))
    rig.step()
    assert wasted(rig) == {Waste.LATE: 2, Waste.MISPREDICTED: 3}
    block(rig, Outcome(len(PROMPT) + 5, 12345, (1, 2, 3, 4)))
    rig.step()
    assert wasted(rig) == {Waste.LATE: 2, Waste.MISPREDICTED: 7}
    block(rig, outcome(20, 1), outcome(20, 1, 2), outcome(20, 1, 2))
    assert wasted(rig) == {Waste.LATE: 2, Waste.MISPREDICTED: 7, Waste.SURPLUS: 3}
    rig.planner.observe(Cancelled("a"))
    assert wasted(rig)[Waste.ENDED] == 2
    block(rig, outcome(20, 1, 2, 3))
    assert wasted(rig)[Waste.ENDED] == 5
    assert rig.planner.load().draft_tokens_received == 2 + 3 + 4 + 5 + 3


def test_rounds_without_a_draft_are_counted_by_cause(rig):
    rig.step()
    assert fallbacks(rig) == {Fallback.LATE: 1}, "asked for, not there"
    block(rig, Outcome(len(PROMPT) + 2, prefix_hash([*PROMPT, *TEXT[:2]]), ()))
    rig.step()
    assert fallbacks(rig) == {Fallback.LATE: 1, Fallback.UNFIT: 1}
    rig.planner.observe(DraftersConnected(0))
    rig.step()
    assert fallbacks(rig) == {Fallback.LATE: 1, Fallback.UNFIT: 1, Fallback.NO_DRAFTER: 1}
    block(rig, outcome(4, *TEXT[4:8]))
    rig.step()
    assert sum(fallbacks(rig).values()) == 3, "this one had a draft"


def test_a_request_that_may_not_speculate_does_not_fall_back():
    rig = Rig(lookup=False, draft_length=4)
    rig.add(request("a", PROMPT, 10, max_draft_tokens=0))
    rig.run()
    assert fallbacks(rig) == {}


def test_a_policy_that_does_not_ask_says_so():
    rig = Rig(policy="adaptive", lookup=False)
    rig.planner.observe(DraftersConnected(1))
    rig.add(request("a", PROMPT, 10))
    rig.run()
    assert set(fallbacks(rig)) <= {Fallback.NOT_ASKED, Fallback.LATE}
    assert fallbacks(rig)[Fallback.NOT_ASKED] > 0


def test_the_size_of_steps_is_counted(rig):
    sizes = rig.planner.counters.step_sizes
    assert sum(sizes.seconds.counts) == sum(sizes.sequences.counts) == 1, "the step before that one"
    assert sizes.positions.total == len(PROMPT)
