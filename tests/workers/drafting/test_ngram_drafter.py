from workers.contract.draft import OpenDraft
from workers.contract.sampling_params import SamplingParams
from workers.drafting.drafter import DraftPeer, DraftState
from workers.drafting.ngram_drafter import NgramDrafter

PEER = DraftPeer(100, lambda replies: None)


def opened(tokens, k):
    return DraftState.start(PEER, OpenDraft(1, tokens, SamplingParams(), k))


def test_every_sequence_is_looked_up_in_its_own_text():
    drafter = NgramDrafter(3, 2)
    first, second, third = opened([1, 2, 3, 1, 2], 2), opened([1, 2, 4, 1, 2], 3), opened([7, 8], 2)
    assert drafter.advance([first, second, third]).finished == [first, second, third]
    assert (first.draft, second.draft, third.draft) == ([3, 1], [4, 1, 2], [])


def test_commits_extend_the_index():
    drafter = NgramDrafter(3, 2)
    state = opened([1, 2, 3], 2)
    drafter.advance([state])
    assert state.draft == []
    state.commit([9, 1, 2], 2)
    drafter.advance([state])
    assert state.draft == [3, 9]
    state.commit([3, 9], 1)
    drafter.advance([state])
    assert state.draft == [1]
    drafter.forget(state)
    drafter.advance([state])
    assert state.draft == [1]
