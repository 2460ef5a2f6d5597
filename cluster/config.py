"""Everything an operator may set, as one typed model: what ``outrider serve CONFIG.yaml`` and ``serve deploy`` read.

A key that does not exist is refused. Values come from the file, then from the environment, then from the
command line, each over the one before: see ``cluster.config_loader``.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from cluster.api.settings import ApiSettings
from cluster.autoscaling.settings import DrafterScaling, Scaling, TargetScaling
from cluster.scheduler.settings import SchedulerSettings
from cluster.tracing.settings import TraceSettings
from workers.rpc.tls import TlsSettings
from workers.settings import DEFAULT_DRAFTER, DEFAULT_MODEL, DrafterSettings, RunnerSettings, Settings

NO_DRAFTER = "none"
"""As a drafter's model: no drafter processes; the target's own n-gram lookup may still guess."""
NGRAM = "ngram"


class Placement(Settings):
    """Where Ray may put the processes of one role, what they reserve there and where they are scraped (per process)."""

    num_cpus: float = Field(default=0, ge=0)
    """CPUs that Ray sets aside. 0 lets a small machine hold every role; threads are set apart from this."""
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs that Ray sets aside; None: 1 where the role computes on a GPU, else 0."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom Ray resources, such as ``{"outrider_drafter": 1}`` on the cheap nodes."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray node labels that must match, such as ``{"ray.io/accelerator-type": "L4"}``."""
    metrics_port: int | None = Field(default=0, ge=0, le=65535)
    """Port of each process's own ``/metrics``; 0, or one that is taken: any free one, which Prometheus finds through
    ``/metrics/targets`` of the API. None: there is none."""


def _refuse_second_count(values: BaseModel, scaling: Scaling | None, role: str) -> None:
    """Refuse a number of replicas beside a rule for it: one of them would be ignored."""
    if scaling is not None and "replicas" in values.model_fields_set:
        raise ValueError(f"leave {role}.replicas out: {role}.autoscaling decides how many there are")


def _refuse_second_name(runner: RunnerSettings, role: str) -> None:
    """Refuse a model named in two places: one of them would be ignored."""
    if "model" in runner.model_fields_set:
        raise ValueError(f"the model's name belongs in {role}.model, not in {role}.runner.model")


class TargetConfig(Placement):
    """The target: the model that decides every token."""

    model: str = DEFAULT_MODEL
    """The embedded default's name, a folder with safetensors, or a hub id."""
    runner: RunnerSettings = RunnerSettings()
    """How the model runs: dtype, device, KV memory, threads. The model's name stands above."""
    tp: int = Field(default=1, ge=1, le=64)
    """Tensor-parallel degree: processes (ranks) that share one replica's weights, all on one node."""
    replicas: int = Field(default=1, ge=1)
    """Independent copies of the model; a request that loses one goes on at another."""
    autoscaling: TargetScaling | None = None
    """How their number follows the load; None: there are ``replicas``, always."""
    host: str | None = None
    """Address that targets listen on and advertise; None: the one by which Ray knows the node."""
    drain_timeout_s: float = Field(default=60.0, ge=0)
    """How long a target that is told to stop may go on with the requests it has."""
    rollout_surge: bool = False
    """Whether a new replica is started before an old one is told to stop when settings change. That takes room for one
    more; where there is none, the rollout waits for it. False: a single target's service has a gap."""
    step_deadline_s: float = Field(default=30.0, gt=0)
    """A step that takes longer is taken for hung, and its replica is replaced; one of a model whose steps were seen to
    take long may take four times as long as the longest."""
    trace: TraceSettings | None = None
    """Where each replica records its steps; None: it does not."""
    external_drafters: tuple[Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/]+):[0-9]{1,5}$")], ...] = ()
    """``host:port`` of drafters that run outside of this Ray cluster, on machines that are not trusted with more than
    the texts: ``python -m workers.drafting.server`` there. They are used beside those of ``drafters``."""

    @model_validator(mode="after")
    def _one_model_name(self) -> Self:
        _refuse_second_name(self.runner, "target")
        _refuse_second_count(self, self.autoscaling, "target")
        return self

    @property
    def most_replicas(self) -> int:
        """Replicas that there may be at once."""
        return self.autoscaling.max_replicas if self.autoscaling is not None else self.replicas

    def runner_settings(self) -> RunnerSettings:
        """Return the runner's settings with the model's name put in."""
        return self.runner.model_copy(update={"model": self.model})


