"""The emulated drafter is right as often as it is told, about the same places for everybody, and counts its rows."""

import pytest

from cluster.bench.emulated.drafter import EmulatedDrafter, SettledAcceptance
from cluster.simulator.synthetic import VOCAB_SIZE, token
from workers.contract.draft import OpenDraft
from workers.contract.sampling_params import SamplingParams
from workers.drafting.drafter import DraftPeer, DraftState
from workers.drafting.fan_out import Verdict

PEER = DraftPeer(2 * VOCAB_SIZE, lambda replies: None)


def opened(seed: int, length: int, ahead: int = 0) -> DraftState:
    tokens = [token(seed, i) for i in range(5)]
    return DraftState.start(PEER, OpenDraft(seed, tokens, SamplingParams(seed=seed), length, ahead=ahead))


def test_of_all_tokens_the_given_share_is_guessed_right_and_most_others_are_second_choices():
    ranked = [SettledAcceptance(0.7).ranked(true, 0) for true in range(VOCAB_SIZE)]
    places = [choices.index(true) if true in choices else None for true, choices in enumerate(ranked)]
    assert [places.count(rank) for rank in range(4)] == [700, 240, 30, 9]


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_never_and_always(rate):
    state = opened(3, 4)
    drafter = EmulatedDrafter(rate, lambda rows: 0.0)
    while drafter.advance([state]).finished == []:
        pass
    assert (state.draft == [token(3, 5 + i) for i in range(4)]) is (rate == 1.0)


def test_asking_twice_brings_the_same_guesses():
    drafter = EmulatedDrafter(0.7, lambda rows: 0.0)
    drafts = []
    for _ in range(2):
        state = opened(3, 16)
        for _ in range(16):
            drafter.advance([state])
        drafts.append(state.draft)
    assert drafts[0] == drafts[1]


def test_a_row_is_a_guess_of_a_lane_and_decides_how_long_a_step_takes():
    rows = []
    drafter = EmulatedDrafter(1.0, lambda count: float(rows.append(count) or 0))
    first, second = opened(1, 1), opened(2, 2, ahead=2)
    drafter.advance([first, second])
    drafter.advance([second])
    second.answered = True
    second.run_ahead([Verdict(0, 1), Verdict(1, 1)])
    drafter.advance([second])
    assert rows == [2, 1, 2]
    assert (drafter.steps, drafter.rows) == (3, 5)
