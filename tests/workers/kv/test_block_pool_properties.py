"""Any history of admissions, growth, rejected drafts, preemptions and endings keeps the books straight."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from workers.contract.sampling_params import SamplingParams
from workers.contract.sequence import Sequence
from workers.kv.block_pool import BlockPool

NUM_BLOCKS, BLOCK_SIZE = 6, 2
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=9)


class Pool(RuleBasedStateMachine):
    """``memory`` stands for the cache: what was last written to each slot, and behind which whole prefix."""

    live = Bundle("live")

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS, BLOCK_SIZE)
        self.memory = {}
        self.sequences = []
        self.forks = {}  # each with the sequence that it borrows from

    def free(self, seq):
        """Tell whether nobody else has its text or its blocks."""
        return seq in self.sequences and seq not in self.forks and seq not in self.forks.values()

    def write(self, seq, tokens, start):
        """Feed tokens as a step does: nothing that another sequence holds or borrows may be hit."""
        context = [*seq.tokens[:start], *tokens]
        shared = {b for other in self.sequences if other is not seq for b in other.block_ids}
        for position in range(start, len(context)):
            block = seq.block_ids[position // BLOCK_SIZE]
            assert block not in shared
            self.memory[block, position % BLOCK_SIZE] = (seq.salt, tuple(context[: position + 1]))

    @rule(target=live, tokens=TOKENS, salt=st.sampled_from(["", "a"]))
    def admit(self, tokens, salt):
        seq = Sequence(len(self.sequences), list(tokens), len(tokens), SamplingParams(), salt)
        found = self.pool.attach_prefix(seq)
        assert found == seq.computed <= len(tokens) - 1
        assert found % BLOCK_SIZE == 0
        self.sequences.append(seq)
        return seq

    @rule(seq=live, count=st.integers(1, 6), draft=st.lists(st.integers(0, 1), max_size=4))
    def step(self, seq, count, draft):
        """Compute some pending tokens and a draft behind them that is then rejected."""
        if seq not in self.sequences:
            return
        end = min(seq.computed + count, len(seq))
        before, free = seq.block_ids[:], self.pool.num_free
        if not self.pool.reserve(seq, end + len(draft)):
            assert (seq.block_ids, self.pool.num_free) == (before, free)
            assert self.pool.blocks_for(end + len(draft)) - len(before) > free
            return
        self.write(seq, [*seq.tokens[seq.computed : end], *draft], seq.computed)
        seq.computed = end
        self.pool.publish(seq)

    @rule(seq=live, token=st.integers(0, 1))
    def emit(self, seq, token):
        if self.free(seq):
            seq.tokens.append(token)

    @rule(seq=live)
    def preempt(self, seq):
        if self.free(seq):
            self.pool.release(seq)
            self.pool.attach_prefix(seq)

    @rule(target=live, seq=live, data=st.data())
    def fork(self, seq, data):
        """Go on twice from one place; the last block that is shared in part is copied."""
        if seq not in self.sequences or seq in self.forks:
            return seq
        count = data.draw(st.integers(seq.published_blocks * BLOCK_SIZE, seq.computed))
        free = self.pool.num_free
        forked = self.pool.fork(seq, count, len(self.sequences) + 1000)
        if forked is None:
            assert free == 0 and count % BLOCK_SIZE
            return seq
        twin, copied = forked
        assert (copied is not None) == (count % BLOCK_SIZE > 0) == (self.pool.num_free < free)
        assert twin.computed == count
        for offset in range(BLOCK_SIZE) if copied else ():
            if (copied[0], offset) in self.memory:
                self.memory[copied[1], offset] = self.memory[copied[0], offset]
        self.sequences.append(twin)
        self.forks[twin] = seq
        return twin

    @rule(fork=live)
    def succeed(self, fork):
        """A fork takes the place of what it was made of, and the other forks end."""
        if fork not in self.forks:
            return
        lender = self.forks.pop(fork)
        for other in [twin for twin in self.forks if self.forks[twin] is lender]:
            self.finish_fork(other)
        self.pool.succeed(fork, lender)
        self.sequences.remove(lender)

    def finish_fork(self, fork):
        del self.forks[fork]
        self.pool.release(fork)
        self.sequences.remove(fork)

    @rule(seq=consumes(live))
    def finish(self, seq):
        if seq in self.forks:
            self.finish_fork(seq)
        elif self.free(seq):
            self.pool.release(seq)
            self.sequences.remove(seq)

    @invariant()
    def every_block_is_held_or_free_and_counted_once(self):
        held = {b for seq in self.sequences for b in seq.block_ids}
        assert len(held) + self.pool.num_free == NUM_BLOCKS
        assert held <= set(range(NUM_BLOCKS))
        assert abs(self.pool.usage - len(held) / NUM_BLOCKS) < 1e-9

    @invariant()
    def no_block_is_held_twice_unless_as_the_same_computed_prefix(self):
        holders = Counter(b for seq in self.sequences for b in seq.block_ids)
        for seq in self.sequences:
            assert len(set(seq.block_ids)) == len(seq.block_ids)
            for i, block in enumerate(seq.block_ids):
                assert holders[block] == 1 or (i + 1) * BLOCK_SIZE <= seq.computed

    @invariant()
    def whatever_counts_as_computed_holds_exactly_these_tokens_and_salt(self):
        for seq in self.sequences:
            for position in range(seq.computed):
                slot = seq.block_ids[position // BLOCK_SIZE], position % BLOCK_SIZE
                assert self.memory[slot] == (seq.salt, tuple(seq.tokens[: position + 1]))


Pool.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPool = Pool.TestCase


def test_everything_comes_back_when_all_sequences_end():
    pool = BlockPool(NUM_BLOCKS, BLOCK_SIZE)
    sequences = [Sequence(i, [0, 1] * 2, 4, SamplingParams()) for i in range(3)]
    for seq in sequences:
        pool.attach_prefix(seq)
        assert pool.reserve(seq, 4)
        seq.computed = 4
        pool.publish(seq)
    for seq in sequences:
        pool.release(seq)
        pool.release(seq)
    assert (pool.num_free, pool.usage) == (NUM_BLOCKS, 0.0)
