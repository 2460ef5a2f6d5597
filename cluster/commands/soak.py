"""``outrider soak``: load a deployment of this machine, damage it at random, and count what is lost or left over."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.bench.markdown import markdown
from cluster.commands.models import prepare_models
from cluster.commands.output import prepare_output, redacted
from cluster.commands.terminal import EXIT_FAILED, console, errors_as_sentences, show
from cluster.config import ClusterConfig, ServedBy
from cluster.config_loader import load_config
from cluster.serving import deployed, ray_for, reachable_host, require_free_port, served_model
from cluster.soak.faults import KINDS, Fault
from workers.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from cluster.soak.report import Report
    from cluster.soak.run import Plan

DEFAULT_FAULTS = "target-kill,drafter-kill,drafter-stop"
RANKS_TOO = "target-kill,rank-kill,rank-stop,drafter-kill,drafter-stop"
"""Where targets have more than one rank."""
NUM_CASES = 12


def soak(
    config_file: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="Settings, as for serve.")] = None,
    duration: Annotated[float, typer.Option(help="Seconds of load.", min=1)] = 600.0,
    faults: Annotated[
        str | None, typer.Option(help=f"Kinds of fault, at random; 'none', or of: {', '.join(KINDS)}.")
    ] = None,
    every: Annotated[float, typer.Option(help="Mean seconds between recovery and the next fault.", min=0)] = 20.0,
    most_faults: Annotated[int | None, typer.Option(help="End after so many faults, kinds in turn.", min=1)] = None,
    clients: Annotated[int, typer.Option(help="Requests at once.", min=1)] = 8,
    new_tokens: Annotated[int, typer.Option(help="Tokens per answer.", min=1)] = 128,
    replicas: Annotated[int, typer.Option(help="Targets, where the settings name no number.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Of what strikes when.")] = 0,
    target: Annotated[str | None, typer.Option(help="Target model: a folder, a .gguf file or a hub id.")] = None,
    drafter: Annotated[str | None, typer.Option(help="Draft model, or 'ngram', or 'none'.")] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel degree of the target.")] = None,
    port: Annotated[int | None, typer.Option(help="Port that HTTP listens on.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for report.json and report.md.")] = None,
) -> None:
    """Serve under load while processes are killed and stopped, and compare every answer with an undisturbed one."""
    with errors_as_sentences():
        overrides: dict[str, Any] = {
            "target": {"model": target, "tp": tp},
            "drafters": {"model": drafter},
            "http": {"port": port},
        }
        config = load_config(config_file, environ=os.environ, overrides=overrides)
        config = _on_this_machine(config, replicas)
        chosen = _kinds(faults or (RANKS_TOO if config.target.tp > 1 else DEFAULT_FAULTS))
        from cluster.soak.run import Plan

        plan = Plan(chosen, duration, every, most_faults, clients, seed)
        if output is not None:
            prepare_output(output)
        report = _run(config, plan, new_tokens)
        command = redacted(sys.argv[1:])
        show(report.parts(), 100)
        if output is not None:
            (output / "report.json").write_text(json.dumps({"command": command, **report.to_json()}, indent=1) + "\n")
            (output / "report.md").write_text(markdown("Soak", command, report.parts(), 100))
        if report.complaints():
            raise typer.Exit(EXIT_FAILED)


def _on_this_machine(config: ClusterConfig, replicas: int) -> ClusterConfig:
    """Return settings for a private cluster, whose processes can be found and damaged."""
    if config.ray.address is not None:
        raise ConfigurationError("a soak damages processes of this machine: leave ray.address out")
    if config.http.api.api_keys_file is not None:
        raise ConfigurationError("a soak asks without a key: leave http.api.api_keys_file out")
    target = config.target
    if target.autoscaling is not None:
        raise ConfigurationError("a soak counts processes: give target.replicas instead of target.autoscaling")
    if "replicas" not in target.model_fields_set:
        target = target.model_copy(update={"replicas": replicas})
    http = config.http.model_copy(update={"served_by": ServedBy.INGRESS})
    return config.model_copy(update={"target": target, "http": http})


def _kinds(text: str) -> Sequence[Fault]:
    if text == "none":
        return ()
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ConfigurationError(f"no such fault: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return [KINDS[name] for name in names]


def _run(config: ClusterConfig, plan: "Plan", new_tokens: int) -> "Report":
    from cluster.soak.cases import cases
    from cluster.soak.deployment import Deployment
    from cluster.soak.processes import Role
    from cluster.soak.run import Soak

    begun = time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - begun:6.1f} s  {line}", markup=False)

    require_free_port(config.http)
    config = prepare_models(config, say)
    expected = {
        Role.TARGET: config.target.replicas,
        Role.RANK: config.target.replicas * (config.target.tp - 1),
        Role.DRAFTER: config.drafters.replicas if config.drafters.enabled else 0,
        Role.INGRESS: config.http.replicas,
    }
    with ray_for(config) as logs, deployed(config, say):
        say(f"ready; logs are in {logs}")
        deployment = Deployment(f"http://{reachable_host(config.http)}:{config.http.port}", expected)
        asked = cases(served_model(config.http), NUM_CASES, new_tokens)
        return asyncio.run(Soak(deployment, asked, plan, say).run())
