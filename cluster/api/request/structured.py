"""Structured output: how a request says what its answer must look like, and the grammar that this amounts to."""

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from cluster.api.base_model import ApiModel
from cluster.api.errors import invalid
from cluster.api.json_text import parse_json
from workers.contract.processing import MAX_GRAMMAR_CHARS, Grammar, GrammarKind

ANY_OBJECT = {"type": "object"}
UNFORCED = '%llguidance {"no_forcing": true}'
"""Where only one byte can follow, llguidance looks for what follows that: with `start: /a+/ "a"`, where the first part
swallows all that the second waits for, it never ends. As the last of a grammar's directives this one decides."""
MAX_CHOICES = 1024

Schema = dict[str, Any]


class JsonSchema(ApiModel):
    """OpenAI's wrapping of a schema."""

    name: str = Field(max_length=256)
    schema_: Schema | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None
    """Schemas are always followed strictly."""


class PlainFormat(ApiModel):
    """Text, or any JSON object."""

    type: Literal["text", "json_object"]


class JsonSchemaFormat(ApiModel):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


def _kind(value: Any) -> str:
    return "<schema>" if isinstance(value, dict) and value.get("type") == "json_schema" else "<plain>"


ResponseFormat = Annotated[
    Annotated[PlainFormat, Tag("<plain>")] | Annotated[JsonSchemaFormat, Tag("<schema>")], Discriminator(_kind)
]
"""What the answer must be."""


class StructuredOutputs(ApiModel):
    """vLLM's choice of grammars, of which one must be given."""

    json_: Schema | Annotated[str, Field(max_length=MAX_GRAMMAR_CHARS)] | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = Field(default=None, max_length=MAX_GRAMMAR_CHARS)
    choice: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None, min_length=1, max_length=MAX_CHOICES, fail_fast=True
    )
    grammar: str | None = Field(default=None, max_length=MAX_GRAMMAR_CHARS)
    """In Lark's notation, as llguidance reads it."""


def grammar_of(
    response_format: PlainFormat | JsonSchemaFormat | None, structured_outputs: StructuredOutputs | None
) -> tuple[Grammar | None, str]:
    """Return the grammar that is asked for, and the name of the field that asks; a 400 where two do."""
    formatted = _of_format(response_format) if response_format is not None else None
    structured = _of_structured(structured_outputs) if structured_outputs is not None else None
    if formatted is not None and structured is not None:
        raise invalid("structured_outputs", "structured_outputs and response_format contradict; send only one")
    return (structured, "structured_outputs") if structured is not None else (formatted, "response_format")


def json_grammar(schema: Schema) -> Grammar:
    """Return the grammar of a JSON schema."""
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema))


def _of_format(wanted: PlainFormat | JsonSchemaFormat) -> Grammar | None:
    if isinstance(wanted, PlainFormat):
        return json_grammar(ANY_OBJECT) if wanted.type == "json_object" else None
    schema = wanted.json_schema.schema_
    return json_grammar(ANY_OBJECT if schema is None else schema)


def _of_structured(wanted: StructuredOutputs) -> Grammar | None:
    given = [
        name
        for name in ("json_", "json_object", "regex", "choice", "grammar")
        if getattr(wanted, name) not in (None, False)
    ]
    if len(given) != 1:
        raise invalid(
            "structured_outputs", "structured_outputs needs exactly one of json, json_object, regex, choice, grammar"
        )
    if wanted.json_ is not None:
        return json_grammar(_schema(wanted.json_))
    if wanted.json_object:
        return json_grammar(ANY_OBJECT)
    if wanted.regex is not None:
        return Grammar(GrammarKind.REGEX, wanted.regex)
    if wanted.choice is not None:
        return Grammar(GrammarKind.LARK, "start: " + " | ".join(map(lark_string, wanted.choice)))
    return Grammar(GrammarKind.LARK, f"{wanted.grammar}\n{UNFORCED}")


def lark_string(text: str) -> str:
    """Return a text as a Lark literal."""
    return json.dumps(text, ensure_ascii=False)


def _schema(given: Schema | str) -> Schema:
    if isinstance(given, dict):
        return given
    try:
        parsed = parse_json(given)
    except ValueError as error:
        raise invalid("structured_outputs.json", f"structured_outputs.json is not valid JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise invalid("structured_outputs.json", "structured_outputs.json must be a JSON object")
    return parsed
