"""The target's door: what can never be served is refused with a reason, what does not fit now as well."""

import threading
from collections import Counter

from workers.contract.errors import InvalidParameterError, OverloadedError
from workers.contract.request import GenerationRequest

MAX_PROMPT_LOGPROBS = 2**20
"""Log-probabilities of a prompt in all: they travel in one message."""


class Admission:
    """Counts the requests inside and checks those that want in; callable from any thread."""

    def __init__(
        self,
        max_requests: int,
        max_model_len: int,
        vocab_size: int,
        per_tenant: int | None = None,
        max_prompt_tokens: int | None = None,
    ) -> None:
        """Admit at most ``max_requests`` at once, each of at most ``max_model_len`` tokens, answer included.

        ``per_tenant`` bounds those of each tenant, so that others find room beside one that floods, and
        ``max_prompt_tokens`` the prompts of all that are inside; one that is alone is always let in.
        """
        self._max_requests = max_requests
        self._max_model_len = max_model_len
        self._vocab_size = vocab_size
        self._per_tenant = max_requests if per_tenant is None else per_tenant
        self._max_prompt_tokens = max_prompt_tokens
        self._inside: dict[str, tuple[str, int]] = {}  # request id to tenant and length of the prompt
        self._prompt_tokens = 0
        self._tenants: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admit(self, request: GenerationRequest) -> None:
        """Let a request in, or raise InvalidParameterError or OverloadedError.

        One that was let in elsewhere and has lost its target finds room in any case: what has been admitted is not
        dropped.
        """
        self._check(request)
        with self._lock:
            if request.request_id in self._inside:
                raise InvalidParameterError("request_id", f"request id {request.request_id!r} is in use")
            prompt = len(request.prompt)
            if not request.attempt:
                self._find_room(request.tenant, prompt)
            self._inside[request.request_id] = (request.tenant, prompt)
            self._prompt_tokens += prompt
            self._tenants[request.tenant] += 1

    def _find_room(self, tenant: str, prompt: int) -> None:
        if len(self._inside) >= self._max_requests:
            raise OverloadedError(f"{len(self._inside)} requests are in progress, the most this target takes")
        if self._tenants[tenant] >= self._per_tenant:
            raise OverloadedError(f"the tenant has {self._per_tenant} requests in progress, the most it may have")
        most = self._max_prompt_tokens
        if most is not None and self._inside and self._prompt_tokens + prompt > most:
            raise OverloadedError(f"prompts of {self._prompt_tokens} tokens are in progress, of {most} at most")

    def leave(self, request_id: str) -> None:
        """Make room: a request has ended."""
        with self._lock:
            left = self._inside.pop(request_id, None)
            if left is None:
                return
            tenant, prompt = left
            self._prompt_tokens -= prompt
            self._tenants[tenant] -= 1
            if not self._tenants[tenant]:
                del self._tenants[tenant]  # names come from clients and must not pile up

    def _check(self, request: GenerationRequest) -> None:
        if not request.prompt:
            raise InvalidParameterError("prompt", "the prompt has no tokens")
        if not all(0 <= token < self._vocab_size for token in (*request.prompt, *request.emitted)):
            raise InvalidParameterError("prompt", f"token ids must lie between 0 and {self._vocab_size - 1}")
        if len(request.prompt) >= self._max_model_len:
            raise InvalidParameterError(
                "prompt",
                f"the prompt has {len(request.prompt)} tokens, but the model's context is {self._max_model_len} "
                "tokens including at least one of the answer; shorten the prompt",
            )
        max_tokens = request.stopping.max_tokens
        if max_tokens < 1:
            raise InvalidParameterError("max_tokens", f"max_tokens must be at least 1, got {max_tokens}")
        if len(request.emitted) >= max_tokens:
            raise InvalidParameterError("max_tokens", "the request has already got all of its tokens")
        total = len(request.prompt) + max_tokens
        if total > self._max_model_len:
            raise InvalidParameterError(
                "max_tokens",
                f"prompt ({len(request.prompt)} tokens) and max_tokens ({max_tokens}) together exceed the model's "
                f"context of {self._max_model_len}; ask for at most {self._max_model_len - len(request.prompt)}",
            )
        check_processors(request)


def check_processors(request: GenerationRequest) -> None:
    """Raise InvalidParameterError where what a request asks of its logits contradicts itself or is too much.

    Without this a position could be left with no token at all.
    """
    processors, stopping = request.processors, request.stopping
    if processors.min_tokens > stopping.max_tokens:
        raise InvalidParameterError(
            "min_tokens", f"min_tokens ({processors.min_tokens}) exceeds max_tokens ({stopping.max_tokens})"
        )
    allowed = processors.allowed_token_ids
    if processors.min_tokens and allowed and not allowed - stopping.stop_token_ids:
        raise InvalidParameterError(
            "allowed_token_ids", "with min_tokens, some allowed token must be none that ends the answer"
        )
    if processors.banned and (request.grammar is not None or allowed):
        raise InvalidParameterError(
            "bad_words", "bad_words and allowed_token_ids, a response format or grammar may contradict; send only one"
        )
    if request.grammar is not None and (processors.min_tokens or processors.allowed_token_ids):
        name = "min_tokens" if processors.min_tokens else "allowed_token_ids"
        raise InvalidParameterError(name, f"{name} and a response format or grammar may contradict; send only one")
    asked = len(request.prompt) * (1 + (request.num_prompt_logprobs or 0))
    if request.num_prompt_logprobs is not None and asked > MAX_PROMPT_LOGPROBS:
        raise InvalidParameterError(
            "prompt_logprobs",
            f"{len(request.prompt)} prompt tokens with {request.num_prompt_logprobs} alternatives each exceed "
            f"{MAX_PROMPT_LOGPROBS} log-probabilities; ask for fewer",
        )
