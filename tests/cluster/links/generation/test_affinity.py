import random

from hypothesis import given
from hypothesis import strategies as st

from cluster.links.generation.affinity import MAX_PULL, TOKENS_PER_REQUEST, cost
from cluster.links.prefix_memory import PrefixMemory
from workers.contract.sampling_params import SamplingParams
from workers.contract.sequence import Sequence
from workers.kv.block_hash import PrefixChain
from workers.kv.block_pool import BlockPool


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10**6)), min_size=1, max_size=8))
def test_no_prompt_is_worth_more_than_the_bound(targets):
    chosen = min(targets, key=lambda target: (cost(*target), target[0]))
    assert chosen[0] <= min(queue for queue, _ in targets) + MAX_PULL
    equally_loaded = [found for queue, found in targets if queue == chosen[0]]
    if max(equally_loaded) <= TOKENS_PER_REQUEST * MAX_PULL:
        assert chosen[1] == max(equally_loaded)


def test_an_ordinary_request_ahead_is_made_up_for_by_as_many_tokens():
    assert cost(3, TOKENS_PER_REQUEST + 1) < cost(2, 0) < cost(3, TOKENS_PER_REQUEST - 1)


class Target:
    """As much of a target as matters here: its queue and its real prefix cache."""

    def __init__(self) -> None:
        self.pool = BlockPool(400, 16)
        self.running: list[Sequence] = []

    def serve(self, text: list[int]) -> int:
        """Compute a text and keep it running; return how much of it was in the cache."""
        sequence = Sequence(0, list(text), len(text), SamplingParams())
        cached = self.pool.attach_prefix(sequence)
        assert self.pool.reserve(sequence, len(text))
        sequence.computed = len(text)
        self.pool.publish(sequence)
        self.running.append(sequence)
        return cached


def serve_chats(weight: float, seed: int = 0) -> tuple[float, int]:
    """Serve turns of 24 chats on four targets; return the cached share of prompts and the worst imbalance."""
    draw, memory = random.Random(seed), PrefixMemory()
    targets = [Target() for _ in range(4)]
    texts = [[chat] * 200 for chat in range(24)]
    cached = total = imbalance = 0
    for _ in range(1500):
        text = texts[draw.randrange(24)]
        text += [draw.randrange(50) for _ in range(40)]
        del text[1000:]
        blocks = PrefixChain(16, "", text).hashes
        queues = [len(target.running) for target in targets]
        costs = [(cost(q, weight * memory.found(i, blocks)), q) for i, q in enumerate(queues)]
        chosen = costs.index(min(costs))
        memory.note(chosen, blocks)
        cached += targets[chosen].serve(text)
        total += len(text)
        queues[chosen] += 1
        imbalance = max(imbalance, queues[chosen] - min(queues))
        if sum(queues) > 8:
            target = draw.choice([target for target in targets if target.running])
            target.pool.release(target.running.pop(0))
    return cached / total, imbalance


def test_chats_stay_where_their_text_is_and_targets_stay_balanced():
    with_affinity, imbalance = serve_chats(1.0)
    without, _ = serve_chats(0.0)
    assert with_affinity > without + 0.1
    assert imbalance <= MAX_PULL + 1
