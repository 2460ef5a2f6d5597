"""JSON from outside, no deeper than whatever reads and writes it further can take, and with JSON's own numbers only."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

MAX_DEPTH = 128
"""Lists and objects inside one another. Templates and serialisers recurse, and some end at 255."""


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text says: a request's body, or a string in a request or an answer.

    Raises ValueError where it is no JSON, too deep, or has NaN or an infinity, which only Python's parser knows.
    """
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise _too_deep() from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for part in level for inner in _inside(part) if isinstance(inner, (dict, list))]
        if not level:
            return value
    raise _too_deep()


class JsonRoute(APIRoute):
    """A route whose body is read by `parse_json`; FastAPI answers what that raises."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return read


class _JsonRequest(Request):
    async def json(self) -> Any:
        return parse_json(await self.body())


def _inside(part: Any) -> Any:
    if isinstance(part, dict):
        return part.values()
    return part if isinstance(part, list) else ()


def _no_number(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no number in JSON", "", 0)


def _too_deep() -> json.JSONDecodeError:
    return json.JSONDecodeError(f"it is nested deeper than {MAX_DEPTH} lists and objects", "", 0)
