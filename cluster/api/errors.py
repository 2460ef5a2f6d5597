"""Every error in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``, and nothing else leaks out."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cluster.api.base_model import TAG
from cluster.links.generation.resumption import RequestGivenUpError
from workers.contract.errors import InvalidParameterError, OverloadedError, UnavailableError

log = logging.getLogger(__name__)

INVALID = "invalid_request_error"
_TYPES = {408: "timeout_error", 429: "rate_limit_error", 503: "service_unavailable_error"}


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer ``status``; ``param`` is the part of the request that is to blame, ``code`` is for programs."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """The error's class as OpenAI's clients know it."""
        return _TYPES.get(self.status, INVALID if self.status < 500 else "server_error")

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def invalid(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """Return the 400 that blames one parameter."""
    return ApiError(400, message, param=param, code=code)


def api_error(error: Exception, retry_after_s: float) -> ApiError:
    """Return what a client is told about an error; only errors made for clients tell their message.

    ``retry_after_s`` is what a client should wait where no target is there.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InvalidParameterError):
        return invalid(error.param, error.message)
    if isinstance(error, OverloadedError):
        return ApiError(429, str(error), code="overloaded", headers=_retry_after(error.retry_after_s))
    if isinstance(error, UnavailableError):
        return ApiError(
            503, "no target can serve the request now", code="unavailable", headers=_retry_after(retry_after_s)
        )
    if isinstance(error, RequestGivenUpError):
        log.error("a request was given up: %s", error)
        message = "the request was given up: it seems to end the processes that serve it"
        return ApiError(500, message, code="request_given_up", headers={"x-should-retry": "false"})
    log.error("a request failed", exc_info=error)
    return ApiError(500, "the server failed to process the request", code="internal_error")


def install_error_handlers(app: FastAPI, retry_after_s: float) -> None:
    """Let the application answer every exception in OpenAI's shape."""

    async def on_domain_error(request: Request, error: Exception) -> JSONResponse:
        return api_error(error, retry_after_s).response()

    async def on_invalid_body(request: Request, error: Exception) -> JSONResponse:
        return (_from_validation(error) if isinstance(error, RequestValidationError) else _parse_error()).response()

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        return _from_http(request, error).response()

    for kind in (
        ApiError,
        InvalidParameterError,
        OverloadedError,
        UnavailableError,
        RequestGivenUpError,
        Exception,
    ):
        app.add_exception_handler(kind, on_domain_error)
    app.add_exception_handler(RequestValidationError, on_invalid_body)
    app.add_exception_handler(HTTPException, on_http_error)


def _from_validation(error: RequestValidationError) -> ApiError:
    """Blame the first thing that is wrong; clients mend one at a time."""
    first = error.errors()[0]
    path = [part for part in first["loc"] if part != "body" and not str(part).startswith(TAG)]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "malformed")
        return ApiError(400, f"the body cannot be read as JSON: {reason}", param="body", code="invalid_json")
    if not path:
        return ApiError(400, "the body must be a JSON object", param="body", code="invalid_type")
    param = str(path[0]) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[1:])
    if first["type"] == "missing":
        return invalid(param, f"{param} is missing", "missing_required_parameter")
    return invalid(param, f"{param} is invalid: {first['msg'].removeprefix('Value error, ')}{_shown(first['input'])}")


def _from_http(request: Request, error: Exception) -> ApiError:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    where = f"{request.method} {request.url.path[:200]}"
    if status == 404:
        return ApiError(404, f"there is no {where}", code="not_found", headers=headers)
    if status == 405:
        return ApiError(405, f"{where} is not allowed", code="method_not_allowed", headers=headers)
    if status == 400:
        return _parse_error()
    return ApiError(status, "the request failed", headers=headers)


def _parse_error() -> ApiError:
    return ApiError(400, "the body cannot be read as JSON", param="body", code="invalid_json")


def _shown(value: object) -> str:
    """Return a short scalar as part of a message; long or nested input is not echoed."""
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
        return f", got {text}" if len(text) <= 80 else ""
    return ""


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
