"""The emitted sequences' distribution, through the real scheduler and sampler, against exact enumeration."""

import itertools
import queue
from collections import Counter
from collections.abc import Sequence as Seq

import pytest
import torch
from scipy import stats

from cluster.engine import Engine
from cluster.scheduler.settings import SchedulerSettings
from workers.contract.draft import CommitDraft, DraftBlock, DraftOp, OpenDraft, Outcome
from workers.contract.identity import ModelIdentity
from workers.contract.prefix_hash import prefix_hash
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import StepOutput, StepPlan
from workers.sampling.coupled import SamplingBatch, choose_tokens

VOCAB, LENGTH, PROMPT, REQUESTS = 5, 3, [0, 1], 1500

MIXES = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 3},
    {"temperature": 1.3, "top_p": 0.8},
    {"temperature": 0.9, "min_p": 0.15},
    {"temperature": 1.5, "top_k": 4, "top_p": 0.9, "min_p": 0.05},
]


def table(seed: int) -> torch.Tensor:
    """Logits for the token after each pair of tokens, ``[VOCAB, VOCAB, VOCAB]``."""
    return torch.randn(VOCAB, VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed)) * 1.5


class TableTarget:
    """A model of two tokens' memory."""

    overlaps = False

    def __init__(self, logits: torch.Tensor) -> None:
        self.identity = ModelIdentity("table", VOCAB, "", 32, "table")
        self.num_blocks, self.block_size, self.max_model_len = 4096, 4, 32
        self._logits = logits
        self._fed: dict[int, list[int]] = {}

    def execute(self, plan: StepPlan) -> StepOutput:
        contexts: list[tuple[int, int]] = []
        rows: list[tuple[SamplingParams, int]] = []
        for row in plan.rows:
            tokens = self._fed[row.seq_id] = [*self._fed.get(row.seq_id, [])[: row.start], *row.tokens]
            for p in range(len(tokens) - row.num_samples, len(tokens)):
                contexts.append((tokens[p - 1], tokens[p]))
                rows.append((row.params, p + 1))
        chosen = choose_tokens(torch.stack([self._logits[c] for c in contexts]), SamplingBatch.from_params(rows))
        flat = iter(chosen.tolist())
        return StepOutput([list(itertools.islice(flat, r.num_samples)) for r in plan.rows])


