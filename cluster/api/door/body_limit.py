"""The door for request bodies: read once, in bounded memory and time, and known to be UTF-8 JSON text."""

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.api.errors import ApiError

DISCARD_FACTOR = 4
"""A body that is too large is read on and thrown away up to so many times the limit, because a client that
is still sending when the connection closes never sees the answer."""


class ClientGoneError(Exception):
    """The client went away before its body was complete."""


class BodyLimit:
    """ASGI middleware that hands a complete, checked body to the application."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        """Refuse bodies above ``max_bytes`` with 413 and those slower than ``timeout_s`` with 408."""
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass requests without a body on as they are."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._read(receive)
            _check(Headers(scope=scope), body)
        except ClientGoneError:
            return
        except TimeoutError:
            await _refuse(ApiError(408, "the body did not arrive in time", param="body"), scope, receive, send)
        except ApiError as error:
            await _refuse(error, scope, receive, send)
        else:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        more = True
        while more and size <= DISCARD_FACTOR * self._max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            size += len(chunk)
            more = message.get("more_body", False)
            if size <= self._max_bytes:
                parts.append(chunk)
            else:
                parts.clear()
        if size > self._max_bytes:
            raise ApiError(
                413,
                f"the body is larger than {self._max_bytes} bytes",
                param="body",
                code="body_too_large",
            )
        return b"".join(parts)


async def discard_body(receive: Receive, most: int, within_s: float) -> None:
    """Read a body that nobody wants and throw it away, within bounds.

    A client that is still sending when the connection closes never sees its answer.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _check(headers: Headers, body: bytes) -> None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(
            415,
            f"send the body as Content-Type: application/json, not {media_type[:80] or 'without a type'}",
            param="body",
            code="unsupported_media_type",
        )
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(
            400, f"the body is not valid UTF-8: {error.reason} at byte {error.start}", param="body", code="invalid_utf8"
        ) from error


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    response = error.response()
    response.headers["connection"] = "close"
    await response(scope, receive, send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body in one piece and then what the server says, such as a disconnect."""
    first: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def replay() -> Message:
        nonlocal first
        if first is None:
            return await receive()
        message, first = first, None
        return message

    return replay
