"""What the models of all requests are made of."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticKnownError

TAG = "<"
"""The alternatives of a union have names that begin with it, to be left out of the paths in error messages."""


class ApiModel(BaseModel):
    """Strict types, and unknown fields kept in ``model_extra``."""

    model_config = ConfigDict(extra="allow", strict=True)


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_integral)]
"""As JSON Schema has it: 3.0 is one; true, "3" and 3.5 are none."""


def at_most(limit: int) -> BeforeValidator:
    """Refuse a list or an object with more than ``limit`` entries before one of them is looked at.

    pydantic builds an error for each bad entry of an object, and looks at good ones of a list up to its limit.
    """

    def bounded(value: Any) -> Any:
        if isinstance(value, dict | list) and len(value) > limit:
            kind = "List" if isinstance(value, list) else "Dictionary"
            raise PydanticKnownError("too_long", {"field_type": kind, "max_length": limit, "actual_length": len(value)})
        return value

    return BeforeValidator(bounded)


def named_or_mode(value: Any) -> str:
    """Tell the alternatives of a tool choice apart: an object names a function, a word is a mode."""
    return "<mode>" if isinstance(value, str) else "<named>"


def between(low: float, high: float) -> dict[str, Any]:
    """Describe the range of a number that others check, for every caller alike."""
    return {"anyOf": [{"type": "number", "minimum": low, "maximum": high}, {"type": "null"}]}