class Drafter:
    """Drafts two tokens at a time in the engine's own thread, by the shared noise and logits of its own."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.engine: Engine | None = None
        self.open: dict[int, tuple[list[int], SamplingParams]] = {}

    def post(self, ops: Seq[DraftOp]) -> None:
        asked = []
        for op in ops:
            if isinstance(op, OpenDraft):
                self.open[op.seq_id] = (list(op.tokens), op.params)
            elif isinstance(op, CommitDraft):
                self.open[op.seq_id][0].extend(op.tokens)
            else:
                del self.open[op.seq_id]
                continue
            asked.append(op.seq_id)
        asked = [seq_id for seq_id in dict.fromkeys(asked) if seq_id in self.open]
        if not asked or self.engine is None:
            return
        texts = [self.open[seq_id][0] for seq_id in asked]
        guesses = self.guess([list(text) for text in texts], [self.open[seq_id][1] for seq_id in asked])
        outcomes = [Outcome(len(t), prefix_hash(t), tuple(g)) for t, g in zip(texts, guesses, strict=True)]
        self.engine.deliver([DraftBlock(i, (o,)) for i, o in zip(asked, outcomes, strict=True)])

    def guess(self, texts: list[list[int]], params: list[SamplingParams]) -> list[list[int]]:
        for _ in range(2):
            logits = torch.stack([self.logits[text[-2], text[-1]] for text in texts])
            rows = [(p, len(text)) for p, text in zip(params, texts, strict=True)]
            for text, token in zip(texts, choose_tokens(logits, SamplingBatch.from_params(rows)).tolist(), strict=True):
                text.append(token)
        return [text[-2:] for text in texts]


class Adversary(Drafter):
    """Knows the target and proposes what it likes least: the rarest token, or one at an end of the vocabulary."""

    def guess(self, texts: list[list[int]], params: list[SamplingParams]) -> list[list[int]]:
        rarest = [int(self.logits[text[-2], text[-1]].argmin()) for text in texts]
        return [[r, r] if p.seed % 2 else [0, VOCAB - 1] for r, p in zip(rarest, params, strict=True)]


def emitted_sequences(mix: dict[str, float], drafter: Drafter | None) -> tuple[dict[int, tuple[int, ...]], int]:
    """Serve one request per seed; return the emitted sequences by seed, and the accepted tokens."""
    target = TableTarget(table(1))
    engine = Engine(
        target,
        SchedulerSettings(policy="fixed", lookup=False, max_waiting=REQUESTS, max_draft_tokens_per_step=1000),
        drafter.post if drafter else None,
    )
    if drafter:
        drafter.engine = engine
        engine.drafters_connected(1)
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    text: dict[str, list[int]] = {}

    def sink(items) -> None:
        for item in items:
            text.setdefault(item.request_id, []).extend(item.tokens)
            if item.finish_reason:
                done.put(item.request_id)

    for seed in range(REQUESTS):
        params = SamplingParams(seed=seed, **mix)
        engine.submit(GenerationRequest(str(seed), PROMPT, params, Stopping(LENGTH)), sink)
    engine.start()
    for _ in range(REQUESTS):
        done.get(timeout=60)
    engine.stop()
    return {int(name): tuple(tokens) for name, tokens in text.items()}, engine.load().accepted_tokens


def exact(mix: dict[str, float]) -> dict[tuple[int, ...], float]:
    """Every sequence's probability, by the definitions of the processors, in plain Python."""
    logits = table(1)

    def step(tokens: tuple[int, ...]) -> list[float]:
        scaled = (logits[tokens[-2], tokens[-1]].double() / mix["temperature"]).softmax(-1).tolist()
        order = sorted(range(VOCAB), key=lambda v: (-scaled[v], v))
        kept = [v for v in order if scaled[v] >= mix.get("min_p", 0.0) * scaled[order[0]]]
        kept = kept[: int(mix.get("top_k", VOCAB)) or VOCAB]
        whole = sum(scaled[v] for v in kept)
        nucleus, mass = [], 0.0
        for v in kept:
            if mass >= mix.get("top_p", 1.0) * whole:
                break
            nucleus.append(v)
            mass += scaled[v]
        return [scaled[v] / mass if v in nucleus else 0.0 for v in range(VOCAB)]

    chances = {}
    for sequence in itertools.product(range(VOCAB), repeat=LENGTH):
        chance = 1.0
        for i, token in enumerate(sequence):
            chance *= step((*PROMPT, *sequence[:i]))[token]
        chances[sequence] = chance
    return chances


def chi_squared(sequences: Seq[tuple[int, ...]], chances: dict[tuple[int, ...], float]) -> float:
    """p-value of the observed counts; cells that expect fewer than five are pooled."""
    counts = Counter(sequences)
    assert all(chances[s] > 0 for s in counts), "a sequence that the processors rule out was emitted"
    observed, expected = [0.0], [0.0]
    for sequence, chance in chances.items():
        if chance * len(sequences) < 5:
            observed[0] += counts[sequence]
            expected[0] += chance * len(sequences)
        else:
            observed.append(counts[sequence])
            expected.append(chance * len(sequences))
    if expected[0] == 0:
        observed, expected = observed[1:], expected[1:]
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_every_drafter_leaves_the_targets_distribution_and_the_text_of_every_seed_alone(mix):
    torch.set_num_threads(1)
    plain, _ = emitted_sequences(mix, None)
    assert chi_squared(list(plain.values()), exact(mix)) > 0.001
    accepted = {}
    for name, drafter in {
        "good": Drafter(table(1)),
        "bad": Drafter(table(2)),
        "adversary": Adversary(table(1)),
    }.items():
        text, accepted[name] = emitted_sequences(mix, drafter)
        assert text == plain
    assert accepted["good"] > 1.5 * accepted["bad"] > 0
