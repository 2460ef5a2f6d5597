"""Three ranks and one on the real model in float32: the same greedy text, but for near-ties, which are printed."""

import multiprocessing
import os
import queue
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from cluster.engine import Engine
from cluster.scheduler.settings import SchedulerSettings
from tests.truth.cases import GREEDY, make_cases
from workers.contract.request import GenerationRequest, Progress, Stopping
from workers.contract.step import Row, StepPlan
from workers.input_batch import pack
from workers.model_runner import ModelRunner
from workers.rank import join, run_rank
from workers.settings import RunnerSettings
from workers.tokenizer import Tokenizer

RANKS = 3
TIMEOUT_S = 300.0
NEAR_TIE = 1e-3
SETTINGS = RunnerSettings(dtype="float32", max_model_len=1024, kv_cache_bytes=512 * 2**20, threads=1)

Prompts = dict[str, tuple[int, ...]]
Texts = dict[str, list[int]]


def greedy_texts(runner: ModelRunner, prompts: Prompts, max_tokens: int) -> Texts:
    """Serve every prompt through an engine, eight at a time."""
    engine = Engine(runner, SchedulerSettings(draft_length=0, max_running=8))
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    texts: Texts = {name: [] for name in prompts}

    def sink(items: list[Progress]) -> None:
        for item in items:
            texts[item.request_id] += item.tokens
            if item.finish_reason:
                done.put(item.request_id)

    for name, prompt in prompts.items():
        engine.submit(GenerationRequest(name, prompt, GREEDY, Stopping(max_tokens)), sink)
    engine.start()
    for _ in prompts:
        done.get(timeout=TIMEOUT_S * 4)
    engine.stop()
    return texts


def lead(meeting: str, prompts: Prompts, max_tokens: int, results: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    runner = ModelRunner.from_settings(SETTINGS, join(SETTINGS, 0, RANKS, meeting, TIMEOUT_S))
    results.send(greedy_texts(runner, prompts, max_tokens))
    runner.close()


def follow(rank: int, meeting: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    run_rank(SETTINGS, rank, RANKS, meeting, TIMEOUT_S)


def texts_of_three_ranks(folder: Path, prompts: Prompts, max_tokens: int) -> Texts:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    meeting = f"file://{folder}/meeting"
    ranks = [context.Process(target=lead, args=(meeting, prompts, max_tokens, sender))]
    ranks += [context.Process(target=follow, args=(rank, meeting)) for rank in range(1, RANKS)]
    for process in ranks:
        process.start()
    sender.close()
    try:
        texts: Texts = receiver.recv()
        for process in ranks:
            process.join(TIMEOUT_S)
        return texts
    finally:
        for process in ranks:
            process.kill()


def gap_after(runner: ModelRunner, tokens: list[int]) -> float:
    """Return how far the two best logits after ``tokens`` lie apart, on one rank."""
    pages = range(-(-len(tokens) // runner.block_size))
    plan = StepPlan((Row(0, tokens, 0, pages, 1, GREEDY),))
    logits = runner.logits(pack(plan, runner.block_size, runner.num_blocks, 2))
    assert logits is not None
    best, second = logits[0].topk(2).values.tolist()
    return best - second


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_ranks_differ_from_one_only_at_near_ties(tokenizer: Tokenizer, tmp_path: Path) -> None:
    cases = [case for case in make_cases(tokenizer, range(32), 128) if case.params is GREEDY]
    prompts = {case.name: case.prompt for case in cases}
    threads = torch.get_num_threads()
    try:
        alone = ModelRunner.from_settings(SETTINGS.model_copy(update={"threads": 2}))
        expected = greedy_texts(alone, prompts, 128)
        got = texts_of_three_ranks(tmp_path, prompts, 128)
        gaps = {}
        for name, text in expected.items():
            at = next((i for i, (a, b) in enumerate(zip(text, got[name], strict=True)) if a != b), None)
            if at is not None:
                gaps[f"{name}, token {at}"] = gap_after(alone, [*prompts[name], *text[:at]])
    finally:
        torch.set_num_threads(threads)
    equal = len(prompts) - len(gaps)
    print(f"\n{equal} of {len(prompts)} texts equal; gaps of the two best logits where they part: {gaps}")
    assert all(gap < NEAR_TIE for gap in gaps.values()), gaps
