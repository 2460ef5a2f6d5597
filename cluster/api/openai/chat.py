"""POST /v1/chat/completions."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError

from cluster.api.answer import Question, answer
from cluster.api.context import ApiContext
from cluster.api.errors import invalid
from cluster.api.generation import MaxTokens, Scores, kept_prompt
from cluster.api.json_text import JsonRoute
from cluster.api.openai.chat_models import ChatCompletionBody
from cluster.api.openai.chat_prompt import render, template_kwargs
from cluster.api.openai.choice_shapes import ChatShape, Wanted
from cluster.api.openai.tool_use import tool_use
from cluster.api.reply.streaming import ChoicesWriter
from cluster.api.reply.token_logprobs import TokenNames
from cluster.api.request.structured import grammar_of
from cluster.api.request.unsupported import ignored_fields, ignored_header, refuse_unsupported


def chat_routes(context: ApiContext) -> APIRouter:
    """Return the endpoint's route."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/v1/chat/completions", summary="The next message of a conversation")
    async def chat_completions(body: ChatCompletionBody, http: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        return await answer(context, http, await chat_question(context, body))

    return routes


def parse_chat(body: dict[str, Any]) -> ChatCompletionBody:
    """Return a body that another endpoint has translated; a 400 names what chat does not take."""
    try:
        return ChatCompletionBody.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


async def chat_question(context: ApiContext, body: ChatCompletionBody) -> Question:
    """Return what the endpoint has understood of a body; ApiError or InvalidParameterError where it cannot."""
    refuse_unsupported(body.model_extra or {})
    context.model(body.model)
    ignored = ignored_fields(body.model_extra or {})
    for i, message in enumerate(body.messages):
        extra = message.model_extra or {}
        refuse_unsupported(extra, f"messages[{i}].")
        ignored += [f"messages[{i}].{name}" for name in ignored_fields(extra)]
    for name, value in template_kwargs(body).items():
        if value is not None and not context.tokenizer.template_knows(name):
            ignored.append("reasoning_effort" if name == "reasoning_effort" else f"chat_template_kwargs.{name}")
    if body.stream and body.prompt_logprobs is not None:
        raise invalid("prompt_logprobs", "prompt_logprobs cannot be streamed; leave out stream or use /v1/completions")
    grammar, grammar_param = grammar_of(body.response_format, body.structured_outputs)
    tools = tool_use(body, context.tokenizer)
    if tools.grammar is not None:
        if grammar is not None:
            raise invalid("tool_choice", f"tool_choice asks for a call and {grammar_param} for something else")
        grammar, grammar_param = tools.grammar, "tools"
    prompt = kept_prompt(body, await render(context, body.messages, body, tools.offered))
    return Question(
        body=body,
        prompts=[prompt],
        prompt_param="messages",
        limit=_limit(body),
        default_max_tokens=None,
        writer=ChoicesWriter(ChatShape(_wanted(context, body), prompt, tools.names)),
        headers=ignored_header(ignored),
        scores=Scores(_num_logprobs(body), body.prompt_logprobs),
        grammar=grammar,
        grammar_param=grammar_param,
        continues=body.continue_final_message or False,
    )


def _wanted(context: ApiContext, body: ChatCompletionBody) -> Wanted:
    return Wanted(
        TokenNames(context.tokenizer, body.return_tokens_as_token_ids or False),
        logprobs=body.logprobs or False,
        prompt_logprobs=body.prompt_logprobs is not None,
        token_ids=body.return_token_ids or False,
        sources=body.speculation is not None and body.speculation.report_sources,
    )


def _num_logprobs(body: ChatCompletionBody) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise invalid("top_logprobs", "top_logprobs has a meaning only with logprobs set to true")
    return None


def _limit(body: ChatCompletionBody) -> MaxTokens:
    if body.max_completion_tokens is None:
        return MaxTokens(body.max_tokens)
    if body.max_tokens not in (None, body.max_completion_tokens):
        raise invalid("max_tokens", "max_tokens and max_completion_tokens contradict each other; send only one")
    return MaxTokens(body.max_completion_tokens, "max_completion_tokens")
