"""POST /v1/messages and /v1/messages/count_tokens, Anthropic's API."""

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.api.answer import answer
from cluster.api.anthropic.models import MessagesBody, PromptBody
from cluster.api.anthropic.translate import as_chat
from cluster.api.anthropic.writer import MessageWriter
from cluster.api.context import ApiContext
from cluster.api.json_text import JsonRoute
from cluster.api.openai.chat import chat_question, parse_chat


def messages_routes(context: ApiContext) -> APIRouter:
    """Return the endpoints' routes."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/v1/messages", summary="The next message of a conversation, in Anthropic's form")
    async def messages(body: MessagesBody, http: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        question = await chat_question(context, parse_chat(as_chat(body)))
        calls = body.tool_choice is None or body.tool_choice.type != "none"
        writer = MessageWriter(frozenset(tool.name for tool in body.tools or [] if calls))
        return await answer(context, http, replace(question, writer=writer, stop_param="stop_sequences"))

    @routes.post("/v1/messages/count_tokens", summary="How long the prompt of a conversation is")
    async def count_tokens(body: PromptBody) -> dict[str, int]:
        """Count what the model would read."""
        question = await chat_question(context, parse_chat(as_chat(body)))
        return {"input_tokens": len(question.prompts[0])}

    return routes
