"""Having the target answer prompts, with the engine that serves: these are the texts that a drafter must guess."""

import itertools
import queue
import random
from collections.abc import Callable
from collections.abc import Sequence as Seq

from cluster.engine import Engine
from cluster.scheduler.settings import SchedulerSettings
from workers.contract.errors import OutriderError
from workers.contract.request import FinishReason, GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.distill.samples import Sample
from workers.model_runner import ModelRunner

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
"""Of answers, in turn: drafters serve all of them, and text drawn hotter says more about the target."""
AT_ONCE = 32


class AnswerError(OutriderError):
    """The target could not answer."""


def answer_prompts(
    runner: ModelRunner,
    prompts: Seq[Seq[int]],
    max_tokens: int,
    end_ids: frozenset[int],
    seed: int,
    take: Callable[[Sample], None],
) -> None:
    """Answer each prompt once, many at a time; ``take`` gets each answer as soon as it is whole.

    Raises:
        AnswerError: the engine failed.
    """
    engine = Engine(runner, SchedulerSettings(draft_length=0, lookup=False, max_running=AT_ONCE))
    arrived: queue.SimpleQueue[list[Progress]] = queue.SimpleQueue()
    rng = random.Random(seed)
    waiting = enumerate(prompts)
    asked: dict[str, tuple[Seq[int], float, list[int]]] = {}

    def submit() -> None:
        for number, prompt in itertools.islice(waiting, AT_ONCE - len(asked)):
            temperature = TEMPERATURES[number % len(TEMPERATURES)]
            params = SamplingParams(temperature, seed=rng.getrandbits(64))
            asked[str(number)] = (prompt, temperature, [])
            request = GenerationRequest(str(number), prompt, params, Stopping(max_tokens, end_ids))
            engine.submit(request, arrived.put)

    engine.start()
    try:
        submit()
        while asked:
            for progress in arrived.get():
                prompt, temperature, tokens = asked[progress.request_id]
                tokens.extend(progress.tokens)
                if progress.finish_reason is None:
                    continue
                del asked[progress.request_id]
                if progress.finish_reason is FinishReason.ERROR:
                    raise AnswerError(f"the target failed: {progress.message}")
                if tokens:
                    take(Sample(tuple(prompt), tuple(tokens), temperature))
            submit()
    finally:
        engine.stop()
