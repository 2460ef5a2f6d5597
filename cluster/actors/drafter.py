"""A drafter as a Ray Serve deployment: one replica is one drafter process on a cheap node.

Serve places, restarts and scales it. Targets dial its gRPC server, whose address is in the roster.
"""

from cluster.actors.replica import join_roster, listen_host
from cluster.actors.roster_state import Role
from cluster.config import DraftersConfig
from workers.drafting.server import DrafterServer
from workers.metrics.server import MetricsServer
from workers.rpc.roles import PeerRole
from workers.rpc.tls import TlsSettings, server_credentials

DRAIN_S = 5.0
"""What targets get to leave; the news reaches them within a fraction of a second."""


class Drafter:
    """Serve deployment around ``workers.drafting.server.DrafterServer``."""

    async def __init__(self, config: DraftersConfig, tls: TlsSettings | None) -> None:  # type: ignore[misc]
        """Load the drafter and serve it; Serve awaits this constructor."""
        settings = config.drafter_settings()
        self._server = DrafterServer(settings, server_credentials(tls, PeerRole.DRAFTER))
        host = listen_host(config.host)
        address = await self._server.start(host)
        self._metrics = MetricsServer(self._server.metrics, host, config.metrics_port)
        self._membership = await join_roster(Role.DRAFTER, address, {}, self._metrics.address)

    def check_health(self) -> None:
        """Raise where there will be no more drafts; Serve then replaces the replica."""
        if self._server.trouble is not None:
            raise RuntimeError(self._server.trouble)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Serve what ``cluster.autoscaling.policies.DrafterPolicy`` decides from."""
        bubbles = [member.bubble for member in self._membership.members if member.role is Role.TARGET]
        return {"queued": float(self._server.load.queued_sequences), "target_bubble": max(bubbles, default=0.0)}

    async def __del__(self) -> None:
        """Leave the roster and wait until the targets have taken their sequences elsewhere: nobody sees a failure."""
        await self._membership.stop()
        await self._server.drain(DRAIN_S)
        await self._server.stop()
        self._metrics.close()
