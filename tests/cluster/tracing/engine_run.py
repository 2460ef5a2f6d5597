"""An engine over a toy target, with drafters of every kind of habit, watched by a tracer."""

import random
import threading
from collections.abc import Sequence as Seq
from pathlib import Path

from cluster.engine import Engine
from cluster.scheduler.settings import SchedulerSettings
from cluster.tracing.settings import TraceSettings
from cluster.tracing.tracer import Tracer
from tests.support.toy_target import VOCAB, ToyTarget, choice
from workers.contract.draft import CloseDraft, DraftBlock, DraftOp, OpenDraft, Outcome
from workers.contract.prefix_hash import prefix_hash
from workers.contract.request import GenerationRequest, Progress, Stopping
from workers.contract.sampling_params import SamplingParams


class FickleDrafter:
    """Knows the toy target and answers rightly, wrongly, late, or not at all."""

    def __init__(self, seed: int) -> None:
        self.engine: Engine | None = None
        self._random = random.Random(seed)
        self._texts: dict[int, tuple[list[int], SamplingParams]] = {}

    def post(self, ops: Seq[DraftOp]) -> None:
        for op in ops:
            if isinstance(op, CloseDraft):
                self._texts.pop(op.seq_id)
                continue
            if isinstance(op, OpenDraft):
                self._texts[op.seq_id] = (list(op.tokens), op.params)
            else:
                self._texts[op.seq_id][0].extend(op.tokens)
            self._answer(op.seq_id, op.draft_length)

    def _answer(self, seq_id: int, length: int) -> None:
        text, params = self._texts[seq_id]
        guess = list(text)
        for _ in range(length):
            right = self._random.random() < 0.8
            guess.append(choice(guess, params) if right else self._random.randrange(VOCAB))
        outcome = Outcome(len(text), prefix_hash(text), tuple(guess[len(text) :]))
        habit = self._random.random()
        assert self.engine is not None
        if habit < 0.7:
            self.engine.deliver([DraftBlock(seq_id, (outcome,))])
        elif habit < 0.9:
            threading.Timer(0.005, self.engine.deliver, [[DraftBlock(seq_id, (outcome,))]]).start()


class Watched:
    """An engine and its trace; a context manager that stops it."""

    def __init__(self, file: Path, seed: int = 0, max_bytes: int = 2**28, target: ToyTarget | None = None, **settings):
        self.tracer = Tracer(TraceSettings(file=file, max_bytes=max_bytes), "target toy")
        drafter = FickleDrafter(seed)
        scheduler = SchedulerSettings(**{"policy": "fixed", "draft_wait_ms": 3, **settings})
        self.engine = Engine(target or ToyTarget(), scheduler, drafter.post, observer=self.tracer)
        drafter.engine = self.engine
        self.progress: dict[str, list[Progress]] = {}
        self._changed = threading.Condition()

    def __enter__(self) -> "Watched":
        self.engine.start()
        self.engine.drafters_connected(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.stop()

    def submit(self, name: str, prompt: Seq[int], n: int) -> None:
        request = GenerationRequest(name, list(prompt), SamplingParams(seed=len(prompt)), Stopping(n))
        self.engine.submit(request, self._sink)

    def wait_for(self, name: str, tokens: int | None = None) -> None:
        """Return when a request has so many tokens, or has ended."""

        def there() -> bool:
            got = self.progress.get(name, [])
            ended = bool(got) and got[-1].finish_reason is not None
            return ended or (tokens is not None and sum(len(item.tokens) for item in got) >= tokens)

        with self._changed:
            assert self._changed.wait_for(there, 20)

    def _sink(self, items: list[Progress]) -> None:
        with self._changed:
            for item in items:
                self.progress.setdefault(item.request_id, []).append(item)
            self._changed.notify_all()
