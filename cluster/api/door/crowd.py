"""The bound on what an ingress has inside: whoever comes on top of it is turned away before its body is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.api.door.body_limit import DISCARD_FACTOR, discard_body
from cluster.api.errors import ApiError

DECIDED = "outrider.decided"
"""Where a request's scope has what is to be called once it is decided whether it is served."""
DISCARD_S = 5.0
"""How long a body that nobody wants may take to arrive."""


class Crowd:
    """ASGI middleware that counts the requests with a body which are inside, and the sizes of their bodies.

    Targets refuse what they have no room for, but only after an ingress has read, checked and tokenised it. Where
    requests come faster than that, they would pile up here, and everybody would wait long for a refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_requests: int,
        max_undecided: int,
        max_bytes: int,
        max_body_bytes: int,
        retry_after_s: float,
    ) -> None:
        """Let in ``max_requests``, ``max_undecided`` of them before a target has taken or refused them.

        Their bodies may have ``max_bytes`` together; one of unknown size counts ``max_body_bytes``, and one that is
        alone is always let in. Others get a 429 with ``retry_after_s``.
        """
        self._app = app
        self._max_requests = max_requests
        self._max_undecided = max_undecided
        self._max_bytes = max_bytes
        self._max_body_bytes = max_body_bytes
        self._retry_after_s = retry_after_s
        self._requests = 0
        self._undecided = 0
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or turn it away; those without a body are nobody's burden."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        size = self._size(scope)
        if self._full(size):
            await discard_body(receive, DISCARD_FACTOR * self._max_body_bytes, DISCARD_S)
            await self._refusal().response()(scope, receive, send)
            return
        undecided = True

        def decide() -> None:
            nonlocal undecided
            self._undecided -= undecided
            undecided = False

        self._requests += 1
        self._undecided += 1
        self._bytes += size
        try:
            await self._app({**scope, DECIDED: decide}, receive, send)
        finally:
            decide()
            self._requests -= 1
            self._bytes -= size

    def _full(self, size: int) -> bool:
        if self._requests >= self._max_requests or self._undecided >= self._max_undecided:
            return True
        return self._requests > 0 and self._bytes + size > self._max_bytes

    def _size(self, scope: Scope) -> int:
        told = Headers(scope=scope).get("content-length", "")
        known = told.isascii() and told.isdigit()
        return min(int(told), self._max_body_bytes) if known else self._max_body_bytes

    def _refusal(self) -> ApiError:
        headers = {"Retry-After": str(max(1, round(self._retry_after_s)))}
        return ApiError(429, f"{self._requests} requests are being served here", code="overloaded", headers=headers)


def decided(scope: Scope) -> None:
    """Note that a target has taken a request, so that another one may come in."""
    note = scope.get(DECIDED)
    if note is not None:
        note()
