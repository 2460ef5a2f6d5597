"""One target replica without Ray: the engine, its links to the drafters, and the service that ingresses dial."""

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from cluster.engine import STEP_DEADLINE_S, Engine
from cluster.links.drafting.pool import DrafterPool
from cluster.links.generation.server import GenerationServer
from cluster.metrics.target import TargetMetrics
from cluster.scheduler.settings import SchedulerSettings
from cluster.tracing.observer import EngineObserver
from cluster.tracing.settings import TraceSettings
from cluster.tracing.tracer import Tracer
from workers.contract.identity import ModelIdentity
from workers.grammar.compiler import GrammarCompiler
from workers.metrics.server import process_registry
from workers.model_runner import ModelRunner
from workers.rpc.roles import PeerRole
from workers.rpc.tls import TlsSettings, channel_credentials, server_credentials
from workers.states.feature_store import FeatureStore


class TargetServer:
    """Wires the parts of a target together; start and stop it on the asyncio loop that is to carry its streams.

    The engine runs in a thread of its own. It and the loop meet twice per step at most: one hand-over of
    draft orders to the pool, one of progress to each ingress stream.
    """

    def __init__(
        self,
        runner: ModelRunner,
        settings: SchedulerSettings,
        trace: TraceSettings | None = None,
        observer: EngineObserver | None = None,
        tls: TlsSettings | None = None,
        served_name: str = "",
        external_drafters: Iterable[str] = (),
        step_deadline_s: float = STEP_DEADLINE_S,
    ) -> None:
        """Serve a loaded model; ``observer`` watches its engine where no trace is made.

        ``served_name`` is the name that its metrics carry; empty: the model's own. ``external_drafters`` are addresses
        of drafters that are always there, beside those that are set. ``step_deadline_s``: see ``Engine.hangs``.

        Raises ConfigurationError where the trace that is wanted cannot be written, or a certificate read.
        """
        self._served_name = served_name
        self._external_drafters = tuple(external_drafters)
        self._step_deadline_s = step_deadline_s
        tracer = Tracer(trace, f"target {runner.identity.name}") if trace is not None else observer
        grammars = GrammarCompiler(runner.tokenizer, runner.vocab_size)
        self.engine = Engine(
            runner,
            settings,
            lambda ops: self._pool.post(ops),
            observer=tracer,
            compile_grammar=grammars.compile,
        )
        features = FeatureStore(settings.max_running, runner.block_size, runner.has_features)
        runner.keep_features(features, self.engine.beat)
        self._pool = DrafterPool(
            self.engine.identity,
            self.engine.incarnation,
            self.engine.deliver,
            self.engine.drafters_connected,
            channel_credentials(tls, PeerRole.TARGET),
            features,
        )
        self.set_drafters(())
        credentials = server_credentials(tls, PeerRole.TARGET)
        self._generation = GenerationServer(self.engine, credentials, drafters=self._pool.names)

    @property
    def identity(self) -> ModelIdentity:
        """What this target serves."""
        return self.engine.identity

    @property
    def healthy(self) -> bool:
        """False once the step loop has given up or hangs."""
        return not self.engine.hangs(self._step_deadline_s)

    @property
    def metrics(self) -> CollectorRegistry:
        """What there is to scrape of this process."""
        return process_registry([TargetMetrics(self.engine, self._pool, self._served_name)])

    async def start(self, host: str, port: int = 0) -> str:
        """Serve on ``host``; port 0 takes a free one. Returns "host:port"."""
        self.engine.start()
        await self._pool.start()
        return await self._generation.start(host, port)

    def set_drafters(self, addresses: Iterable[str]) -> None:
        """Say which drafters there are now; links to others are closed. Callable from any thread."""
        self._pool.set_drafters(dict.fromkeys((*addresses, *self._external_drafters)))

    async def stop(self, grace: float = 0.0) -> None:
        """Refuse new requests, give those in progress ``grace`` seconds to finish, then end."""
        await self._generation.stop(grace)
        await self._pool.stop()
        await asyncio.to_thread(self.engine.stop)
