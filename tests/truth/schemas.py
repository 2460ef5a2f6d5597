"""Twenty bounded JSON schemas of the kinds that people extract and generate with; every answer to them is finite."""

from typing import Any


def obj(**properties: Any) -> dict[str, Any]:
    """An object with exactly these properties."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def text(most: int = 20, **more: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, **more}


def number(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


def array(items: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


COLOUR = {"enum": ["red", "green", "blue"]}
FLAG = {"type": "boolean"}

SCHEMAS: dict[str, tuple[str, dict[str, Any]]] = {
    "person": ("Describe a person.", obj(name=text(), age=number(0, 120))),
    "colours": ("Name some colours.", array(COLOUR, 1, 3)),
    "choice": ("Is the sky blue?", {"enum": ["yes", "no", "maybe"]}),
    "flags": ("Which seasons are warm?", obj(spring=FLAG, summer=FLAG, autumn=FLAG, winter=FLAG)),
    "nested": ("Give an address.", obj(street=obj(name=text(), number=number(1, 999)), city=text(12))),
    "score": ("Rate this film: a cat sleeps for two hours.", obj(score=number(1, 5), reason=text(60))),
    "nullable": ("Who is the king of France?", obj(name={"type": ["string", "null"], "maxLength": 20})),
    "union": ("Answer with a word or a number.", {"anyOf": [obj(word=text(8)), obj(value=number(0, 99))]}),
    "numbers": ("List three numbers.", array(number(0, 1000), 3, 3)),
    "date": ("When did the war end?", obj(date={"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"})),
    "constant": ("Say hello.", obj(kind={"const": "greeting"}, text=text(24))),
    "matrix": ("Give a 2x2 matrix.", array(array(number(-9, 9), 2, 2), 2, 2)),
    "decimal": ("What is the price?", obj(price={"type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.5})),
    "reference": (
        "Draw two points.",
        {**obj(a={"$ref": "#/$defs/point"}, b={"$ref": "#/$defs/point"}), "$defs": {"point": obj(x=number(0, 9))}},
    ),
    "optional": (
        "Describe a dog.",
        {
            "type": "object",
            "properties": {"name": text(10), "breed": text(10)},
            "required": ["name"],
            "additionalProperties": False,
        },
    ),
    "tuple": ("A word and its length.", {"type": "array", "prefixItems": [text(9), number(0, 9)], "items": False,
                                        "minItems": 2}),
    "tags": ("Tag this text: rain in Paris.", obj(tags=array(text(10, minLength=1), 1, 4))),
    "string": ("Name a fruit.", text(16, minLength=1)),
    "email": ("Contact?", obj(user={"type": "string", "pattern": "^[a-z]{1,8}$"}, host={"enum": ["a.org", "b.net"]})),
    "deep": ("Nest it.", obj(a=obj(b=obj(c=obj(d=COLOUR))))),
}  # fmt: skip
"""Prompt and schema, by name."""
