"""Who may open which service: the role that a peer's certificate names, and no other word of the peer's.

        ingress ---- Generation ----> target ---- Drafting ----> drafter

A drafter runs where things are cheap, on machines that others may get at. Its certificate opens nothing: it can only
be dialled. Whoever dials looks for the role as well, so that no drafter can pose as a target.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from typing import Any

import grpc
from grpc import aio

log = logging.getLogger(__name__)

HEALTH = "/grpc.health.v1.Health/"
"""Anybody with a certificate of the cluster may ask whether a server is well."""
DNS_NAMES = "peer_dns"
"""Where gRPC keeps the DNS names of a client's certificate; other kinds of names in it are kept elsewhere."""
HELLO_SECONDS = 2.0
"""How long a peer that is turned away may take for its hello, so that it can read why."""


class PeerRole(StrEnum):
    """What a process is to its peers."""

    INGRESS = "ingress"
    TARGET = "target"
    DRAFTER = "drafter"

    @property
    def dns_name(self) -> str:
        """The DNS name that stands for the role in a certificate: no certificate can foresee a process's address."""
        return f"{self.value}.outrider"


class RoleCheck(aio.ServerInterceptor):
    """Lets in whose certificate names one role; stands before every method, so that none can be forgotten."""

    def __init__(self, admitted: PeerRole) -> None:
        """Let in ``admitted`` alone. Only for servers that ask for certificates: without one nobody gets in."""
        self._admitted = admitted

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the check before a method; one that it could not check is not there."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(HEALTH):
            return handler
        if not handler.request_streaming or not handler.response_streaming:
            return None
        return grpc.stream_stream_rpc_method_handler(
            self._checked(handler.stream_stream), handler.request_deserializer, handler.response_serializer
        )

    def _checked(self, inner: Any) -> Any:
        async def generated(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await self._check(requests, context)
            async with contextlib.aclosing(inner(requests, context)) as responses:
                async for response in responses:
                    yield response

        async def written(requests: AsyncIterator[Any], context: Any) -> None:
            await self._check(requests, context)
            await inner(requests, context)

        return generated if inspect.isasyncgenfunction(inner) else written

    async def _check(self, requests: AsyncIterator[Any], context: Any) -> None:
        names = context.auth_context().get(DNS_NAMES, ())
        if self._admitted.dns_name.encode() not in names:
            said = ", ".join(name.decode(errors="replace") for name in names) or "no name"
            log.warning("%s was turned away: its certificate is for %s", context.peer(), said)
            # gRPC's client calls it an internal error when its hello is overtaken by the answer.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HELLO_SECONDS):
                    await anext(requests, None)
            why = f"only a certificate for {self._admitted.dns_name} opens this service; yours is for {said}"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
