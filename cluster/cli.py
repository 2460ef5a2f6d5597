"""The command ``outrider``."""

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from importlib.metadata import version as distribution_version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Never

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cluster.config import ClusterConfig, ServedBy
from cluster.config_loader import load_config
from cluster.serving import (
    Report,
    deployed,
    ray_for,
    reachable_host,
    require_free_port,
    require_same_tokenizer,
    served_model,
)
from workers.checkpoint.source import resolve_model
from workers.contract.errors import ConfigurationError, ModelRefusedError, OutriderError
from workers.settings import DEFAULT_MODEL

EXIT_FAILED = 1
EXIT_BAD_SETTINGS = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
models = typer.Typer(no_args_is_help=True)
app.add_typer(models, name="models", help="Prepare models.")
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@app.callback()
def _root() -> None:
    """Serve large language models with speculative decoding split across machines."""


@app.command()
def serve(
    config_file: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="Settings file.")] = None,
    target: Annotated[str | None, typer.Option(help="Target model: a folder, a .gguf file or a hub id.")] = None,
    drafter: Annotated[str | None, typer.Option(help="Draft model, or 'ngram', or 'none'.")] = None,
    drafters: Annotated[int | None, typer.Option(help="Number of drafter processes.")] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel degree of the target.")] = None,
    host: Annotated[str | None, typer.Option(help="Address that HTTP listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port that HTTP listens on.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Record every step of the target, for ui.perfetto.dev.")] = None,
) -> None:
    """Serve a model over HTTP until Ctrl-C."""
    overrides: dict[str, Any] = {
        "target": {"model": target, "tp": tp, "trace": {"file": trace} if trace else None},
        "drafters": {"model": drafter, "replicas": drafters},
        "http": {"host": host, "port": port},
    }
    with _errors_as_sentences():
        config = load_config(config_file, environ=os.environ, overrides=overrides)
        _serve(config)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(distribution_version("outrider"))


@models.command()
def fetch(model: Annotated[str, typer.Argument(help="The embedded default's name, or a hub id.")]) -> None:
    """Fetch and convert a model ahead of its first use, and print its folder."""
    with _errors_as_sentences():
        console.print(str(_fetch(model)))


def main() -> None:
    """Entry point of the console script."""
    app()


def _serve(config: ClusterConfig) -> None:
    begun = time.monotonic()

    def report(line: str) -> None:
        console.print(f"{time.monotonic() - begun:5.1f} s  {line}", markup=False)

    require_free_port(config.http)
    if config.ray.address is None:
        config = _prepare_models(_listening_itself(_tracing_here(config)), report)
    report("starting Ray" if config.ray.address is None else f"joining the Ray cluster at {config.ray.address}")
    with ray_for(config) as logs:
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


def _prepare_models(config: ClusterConfig, report: Report) -> ClusterConfig:
    """Fetch the models of this machine's roles; a relative path becomes absolute, for other processes to find."""
    folder = _fetch(config.target.model)
    report(f"target model {config.target.model} is in {folder}")
    target, drafters = config.target.model_copy(update={"model": _findable(config.target.model)}), config.drafters
    if drafters.computes:
        draft_folder = _fetch(drafters.model)
        report(f"draft model {drafters.model} is in {draft_folder}")
        if draft_folder != folder:
            require_same_tokenizer(folder, draft_folder)
        drafters = drafters.model_copy(update={"model": _findable(drafters.model)})
    return config.model_copy(update={"target": target, "drafters": drafters})


def _findable(model: str) -> str:
    """Return the name by which every process on this machine finds a model that this one has found."""
    named = model == DEFAULT_MODEL or not Path(model).expanduser().exists()
    return model if named else str(Path(model).expanduser().resolve())


def _fetch(model: str) -> Path:
    """Resolve a model, showing a bar for what takes long."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    bars = Progress(*columns, console=errors, transient=True)
    tasks: dict[str, TaskID] = {}

    def progress(stage: str, fraction: float) -> None:
        if stage not in tasks:
            bars.start()
            tasks[stage] = bars.add_task(stage, total=1.0)
        bars.update(tasks[stage], completed=fraction)

    try:
        return resolve_model(model, progress).path
    finally:
        if tasks:
            bars.stop()


def _print_usage(config: ClusterConfig) -> None:
    """Print the URL and a command that can be pasted into a shell."""
    url = f"http://{reachable_host(config.http)}:{config.http.port}/v1"
    body = {
        "model": served_model(config.http),
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 64,
    }
    command = ["curl", f"{url}/chat/completions", "-H", "content-type: application/json", "-d", json.dumps(body)]
    console.print(f"\nServing at {url}; Ctrl-C stops. Try:\n\n  {shlex.join(command)}\n", markup=False)


@contextlib.contextmanager
def _errors_as_sentences() -> Iterator[None]:
    """Print our own errors without a traceback and turn them into exit codes."""
    try:
        yield
    except (ConfigurationError, ModelRefusedError) as error:
        _fail(error, EXIT_BAD_SETTINGS)
    except OutriderError as error:
        _fail(error, EXIT_FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _fail(error: Exception, code: int) -> Never:
    errors.print("error: ", style="red", end="")
    errors.print(str(error), markup=False)
    raise typer.Exit(code)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
