"""The command ``outrider``."""

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version as distribution_version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from cluster.commands.acceptance import acceptance
from cluster.commands.bench import bench
from cluster.commands.certs import certs
from cluster.commands.distill import distill
from cluster.commands.keys import keys
from cluster.commands.models import fetch_model, prepare_models
from cluster.commands.plan import plan
from cluster.commands.soak import soak
from cluster.commands.terminal import console, errors_as_sentences
from cluster.config import ClusterConfig, ServedBy
from cluster.config_loader import load_config
from cluster.serving import (
    DeployError,
    asks_for_token,
    deployed,
    ray_for,
    reachable_host,
    require_free_port,
    served_model,
)
from workers.settings import DEFAULT_MODEL

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
models = typer.Typer(no_args_is_help=True)
app.add_typer(models, name="models", help="Prepare models.")
app.add_typer(keys, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve large language models with speculative decoding split across machines."""


@app.command()
def serve(
    config_file: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="Settings file.")] = None,
    target: Annotated[
        str | None, typer.Option(help=f"Target model ({DEFAULT_MODEL}): a folder, a .gguf file or a hub id.")
    ] = None,
    drafter: Annotated[
        str | None, typer.Option(help="Draft model (the default model's own), or 'ngram', or 'none'.")
    ] = None,
    drafters: Annotated[int | None, typer.Option(help="Number of drafter processes (1).")] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel degree of the target (1).")] = None,
    host: Annotated[str | None, typer.Option(help="Address that HTTP listens on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port that HTTP listens on (8000).")] = None,
    trace: Annotated[Path | None, typer.Option(help="Record every step of the target, for ui.perfetto.dev.")] = None,
) -> None:
    """Serve a model over HTTP until Ctrl-C.

    What the command line leaves out comes from the environment (OUTRIDER_HTTP__PORT=9000), then from the settings file.
    """
    overrides: dict[str, Any] = {
        "target": {"model": target, "tp": tp, "trace": {"file": trace} if trace else None},
        "drafters": {"model": drafter, "replicas": drafters},
        "http": {"host": host, "port": port},
    }
    with errors_as_sentences():
        config = load_config(config_file, environ=os.environ, overrides=overrides)
        _serve(config)


for command in (bench, plan, acceptance, distill, soak, certs):
    app.command()(command)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(distribution_version("outrider"))


@models.command()
def fetch(model: Annotated[str, typer.Argument(help="The embedded default's name, or a hub id.")]) -> None:
    """Fetch and convert a model ahead of its first use, and print its folder."""
    with errors_as_sentences():
        console.print(str(fetch_model(model)))


def main() -> None:
    """Entry point of the console script."""
    app()


def _serve(config: ClusterConfig) -> None:
    begun = time.monotonic()

    def report(line: str) -> None:
        console.print(f"{time.monotonic() - begun:5.1f} s  {line}", markup=False)

    require_free_port(config.http)
    if config.ray.address is None:
        config = prepare_models(_listening_itself(_tracing_here(config)), report)
    report("starting Ray" if config.ray.address is None else f"joining the Ray cluster at {config.ray.address}")
    if config.ray.address is not None and not asks_for_token(os.environ):
        report("warning: RAY_AUTH_MODE is not 'token': whoever reaches this Ray cluster can run code on all of it")
    with ray_for(config) as logs, _failing_aloud(report, logs):
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGHUP, _interrupt)
        report(f"deploying target, drafters and ingress; logs are in {logs}")
        with deployed(config, report):
            report("ready")
            _print_usage(config)
            if config.target.trace is not None:
                console.print(
                    f"Tracing to {config.target.trace.file}; open it in https://ui.perfetto.dev", markup=False
                )
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            console.print("\nstopping: requests in progress may finish; Ctrl-C again ends them")


@contextlib.contextmanager
def _failing_aloud(report: Callable[[str], None], logs: str) -> Iterator[None]:
    """Say where a failed start has left its logs, and that one is undone where it is given up: that takes seconds."""
    try:
        yield
    except DeployError as error:
        raise DeployError(f"{error}: {logs}") from error
    except KeyboardInterrupt:
        report("interrupted; stopping what was started")
        raise


def _listening_itself(config: ClusterConfig) -> ClusterConfig:
    """Let the ingress listen, unless the settings want the proxy: all processes will be on this machine."""
    http = config.http.model_copy(update={"served_by": config.http.served_by or ServedBy.INGRESS})
    return config.model_copy(update={"http": http})


def _tracing_here(config: ClusterConfig) -> ClusterConfig:
    """Make sure that a trace can be written, and overwrites none, before anything is started for nothing."""
    if config.target.trace is None:
        return config
    target = config.target.model_copy(update={"trace": config.target.trace.on_this_machine()})
    return config.model_copy(update={"target": target})


def _print_usage(config: ClusterConfig) -> None:
    """Print the URL and a command that can be pasted into a shell."""
    root = f"http://{reachable_host(config.http)}:{config.http.port}"
    url = f"{root}/v1"
    closed = config.http.api.api_keys_file is not None
    body = {
        "model": (*config.http.api.served_model_names, config.target.model)[0] if closed else served_model(config.http),
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 64,
    }
    key = ["-H", "authorization: Bearer YOUR_KEY"] if closed else []
    header = ["-H", "content-type: application/json"]
    command = ["curl", f"{url}/chat/completions", *key, *header, "-d", json.dumps(body)]
    page = f", with a page to try it at {root}/" if config.http.api.page else ""
    console.print(f"\nServing at {url}{page}; Ctrl-C stops. Try:\n\n  {shlex.join(command)}\n", markup=False)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
