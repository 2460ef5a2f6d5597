"""An engine without a model: deterministic tokens behind the real gRPC path, for tests of what lies around it."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from cluster.scheduler.load import EngineLoad
from workers.contract.draft import DraftSource
from workers.contract.errors import InvalidParameterError, OverloadedError
from workers.contract.identity import ModelIdentity, new_incarnation
from workers.contract.logprobs import TokenLogprobs
from workers.contract.prefix_hash import EMPTY, extend, prefix_hash
from workers.contract.processing import Grammar
from workers.contract.request import FinishReason, GenerationRequest, Progress


def scripted_token(request: GenerationRequest, position: int, vocab_size: int) -> int:
    """The token at an absolute position: a function of prompt, seed and position alone, as in the real engine."""
    return extend(prefix_hash([*request.prompt, request.params.seed], EMPTY), position) % vocab_size


def scripted_logprobs(token: int, count: int) -> TokenLogprobs:
    """Log-probabilities that can be told apart: the token itself is the second best."""
    others = [(token + i) % 256 for i in range(1, count + 1)]
    top = (
        tuple((other, -1.0 - rank) for rank, other in enumerate([others[0], token, *others[1:]][:count]))
        if count
        else ()
    )
    return TokenLogprobs(token, -2.0, 2, top)


class ScriptedEngine:
    """Steps all its requests in a thread of its own; each step emits ``burst`` tokens per request.

    All but the last of them count as accepted from ``source(k)`` in a request's k-th step, out of a draft that has
    ``rejected`` tokens more; a request without speculation gets one token per step. The only drafter
    is named "small". ``script`` maps a prompt to the tokens that answer it; other prompts get pseudo-random ones below
    ``token_range``.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 259,
        token_range: int = 256,
        max_model_len: int = 4096,
        fingerprint: str = "",
        step_s: float = 0.002,
        burst: int = 1,
        rejected: int = 0,
        source: Callable[[int], DraftSource] = lambda step: DraftSource.DRAFTER,
        max_requests: int = 64,
        script: dict[tuple[int, ...], list[int]] | None = None,
    ) -> None:
        self.identity = ModelIdentity("tiny", vocab_size, fingerprint, max_model_len, "scripted")
        self.incarnation = new_incarnation()
        self.token_range = token_range
        self.step_s = step_s
        self.burst = burst
        self.rejected = rejected
        self.source = source
        self.max_requests = max_requests
        self.script = script or {}
        self.requests: dict[str, GenerationRequest] = {}
        self.submitted: list[GenerationRequest] = []
        self.submitted_with: list[object] = []
        self.cancelled: list[str] = []
        self.fail_next = False
        self.finished = 0
        self.compile_s = 0.0
        self.prepared: list[Grammar] = []
        self._sinks: dict[str, object] = {}
        self._done: dict[str, int] = {}
        self._generated = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pause = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def answer(self, request: GenerationRequest, count: int) -> list[int]:
        """The first ``count`` tokens that a request gets, stop rules aside."""
        return [self._token(request, i) for i in range(count)]

    def prepare(self, grammar) -> object:
        time.sleep(self.compile_s)
        self.prepared.append(grammar)
        if grammar.source.startswith("uncompilable"):
            raise InvalidParameterError("response_format", "the grammar cannot be compiled")
        if grammar.source == "unforeseen":
            raise RuntimeError("/srv/secret.py exploded")
        return grammar

    def submit(self, request, sink, matcher=None) -> None:
        if request.params.top_k == 77:
            raise InvalidParameterError("top_k", "top_k 77 is refused by this engine")
        with self._lock:
            if len(self.requests) >= self.max_requests:
                raise OverloadedError("full", retry_after_s=3.0)
            self.submitted.append(request)
            self.submitted_with.append(matcher)
            self.requests[request.request_id] = request
            self._sinks[request.request_id] = sink
            self._done[request.request_id] = len(request.emitted)

    def cancel(self, request_id: str) -> None:
        with self._lock:
            if self._drop(request_id):
                self.cancelled.append(request_id)

    def load(self) -> EngineLoad:
        return EngineLoad(
            running=len(self.requests),
            generated_tokens=self._generated,
            num_drafts=self._generated,
            draft_tokens=4 * self._generated,
            accepted_tokens=3 * self._generated,
            accepted_per_position=(2 * self._generated, self._generated),
            drafters_connected=2,
            kv_usage=0.25,
        )

    def pause(self) -> None:
        """Emit nothing until ``resume``."""
        self._pause.set()

    def resume(self) -> None:
        self._pause.clear()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            time.sleep(self.step_s)
            if not self._pause.is_set():
                self._step()

    def _step(self) -> None:
        with self._lock:
            batches = defaultdict(list)
            for request_id, request in list(self.requests.items()):
                batches[self._sinks[request_id]].append(self._progress(request))
            for items in batches.values():
                for item in items:
                    if item.finish_reason is not None:
                        self._drop(item.request_id)
                        self.finished += 1
        for sink, items in batches.items():
            sink(items)

    def _progress(self, request: GenerationRequest) -> Progress:
        offset = self._done[request.request_id]
        tokens, finish = [], None
        if self.fail_next:
            self.fail_next = False
            return Progress(request.request_id, offset, (), (), FinishReason.ERROR, "/srv/secret.py exploded")
        burst = 1 if request.max_draft_tokens == 0 else self.burst
        while len(tokens) < burst and finish is None:
            token = self._token(request, offset + len(tokens))
            tokens.append(token)
            if token in request.stopping.stop_token_ids:
                finish = FinishReason.STOP
            elif offset + len(tokens) >= request.stopping.max_tokens:
                finish = FinishReason.LENGTH
        self._done[request.request_id] = offset + len(tokens)
        self._generated += len(tokens)
        sources = [self.source(offset // burst)] * (len(tokens) - 1) + [DraftSource.NONE]
        progress = Progress(request.request_id, offset, tokens, sources, finish)
        progress.cached_prompt_tokens = len(request.prompt) // 2
        progress.queued_s = 0.25 if offset == 0 else 0.0
        if burst > 1:
            progress.num_drafts, progress.num_draft_tokens = 1, burst - 1 + self.rejected
            progress.drafter = "small" if sources[0] is DraftSource.DRAFTER else ""
        if request.num_logprobs is not None:
            progress.logprobs = [scripted_logprobs(token, request.num_logprobs) for token in tokens]
        if request.num_prompt_logprobs is not None and offset == 0:
            count = request.num_prompt_logprobs
            progress.prompt_logprobs = [scripted_logprobs(token, count) for token in request.prompt[1:]]
        return progress

    def _token(self, request: GenerationRequest, index: int) -> int:
        scripted = self.script.get(tuple(request.prompt))
        if scripted is not None and index < len(scripted):
            return scripted[index]
        return scripted_token(request, len(request.prompt) + index, self.token_range)

    def _drop(self, request_id: str) -> bool:
        self._sinks.pop(request_id, None)
        return self.requests.pop(request_id, None) is not None