class DraftersConfig(Placement, DrafterSettings):
    """The drafters: processes that guess ahead, on cheap hardware. They can be lost at any time.

    Where a configuration names no model, ClusterConfig puts in the one that comes with the target.
    """

    replicas: int = Field(default=1, ge=1)
    """Drafter processes; each serves every target."""
    autoscaling: DrafterScaling | None = None
    """How their number follows the load; None: there are ``replicas``, always."""
    host: str | None = None
    """Address that drafters listen on and advertise; None: the one by which Ray knows the node."""

    @model_validator(mode="after")
    def _one_model_name(self) -> Self:
        _refuse_second_name(self.runner, "drafters")
        _refuse_second_count(self, self.autoscaling, "drafters")
        return self

    @property
    def most_replicas(self) -> int:
        """Replicas that there may be at once."""
        return self.autoscaling.max_replicas if self.autoscaling is not None else self.replicas

    @property
    def enabled(self) -> bool:
        """False where no drafter process is wanted."""
        return self.model != NO_DRAFTER

    @property
    def computes(self) -> bool:
        """True where a drafter runs a model, so that torch and perhaps a GPU are needed."""
        return self.model not in (NO_DRAFTER, NGRAM)

    def drafter_settings(self) -> DrafterSettings:
        """Return what a drafter process is told: everything here but its placement."""
        return DrafterSettings(**{name: getattr(self, name) for name in DrafterSettings.model_fields})


class ServedBy(StrEnum):
    """Who listens for HTTP."""

    INGRESS = "ingress"
    """Each ingress process itself, on its own node: the shortest way. Ingresses of one node share the port."""
    PROXY = "proxy"
    """Ray Serve's HTTP proxy, which finds an ingress on any node."""


class HttpConfig(Placement):
    """The door: the ingress processes, which want nodes that stay."""

    host: str = "127.0.0.1"
    """Address that HTTP listens on; 0.0.0.0 opens it to the network."""
    port: int = Field(default=8000, ge=1, le=65535)
    served_by: ServedBy | None = None
    """Who listens there. None: the ingress itself on the private cluster of ``outrider serve``, where all
    processes are on one machine, else Serve's proxy."""
    replicas: int = Field(default=1, ge=1)
    """Ingress processes (API, tokenizer, streams)."""
    rollout_surge: bool = True
    """Whether new ingresses are started before old ones are told to stop when settings change, so that somebody always
    answers. That takes room for as many more; where there is none, the rollout waits for it. False: one by one."""
    leave_notice_s: float = Field(default=0.0, ge=0, le=300)
    """For how long an ingress that is told to stop goes on as before while /health and /ready say 503: as long as a
    load balancer in front needs to see that and to choose others. Only where the ingress listens itself."""
    resume_wait_s: float = Field(default=120.0, ge=0)
    """How long a request that has lost its target waits for another one, or for the same to be back: longer than it
    takes to load the model."""
    api: ApiSettings = ApiSettings()
    """Limits and names of the OpenAI-compatible API."""


class RayConfig(Settings):
    """Which Ray cluster carries the processes. Used by ``outrider serve`` only."""

    address: str | None = None
    """None: a private cluster that ends with the command, on loopback only and closed by a random token.
    ``auto`` or ``host:port``: join that one; how it admits clients is set by Ray's own RAY_AUTH_* variables."""


class ClusterConfig(Settings):
    """One served model: a target, its drafters, the scheduler between them and the door in front."""

    name: str = Field(default="outrider", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    """Name of the Serve application; two on one Ray cluster need two names."""
    target: TargetConfig = TargetConfig()
    drafters: DraftersConfig = DraftersConfig()
    scheduler: SchedulerSettings = SchedulerSettings()
    http: HttpConfig = HttpConfig()
    tls: TlsSettings | None = None
    """Certificates with which targets, drafters and ingresses know each other; None: plain text, for networks that
    nobody else is on. HTTP and Ray itself have settings of their own."""
    ray: RayConfig = RayConfig()

    @model_validator(mode="before")
    @classmethod
    def _drafter_of_the_target(cls, values: Any) -> Any:
        """Where no draft model is named, take the one that comes with the target, else n-grams, which fit any."""
        if not isinstance(values, dict):
            return values
        drafters = values.get("drafters", {})
        target = values.get("target", {})
        if isinstance(drafters, dict) and "model" not in drafters:
            named = target.get("model", DEFAULT_MODEL) if isinstance(target, dict) else getattr(target, "model", None)
            model = DEFAULT_DRAFTER if named == DEFAULT_MODEL else NGRAM
            return {**values, "drafters": {**drafters, "model": model}}
        return values
