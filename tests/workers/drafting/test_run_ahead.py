"""A drafter that runs ahead: what it prepares is what it would have drafted, had it known the verdict."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.toy_target import VOCAB, ToyTarget, choice, plain_text
from workers.contract.draft import Busy, CloseDraft, CommitDraft, OpenDraft
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.drafting.desk import DraftDesk
from workers.drafting.drafter import DraftPeer
from workers.drafting.model_drafter import ModelDrafter

PEER = DraftPeer(VOCAB, lambda replies: None)


class Rig:
    """A desk with a toy model's drafter, and the texts as their target has them."""

    def __init__(self, rows=64, **runner):
        self.runner = ToyTarget(**{"num_blocks": 400, **runner})
        self.drafter = ModelDrafter(self.runner)
        self.desk = DraftDesk(self.drafter, 16, rows)
        self.texts, self.params = {}, {}
        self.length = 0

    def open(self, seq_id, tokens, length=3, ahead=6, peer=PEER):
        self.texts[seq_id], self.params[seq_id] = list(tokens), SamplingParams(seed=seq_id)
        self.desk.apply(peer, OpenDraft(seq_id, tuple(tokens), self.params[seq_id], length, "", ahead))

    def commit(self, seq_id, tokens, length=3, ahead=6):
        base = len(self.texts[seq_id])
        self.texts[seq_id] += tokens
        self.desk.apply(PEER, CommitDraft(seq_id, base, tuple(tokens), length, ahead))

    def blocks(self):
        return [reply for reply in self.desk.take_replies().get(PEER, []) if not isinstance(reply, Busy)]

    def run(self):
        """Step until nobody wants anything; return all blocks, by kind."""
        steps = 0
        while not self.desk.idle:
            self.desk.step()
            steps += 1
            assert steps < 200
        blocks = self.blocks()
        return [b for b in blocks if not b.ahead_of], [b for b in blocks if b.ahead_of]

    def draft(self, seq_id, length=3):
        return plain_text(self.texts[seq_id], self.params[seq_id], length)

    def assert_right(self, block):
        """Every outcome goes on as plain decoding does after the verdict that it is about."""
        text, params = self.texts[block.seq_id], self.params[block.seq_id]
        base = block.ahead_of or len(text)
        for outcome in block.outcomes:
            accepted = outcome.base_len - base - 1
            draft = plain_text(text[:base], params, max(accepted, 0))
            known = text[:base] + draft
            if accepted >= 0:
                bonus = next(
                    t for t in range(VOCAB) if prefix_hash([*known, t]) == outcome.base_hash
                )  # a verdict's last token is the target's own
                known.append(bonus)
            assert outcome.base_hash == prefix_hash(known)
            assert list(outcome.continuation) == plain_text(known, params, len(outcome.continuation))


def test_verdicts_are_prepared_for_once_the_block_is_sent():
    rig = Rig()
    rig.open(1, [5, 6, 7])
    (answer,), (prepared,) = rig.run()
    assert answer.outcomes[0].continuation == tuple(rig.draft(1))
    assert prepared.ahead_of == 3
    assert len(prepared.outcomes) == 6
    assert {outcome.base_len for outcome in prepared.outcomes} == {4, 5, 6, 7}  # 0 to 3 accepted, and one more
    assert all(len(outcome.continuation) == 3 for outcome in prepared.outcomes)
    rig.assert_right(prepared)


@pytest.mark.parametrize("accepted", [0, 1, 3])
def test_a_verdict_that_was_prepared_for_is_answered_without_a_step(accepted):
    rig = Rig()
    rig.open(1, [5, 6, 7])
    rig.run()
    draft = rig.draft(1, accepted)
    own = choice([5, 6, 7, *draft], rig.params[1])
    verdict = [*draft, own if accepted == 3 else (own + 1) % VOCAB]  # the toy's second best
    rig.runner.plans.clear()
    rig.commit(1, verdict)
    (answer,) = rig.blocks()
    assert answer.outcomes[0].continuation == tuple(rig.draft(1))
    assert rig.runner.plans == []
    _, (prepared,) = rig.run()
    rig.assert_right(prepared)


@pytest.mark.parametrize("steps", range(3, 9))
def test_a_verdict_about_less_than_the_draft_is_followed_by_the_rest_of_the_draft(steps):
    rig = Rig()
    rig.open(1, [5, 6, 7], ahead=4)
    for _ in range(steps):
        rig.desk.step()
    draft = rig.draft(1)
    rig.commit(1, draft[:1])
    rig.blocks()
    rig.commit(1, draft[1:2])
    (answer,), _ = rig.run()
    assert answer.outcomes[0].continuation == tuple(rig.draft(1))


def test_a_verdict_that_was_not_prepared_for_costs_only_what_a_block_costs():
    rig = Rig()
    rig.open(1, [5, 6, 7])
    rig.run()
    rig.runner.plans.clear()
    rig.commit(1, [(choice([5, 6, 7], rig.params[1]) + 30) % VOCAB])
    for _ in range(3):
        rig.desk.step()
    (answer,) = rig.blocks()
    assert answer.outcomes[0].continuation == tuple(rig.draft(1))
    assert [plan.num_tokens for plan in rig.runner.plans] == [1, 1, 1]


def test_blocks_come_before_preparations_and_share_their_steps():
    rig = Rig()
    rig.open(1, [5, 6, 7], length=2, ahead=3)
    for _ in range(2):
        rig.desk.step()
    rig.open(2, [8, 9], length=2, ahead=3)
    rig.runner.plans.clear()
    rig.desk.step()
    assert len(rig.runner.plans) == 1
    assert rig.runner.plans[0].rows[0].tokens == [8, 9]
    assert len(rig.runner.plans[0].rows) > 1


