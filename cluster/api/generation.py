"""From the body of a request to what the target is asked: seeds, limits, one request per choice."""

import hashlib
import secrets
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

from cluster.api.context import ApiContext
from cluster.api.errors import invalid
from cluster.api.request.drafter_choice import chosen_drafter
from cluster.api.request.models import GenerationBody
from workers.contract.prefix_hash import extend
from workers.contract.processing import Grammar, ProcessorParams
from workers.contract.request import GenerationRequest, Stopping
from workers.contract.sampling_params import SamplingParams
from workers.tokenizer import Tokenizer

JSON_SAFE_SEEDS = 2**53
"""Random seeds stay below this, so that one that was reported survives every JSON client's numbers."""


@dataclass(frozen=True, slots=True)
class MaxTokens:
    """The client's limit, and the name of the field that it came in."""

    value: int | None
    param: str = "max_tokens"


def resolve_seed(seed: int | None) -> int:
    """Return the seed to use: the client's as an unsigned 64-bit number, else a random one."""
    return secrets.randbelow(JSON_SAFE_SEEDS) if seed is None else seed % 2**64


def choice_seed(seed: int, choice: int) -> int:
    """Return the seed of one of ``n`` choices; the first has the request's own, so n does not change it."""
    return extend(seed, choice) if choice else seed


def check_limits(body: GenerationBody, context: ApiContext, num_prompts: int, stop_param: str = "stop") -> None:
    """Raise a 400 where the request asks for more than the operator allows; its stop strings are in ``stop_param``."""
    settings = context.settings
    choices = body.n or 1
    stops = body.stop or []
    if choices > settings.max_choices:
        raise invalid("n", f"n must be at most {settings.max_choices}, got {choices}")
    if num_prompts > settings.max_prompts:
        raise invalid("prompt", f"at most {settings.max_prompts} prompts are possible, got {num_prompts}")
    if num_prompts * choices > settings.max_parallel:
        raise invalid("n", f"prompts times n must be at most {settings.max_parallel}, got {num_prompts * choices}")
    if len(stops) > settings.max_stop_strings:
        raise invalid(stop_param, f"at most {settings.max_stop_strings} stop strings are possible, got {len(stops)}")
    if any(len(stop) > settings.max_stop_chars for stop in stops):
        raise invalid(stop_param, f"a stop string may have at most {settings.max_stop_chars} characters")
    if len(body.stop_token_ids or []) > settings.max_stop_token_ids:
        raise invalid("stop_token_ids", f"stop_token_ids may have at most {settings.max_stop_token_ids} entries")
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "stream_options has a meaning only with stream set to true")


def sampling_params(body: GenerationBody, seed: int) -> SamplingParams:
    """Return the sampling parameters, with OpenAI's defaults; InvalidParameterError names one out of range."""
    only_likeliest = body.top_p == 0  # OpenAI's range begins there; the smallest set of tokens is never empty
    return SamplingParams(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=1 if only_likeliest else max(body.top_k or 0, 0),
        top_p=1.0 if body.top_p is None or only_likeliest else body.top_p,
        min_p=body.min_p or 0.0,
        seed=seed,
    )


def processor_params(body: GenerationBody, tokenizer: Tokenizer) -> ProcessorParams:
    """Return what is done to logits; InvalidParameterError names what is out of range."""
    return ProcessorParams(
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
        allowed_token_ids=frozenset(body.allowed_token_ids or ()),
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        min_tokens=body.min_tokens or 0,
        banned=_banned(body.bad_words or [], tokenizer),
    )


