"""POST /v1/responses."""

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.api.answer import answer
from cluster.api.context import ApiContext
from cluster.api.generation import MaxTokens
from cluster.api.json_text import JsonRoute
from cluster.api.open_responses.models import ResponsesBody
from cluster.api.open_responses.translate import as_chat
from cluster.api.open_responses.writer import ResponseWriter
from cluster.api.openai.chat import chat_question, parse_chat
from cluster.api.reply.token_logprobs import TokenNames


def responses_routes(context: ApiContext) -> APIRouter:
    """Return the endpoint's route."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/v1/responses", summary="The answer to a conversation, in OpenAI's newer form; nothing is stored")
    async def responses(body: ResponsesBody, http: Request) -> Response:
        """Answer whole or as a stream of events."""
        chat = parse_chat(as_chat(body))
        question = await chat_question(context, chat)
        tools = frozenset(tool.name for tool in body.tools or []) if body.tool_choice != "none" else frozenset()
        writer = ResponseWriter(body, tools, TokenNames(context.tokenizer))
        limit = MaxTokens(body.max_output_tokens, "max_output_tokens")
        return await answer(context, http, replace(question, writer=writer, limit=limit, prompt_param="input"))

    return routes
