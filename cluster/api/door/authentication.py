"""Who may ask: with API keys, nobody without one, but for the paths that are listed here."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.api.door.body_limit import discard_body
from cluster.api.door.key_ring import KeyRing
from cluster.api.errors import ApiError

OPEN_PATHS = frozenset({"/health", "/ready", "/version"})
"""What an orchestrator asks without a key. Everything that is not here needs one, whatever it is."""
MAX_KEY_CHARS = 512
DISCARDED_BYTES, DISCARD_S = 2**20, 5.0
"""How much of a refused request's body is thrown away before the answer, and for how long: see `discard_body`."""


class Authentication:
    """ASGI middleware that knows the holder of a request's key before its body is read.

    The key comes as ``Authorization: Bearer KEY``, or as Anthropic's ``x-api-key``. Its holder's name is left in
    the request's state, as ``tenant``.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, open_paths: frozenset[str] = OPEN_PATHS) -> None:
        """Ask for one of ``keys`` everywhere but at ``open_paths``, which are compared as they are."""
        self._app = app
        self._keys = keys
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 401 what has no valid key."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no other protocol is spoken here, so none is let through
        if scope["path"] not in self._open_paths:
            key = _key(Headers(scope=scope))
            tenant = self._keys.holder(key) if key else None
            if tenant is None:
                await discard_body(receive, DISCARDED_BYTES, DISCARD_S)
                await _refusal(given=bool(key)).response()(scope, receive, send)
                return
            scope.setdefault("state", {})["tenant"] = tenant
        await self._app(scope, receive, send)


def _key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
    return key if len(key) <= MAX_KEY_CHARS else ""


def _refusal(*, given: bool) -> ApiError:
    message = "the API key is not valid" if given else "an API key is needed: send it as Authorization: Bearer KEY"
    headers = {"WWW-Authenticate": "Bearer", "connection": "close"}
    return ApiError(401, message, code="invalid_api_key" if given else "missing_api_key", headers=headers)
