"""POST /tokenize and /detokenize, as vLLM has them: what the model reads of a text, and what it writes."""

from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import ConfigDict, Field
from pydantic_core import to_json

from cluster.api.base_model import ApiModel
from cluster.api.beside import beside
from cluster.api.context import ApiContext
from cluster.api.errors import invalid
from cluster.api.generation import check_vocabulary
from cluster.api.json_text import JsonRoute
from cluster.api.openai.chat_models import Conversation, PromptOptions
from cluster.api.openai.chat_prompt import render
from cluster.api.openai.tool_use import tool_use
from cluster.api.reply.token_logprobs import TokenNames
from cluster.api.request.models import PromptIds


class TokenizeBody(PromptOptions):
    """A text, or a conversation with everything that shapes its prompt."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]})

    model: str | None = Field(default=None, max_length=1024)
    prompt: str | None = None
    messages: Conversation | None = None
    add_special_tokens: bool | None = None
    """Whether a text gets the tokens that the model wants in front; true where it is not given."""
    return_token_strs: bool | None = None


class DetokenizeBody(ApiModel):
    """Token ids."""

    model: str | None = Field(default=None, max_length=1024)
    tokens: PromptIds


def tokenization_routes(context: ApiContext) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.post("/tokenize", summary="The token ids of a text or a conversation", response_model=dict[str, Any])
    async def tokenize(body: TokenizeBody) -> Response:
        """Tell what the model would read."""
        identity = context.model(body.model) if body.model is not None else context.router.identity
        tokens = await _tokens(context, body)

        def written() -> bytes:
            names = TokenNames(context.tokenizer)
            answer = {
                "count": len(tokens),
                "max_model_len": identity.max_model_len if identity is not None else None,
                "tokens": tokens,
                "token_strs": [names.name(token) for token in tokens] if body.return_token_strs else None,
            }
            return to_json(answer)

        return Response(await beside(written, len(tokens)), media_type="application/json")

    @routes.post("/detokenize", summary="The text of token ids")
    async def detokenize(body: DetokenizeBody) -> dict[str, str]:
        """Tell what the model would have written, special tokens included."""
        if body.model is not None:
            context.model(body.model)
        if body.tokens:
            check_vocabulary(body.tokens, context.tokenizer.vocab_size, "tokens")
        decode = partial(context.tokenizer.decode, body.tokens, skip_special_tokens=False)
        text = await beside(decode, len(body.tokens))
        return {"prompt": text}

    return routes


async def _tokens(context: ApiContext, body: TokenizeBody) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise invalid("prompt", "send either prompt or messages")
    if body.prompt is not None:
        special = body.add_special_tokens is not False
        return await beside(
            partial(context.tokenizer.encode, body.prompt, add_special_tokens=special), len(body.prompt)
        )
    return await render(context, body.messages or [], body, tool_use(body, context.tokenizer).offered)
