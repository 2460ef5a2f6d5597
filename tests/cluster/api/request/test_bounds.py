"""What a huge body costs before it is refused: counted in elements that are looked at and errors that are built."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.api.anthropic.models import MessagesBody, PromptBody
from cluster.api.open_responses.models import ResponsesBody
from cluster.api.openai.chat_models import ChatCompletionBody
from cluster.api.openai.completion_models import CompletionBody
from cluster.api.openai.tokenization import DetokenizeBody, TokenizeBody

BODIES = (ChatCompletionBody, CompletionBody, ResponsesBody, MessagesBody, PromptBody, TokenizeBody, DetokenizeBody)
MANY = 100_000
NAMES = {f"x{i}": 1 for i in range(MANY)}


class Counted(dict):
    """A message that counts how often its kind is asked for."""

    looks = 0

    def get(self, *args: Any) -> Any:
        Counted.looks += 1
        return super().get(*args)


def lists(schema: Any) -> Iterator[dict[str, Any]]:
    """Every list in a schema of pydantic's core whose elements it checks."""
    if isinstance(schema, dict):
        if schema.get("type") == "list" and schema.get("items_schema", {}).get("type", "any") != "any":
            yield schema
        for name, part in schema.items():
            if name != "json_schema_input_schema":  # what is told of a list, not what is done with it
                yield from lists(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from lists(part)


@pytest.mark.parametrize("body", BODIES)
def test_every_list_of_a_request_is_bounded_and_ends_at_its_first_error(body):
    found = list(lists(body.__pydantic_core_schema__))
    assert found or body is CompletionBody
    assert [part for part in found if not (part.get("max_length") and part.get("fail_fast"))] == []


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        (ChatCompletionBody, "messages", [1] * MANY),
        (ChatCompletionBody, "messages", [{"role": "user", "content": [1] * 1000}] * 1000),
        (ChatCompletionBody, "chat_template_kwargs", NAMES),
        (ResponsesBody, "input", [1] * MANY),
        (ResponsesBody, "metadata", NAMES),
        (MessagesBody, "messages", [1] * MANY),
        (DetokenizeBody, "tokens", ["a"] * MANY),
        (CompletionBody, "logit_bias", NAMES),
        (CompletionBody, "speculation", NAMES),
        (CompletionBody, "stop", [1] * MANY),
        (CompletionBody, "stop_token_ids", ["a"] * MANY),
        (CompletionBody, "prompt", ["a"] * MANY),
    ],
)
def test_a_field_that_is_wrong_in_many_places_is_one_error(body, field, value):
    with pytest.raises(ValidationError) as refused:
        body.model_validate({field: value})
    assert len([error for error in refused.value.errors() if error["loc"][0] == field]) == 1


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (ChatCompletionBody, "messages", {"role": "user", "content": "a"}),
        (TokenizeBody, "messages", {"role": "user", "content": "a"}),
        (ResponsesBody, "input", {"role": "user", "content": "a"}),
    ],
)
def test_no_message_of_a_conversation_that_is_too_long_is_looked_at(body, field, message):
    Counted.looks = 0
    with pytest.raises(ValidationError, match="at most 4096 items"):
        body.model_validate({"model": "tiny", field: [Counted(message)] * MANY})
    assert Counted.looks == 0


async def test_what_is_too_long_is_named(api):
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    for fields, param in (
        ({"messages": [1] * MANY}, "messages"),
        ({"messages": chat["messages"] * 2000}, "messages"),
        ({"logit_bias": NAMES}, "logit_bias"),
        ({"speculation": NAMES}, "speculation"),
        ({"stop_token_ids": [1] * MANY}, "stop_token_ids"),
    ):
        headers = {"content-type": "application/json"}
        answer = await api.http.post("/v1/chat/completions", content=json.dumps(chat | fields), headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert "at most" in answer.json()["error"]["message"]
