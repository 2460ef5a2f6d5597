"""A drafter of a given quality: right as often as it is told to be, about the answers that it knows."""

import json

import pytest

from cluster.bench.never_slower.recorded_drafter import RecordedDrafter
from cluster.bench.workload import Answer
from workers.contract.draft import OpenDraft
from workers.contract.sampling_params import SamplingParams
from workers.drafting.drafter import DraftPeer, DraftState

PROMPT = [5, 6, 7]
ANSWER = list(range(100, 400))
PEER = DraftPeer(1000, lambda replies: None)


@pytest.fixture
def answers(tmp_path):
    file = tmp_path / "answers.jsonl"
    lines = [Answer(1, PROMPT, ANSWER), Answer(2, PROMPT, [1] * 300)]
    file.write_text("".join(json.dumps(answer.to_json()) + "\n" for answer in lines))
    return file


def opened(tokens, seed=1, length=4) -> DraftState:
    return DraftState.start(PEER, OpenDraft(1, tokens, SamplingParams(seed=seed), length))


def test_it_goes_on_where_the_text_stands(answers):
    drafter = RecordedDrafter(answers, acceptance=1.0, delay_s=0.0)
    state = opened(PROMPT + ANSWER[:2])
    assert drafter.advance([state]).finished == [state]
    assert state.draft == ANSWER[2:6]
    state.commit(ANSWER[2:4], 3)
    drafter.advance([state])
    assert state.draft == ANSWER[4:7]


def test_the_seed_tells_answers_to_one_prompt_apart(answers):
    state = opened(PROMPT, seed=2)
    RecordedDrafter(answers, 1.0, 0.0).advance([state])
    assert state.draft == [1, 1, 1, 1]


def test_what_was_never_answered_gets_an_empty_block(answers):
    state = opened([9, 9, 9])
    assert RecordedDrafter(answers, 1.0, 0.0).advance([state]).finished == [state]
    assert state.draft == []


def test_it_is_right_as_often_as_it_is_told(answers):
    drafter = RecordedDrafter(answers, acceptance=0.7, delay_s=0.0)
    firsts, seconds = [], []
    for i in range(250):
        state = opened(PROMPT + ANSWER[:i])
        drafter.advance([state])
        firsts.append(state.draft[0] == ANSWER[i])
        if firsts[-1]:
            seconds.append(state.draft[1] == ANSWER[i + 1])
        else:
            assert state.draft[1:] == [0, 0, 0]
    assert sum(firsts) / len(firsts) == pytest.approx(0.7, abs=0.1)
    assert sum(seconds) / len(seconds) == pytest.approx(0.7, abs=0.12)