def test_where_blocks_are_made_in_one_go_preparations_still_leave_room_for_the_next_ask():
    rig = Rig(overlaps=True)
    rig.open(1, [5, 6, 7], ahead=3)
    rig.desk.step()
    (answer,) = rig.blocks()
    assert answer.outcomes[0].continuation == tuple(rig.draft(1))
    rig.runner.plans.clear()
    rig.desk.step()
    assert len(rig.runner.plans) == 1
    rig.open(2, [8, 9], ahead=3)
    rig.desk.step()
    (answer,) = rig.blocks()
    assert answer.outcomes[0].continuation == tuple(rig.draft(2))
    _, prepared = rig.run()
    for block in prepared:
        rig.assert_right(block)


def test_a_busy_drafter_prepares_less_and_a_full_one_nothing():
    rig = Rig(rows=8)
    for seq_id in range(1, 5):
        rig.open(seq_id, [seq_id, 6, 7])
    _, prepared = rig.run()
    assert [len(block.outcomes) for block in prepared] == [2, 2, 2, 2]
    for seq_id in range(5, 10):
        rig.open(seq_id, [seq_id, 6, 7])
    assert rig.run()[1] == []
    for seq_id in range(2, 10):
        rig.desk.apply(PEER, CloseDraft(seq_id))
    rig.commit(1, [3])
    assert len(rig.run()[1][0].outcomes) == 6


def test_a_target_that_asks_for_no_preparations_gets_none():
    rig = Rig()
    rig.open(1, [5, 6, 7], ahead=0)
    assert [len(blocks) for blocks in rig.run()] == [1, 0]
    assert len(rig.runner.plans) == 3


def test_the_end_of_what_the_model_can_read_ends_preparations_too():
    rig = Rig(max_model_len=8)
    rig.open(1, [5, 6, 7, 8, 9], length=3)
    answers, prepared = rig.run()
    assert answers[0].outcomes[0].continuation == tuple(rig.draft(1))
    for block in prepared:
        rig.assert_right(block)


def test_without_room_for_branches_drafts_are_made_all_the_same():
    rig = Rig(num_blocks=3, block_size=4)
    rig.open(1, [5, 6, 7, 8, 9])
    answers, prepared = rig.run()
    assert answers[0].outcomes[0].continuation == tuple(rig.draft(1))
    assert sum(len(block.outcomes) for block in prepared) <= 1
    rig.commit(1, [*rig.draft(1), 2])
    assert rig.run()[0][0].outcomes[0].continuation == tuple(rig.draft(1))


def test_tokens_that_mean_nothing_to_the_target_are_not_prepared_for():
    small = DraftPeer(30, lambda replies: None)
    rig = Rig()
    rig.open(1, [5, 6, 7], peer=small)
    while not rig.desk.idle:
        rig.desk.step()
    for block in rig.desk.take_replies()[small]:
        for outcome in block.outcomes:
            assert all(token < 30 for token in outcome.continuation)
            if block.ahead_of:
                text = [5, 6, 7, *plain_text([5, 6, 7], rig.params[1], outcome.base_len - 4)]
                assert any(prefix_hash([*text, token]) == outcome.base_hash for token in range(30))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_is_decided_and_when_outcomes_are_right_and_blocks_come_back(data):
    rows, num_blocks = data.draw(st.sampled_from([4, 64])), data.draw(st.sampled_from([30, 400]))
    rig = Rig(rows=rows, num_blocks=num_blocks, overlaps=data.draw(st.booleans()))
    free = rig.drafter._kv._pool.num_free
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["open", *["verdict"] * 2, "plain", "again", *["step"] * 2, "run", "close"]))
        seq_id = data.draw(st.sampled_from(sorted(rig.texts))) if rig.texts else None
        if action == "open" and len(rig.texts) < 4:
            prompt = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=14))
            rig.open(len(rig.params), prompt, data.draw(st.integers(1, 4)), data.draw(st.integers(0, 8)))
        elif seq_id is None:
            continue
        elif action == "verdict":
            accepted = data.draw(st.integers(0, 4))
            draft = rig.draft(seq_id, accepted + 1)
            verdict = [*draft[:accepted], (draft[accepted] + data.draw(st.integers(0, 4))) % VOCAB]
            rig.commit(seq_id, verdict, data.draw(st.integers(1, 4)), data.draw(st.integers(0, 8)))
        elif action == "plain":
            rig.commit(seq_id, rig.draft(seq_id, 1))
        elif action == "again":
            rig.commit(seq_id, [], data.draw(st.integers(1, 4)), data.draw(st.integers(0, 8)))
        elif action == "step" and not rig.desk.idle:
            rig.desk.step()
        elif action == "run":
            for blocks in rig.run():
                for block in (b for b in blocks if b.seq_id in rig.texts):
                    if block.ahead_of or block.outcomes[0].base_len == len(rig.texts[block.seq_id]):
                        rig.assert_right(block)
        elif action == "close":
            rig.desk.apply(PEER, CloseDraft(seq_id))
            del rig.texts[seq_id]
        if rig.desk.idle:
            rig.blocks()
    rig.desk.leave(PEER)
    assert rig.drafter._kv._pool.num_free == free


def test_who_only_prepares_does_not_wait_for_a_block():
    rig = Rig()
    rig.open(1, [1, 2, 3])
    assert rig.desk.load().queued_sequences == 1
    while not rig.desk.load().blocks_asked:
        rig.desk.step()
    assert not rig.desk.idle, "it runs ahead"
    assert rig.desk.load().queued_sequences == 0
    rig.run()
    assert rig.desk.load().blocks_prepared == 1
    assert sum(rig.desk.step_seconds.counts) > 1
