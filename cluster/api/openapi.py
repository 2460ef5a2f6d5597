"""The description of the API at /openapi.json, as FastAPI makes it and with bounds that JSON Schema knows."""

from typing import Any

from fastapi import FastAPI

_BOUNDS = {"ge": "minimum", "le": "maximum"}
"""pydantic leaves its own names to a number that a validator of ours has looked at before."""


def describe(app: FastAPI) -> None:
    """Let the application describe itself with whole schemas; call when all routes are there."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_bounds(made())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _with_bounds(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_bounds(item) for item in part]
    if not isinstance(part, dict):
        return part
    numbers = part.get("type") == "integer"
    return {(_BOUNDS.get(name, name) if numbers else name): _with_bounds(value) for name, value in part.items()}
