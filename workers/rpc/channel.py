"""Where gRPC servers and channels are made: each option has one value and one reason."""

from collections.abc import Callable, Sequence

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from workers.contract.errors import ConfigurationError
from workers.rpc.roles import PeerRole, RoleCheck

ChannelAuth = Callable[[], grpc.ChannelCredentials]
"""Makes the credentials of a new channel: certificates may have been renewed since the one before."""

MAX_MESSAGE_BYTES = 32 * 2**20
"""Senders split well below this; grpc's own 4 MiB would refuse the first message after a long reconnect."""
MAX_DRAFTER_MESSAGE_BYTES = 4 * 2**20
"""Most that a drafter may send at once: blocks for hundreds of sequences. It is not trusted with more of our memory."""

_BOTH: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A stopped peer, or one behind a cut cable, sends no FIN: only an unanswered ping shows that it is gone.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A stream may be quiet for long, and a channel without a call should notice a dead peer as well.
    ("grpc.keepalive_permit_without_calls", 1),
    # Pings are sent however long no data flowed; 0 lifts the limit of two.
    ("grpc.http2.max_pings_without_data", 0),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    *_BOTH,
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Otherwise a server answers our keepalive with GOAWAY "too_many_pings" once a stream has been quiet.
    ("grpc.http2.max_ping_strikes", 0),
    # A second server on a port is an error to report, not a silent sharing of its connections.
    ("grpc.so_reuseport", 0),
]

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    *_BOTH,
    # Peers are dialled at their own addresses: an http_proxy meant for downloads would swallow even loopback.
    ("grpc.enable_http_proxy", 0),
    # Links reconnect with their own jitter; grpc's 1 s to 120 s would keep a restarted peer waiting.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Two links of one process to one address do not share a connection, nor the backoff of a failed one.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(address: str, to: PeerRole, credentials: ChannelAuth | None = None) -> aio.Channel:
    """Return a lazily connecting channel to ``host:port``; without credentials it is plain text.

    With them only a server whose certificate names the role ``to`` is talked to.

    Raises ConfigurationError where ``credentials`` cannot be made.
    """
    largest = MAX_DRAFTER_MESSAGE_BYTES if to is PeerRole.DRAFTER else MAX_MESSAGE_BYTES
    bounded = [*CHANNEL_OPTIONS, ("grpc.max_receive_message_length", largest)]
    if credentials is None:
        return aio.insecure_channel(address, options=bounded)
    options = [*bounded, ("grpc.ssl_target_name_override", to.dns_name)]
    return aio.secure_channel(address, credentials(), options=options)


class RpcServer:
    """A gRPC server of this process: its services beside the standard health service."""

    def __init__(self, admits: PeerRole, credentials: grpc.ServerCredentials | None = None) -> None:
        """Make a server for peers of one role; without credentials it is plain text and for whoever can reach it.

        Needs a running event loop.
        """
        checks = [RoleCheck(admits)] if credentials is not None else []
        self.grpc = aio.server(options=SERVER_OPTIONS, interceptors=checks)
        """Where the generated ``add_..._to_server`` functions register services, before the start."""
        self._credentials = credentials
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)

    async def start(self, host: str, port: int, services: Sequence[str] = ()) -> str:
        """Listen, report ``services`` as serving, and return the bound ``host:port`` (port 0: any free one).

        Raises ConfigurationError where the address cannot be bound.
        """
        bound_host = f"[{host}]" if ":" in host else host
        try:
            bound = self._bind(f"{bound_host}:{port}")
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot listen on {bound_host}:{port}: another process has the port, or the host is not this "
                f"machine; choose another address ({error})"
            ) from error
        await self.grpc.start()
        for service in services:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return f"{bound_host}:{bound}"

    async def leave(self) -> None:
        """Say NOT_SERVING from now on, while everything else goes on: health checks take this server out."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float = 0.0) -> None:
        """Say NOT_SERVING, let open calls finish for ``grace_s`` seconds, then cancel them."""
        await self.leave()
        await self.grpc.stop(grace_s)

    def _bind(self, address: str) -> int:
        if self._credentials is None:
            return self.grpc.add_insecure_port(address)
        return self.grpc.add_secure_port(address, self._credentials)
