"""A target without a model: its choice is a hash of everything before it, read back through the block table.

It stores fed tokens in slots as a KV cache does and hashes what it finds there, so a wrong block, a block
that two sequences write, a skipped position or a stale rejected draft changes the text.
"""

from collections.abc import Sequence as Seq

from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepOutput, StepPlan

VOCAB = 50


def choice(tokens: Seq[int], params: SamplingParams) -> int:
    """The toy target's next token: a function of the prefix and the seed, as for any coupled target."""
    return prefix_hash(tokens, params.seed + 1) % VOCAB


def plain_text(prompt: Seq[int], params: SamplingParams, n: int) -> list[int]:
    """What plain decoding would emit."""
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(choice(tokens, params))
    return tokens[len(prompt) :]


class ToyTarget:
    """A StepRunner on slots instead of tensors."""

    overlaps = False

    def __init__(
        self, num_blocks: int = 64, block_size: int = 4, max_model_len: int = 128, overlaps: bool = False
    ) -> None:
        if overlaps:
            self.overlaps = True
        self.identity = ModelIdentity("toy", VOCAB, "", max_model_len, "toy")
        self.num_blocks, self.block_size, self.max_model_len = num_blocks, block_size, max_model_len
        self.slots: dict[int, int] = {}
        self.plans: list[StepPlan] = []

    def execute(self, plan: StepPlan) -> StepOutput:
        self.plans.append(plan)
        for row in plan.rows:
            for i, token in enumerate(row.tokens):
                self.slots[self._slot(row, row.start + i)] = token
        return StepOutput([self._choices(row) for row in plan.rows])

    def probe(self) -> None:
        """A toy that can execute can compute."""
        self.execute(StepPlan(()))

    def rank(self, plan: StepPlan, guesses: Seq[int], count: int) -> list[list[list[int]]]:
        """The choices and what stands in for the next best: the ids after them."""
        assert [row.num_samples for row in plan.rows] == [min(wanted, 1) for wanted in guesses]
        lines = self.execute(plan).sampled
        for step in range(1, max(guesses, default=0)):
            going = [(row, line) for row, line, wanted in zip(plan.rows, lines, guesses, strict=True) if wanted > step]
            rows = (
                Row(row.seq_id, line[-1:], row.start + len(row.tokens) + step - 1, row.block_ids, 1, row.params)
                for row, line in going
            )
            for (_, line), chosen in zip(going, self.execute(StepPlan(tuple(rows))).sampled, strict=True):
                line += chosen
        return [[[(token + r) % VOCAB for r in range(count)] for token in line] for line in lines]

    def copy_block(self, source: int, destination: int) -> None:
        for offset in range(self.block_size):
            if source * self.block_size + offset in self.slots:
                self.slots[destination * self.block_size + offset] = self.slots[source * self.block_size + offset]

    def _slot(self, row: Row, position: int) -> int:
        return row.block_ids[position // self.block_size] * self.block_size + position % self.block_size

    def _choices(self, row: Row) -> list[int]:
        end = row.start + len(row.tokens)
        tokens = [self.slots[self._slot(row, p)] for p in range(end)]
        return [choice(tokens[: p + 1], row.params) for p in range(end - row.num_samples, end)]