def _banned(words: Seq[str], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of words at the beginning of a text and after a space, as vLLM reads ``bad_words``."""
    texts = [before + word.lstrip() for word in words if word.strip() for before in ("", " ")]
    texts += [word for word in words if not word.strip()]
    return tuple(dict.fromkeys(tuple(tokenizer.encode(text, add_special_tokens=False)) for text in texts))


def resolve_max_tokens(
    limit: MaxTokens, default: int | None, prompt: Seq[int], prompt_param: str, max_model_len: int
) -> int:
    """Return how many tokens may be generated: what was asked for, else ``default``, else all that fit."""
    room = max_model_len - len(prompt)
    if room < 1:
        raise invalid(
            prompt_param,
            f"{prompt_param} has {len(prompt)} tokens, but the model's context is {max_model_len} tokens "
            "including at least one of the answer; shorten it",
            "context_length_exceeded",
        )
    if limit.value is not None and limit.value > room:
        raise invalid(
            limit.param,
            f"{limit.param} is {limit.value}, but after the {len(prompt)} tokens of {prompt_param} only {room} of "
            f"the model's {max_model_len} are left; ask for at most {room}",
            "context_length_exceeded",
        )
    if limit.value is not None:
        return limit.value
    return room if default is None else min(default, room)


@dataclass(frozen=True, slots=True)
class Scores:
    """The log-probabilities that the target is to report; see GenerationRequest."""

    num_logprobs: int | None = None
    num_prompt_logprobs: int | None = None


def choice_requests(
    body: GenerationBody,
    context: ApiContext,
    prompt: Seq[int],
    params: SamplingParams,
    processors: ProcessorParams,
    max_tokens: int,
    grammar: Grammar | None,
    scores: Scores,
    tenant: str = "",
) -> list[GenerationRequest]:
    """Return the target's requests for all choices of one prompt.

    ``tenant`` is the holder of the request's API key; without keys the cache salt tells one tenant from another.
    """
    vocab_size = context.tokenizer.vocab_size
    stop_ids = frozenset(body.stop_token_ids or [])
    for param, ids in (
        ("stop_token_ids", stop_ids),
        ("logit_bias", processors.logit_bias),
        ("allowed_token_ids", processors.allowed_token_ids),
    ):
        if ids and max(ids) >= vocab_size:
            raise invalid(param, _outside(param, max(ids), vocab_size))
    if grammar is not None and body.ignore_eos:
        raise invalid("ignore_eos", "ignore_eos contradicts a response format or grammar, which ends the answer")
    if not body.ignore_eos:
        stop_ids |= context.tokenizer.eos_token_ids
    draft_from, drafter = chosen_drafter(body.speculation, context.router.targets())
    first = GenerationRequest(
        request_id="",
        prompt=prompt,
        params=params,
        stopping=Stopping(max_tokens, stop_ids),
        salt=cache_salt(tenant, body.cache_salt or ""),
        max_draft_tokens=None if body.speculation is None else body.speculation.limit,
        draft_from=draft_from,
        drafter=drafter,
        tenant=tenant or body.cache_salt or "",
        priority=body.priority or 0,
        processors=processors,
        grammar=grammar,
        num_logprobs=scores.num_logprobs,
        num_prompt_logprobs=scores.num_prompt_logprobs,
    )
    return [
        replace(first, request_id=secrets.token_hex(16), params=replace(params, seed=choice_seed(params.seed, i)))
        for i in range(body.n or 1)
    ]


def cache_salt(tenant: str, salt: str) -> str:
    """Return the salt of the prefix cache: no holder of a key can find what another one's prompts have left there."""
    return hashlib.blake2b(f"{tenant}\n{salt}".encode(), digest_size=16).hexdigest() if tenant else salt


def kept_prompt(body: GenerationBody, prompt: list[int]) -> list[int]:
    """Return what truncate_prompt_tokens leaves of a prompt: its end."""
    return prompt if body.truncate_prompt_tokens is None else prompt[-body.truncate_prompt_tokens :]


def check_vocabulary(tokens: Seq[int], vocab_size: int, param: str = "prompt") -> None:
    """Raise a 400 where token ids that a client sent have one that the model does not know."""
    if max(tokens) >= vocab_size:
        raise invalid(param, _outside(param, max(tokens), vocab_size))


def _outside(param: str, token: int, vocab_size: int) -> str:
    return f"{param}: token ids must lie between 0 and {vocab_size - 1}, got {token}"
