"""``outrider bench``: load an endpoint, or an engine of this machine, plainly and with speculation in turn."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from cluster.bench.load.errors import require_installed
from cluster.bench.load.prompts import Prompt, load_prompts
from cluster.bench.load.settings import ApiKind, BenchSettings, parse_loads
from cluster.commands.bench_progress import SweepProgress
from cluster.commands.models import prepare_models
from cluster.commands.output import KEY_OPTION, draws, prepare_output, redacted
from cluster.commands.terminal import console, errors, errors_as_sentences, show
from cluster.config import ClusterConfig
from cluster.config_loader import explain, load_config
from workers.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from cluster.bench.load.report import Report

KEY_VARIABLE = "OUTRIDER_API_KEY"


@dataclass(frozen=True)
class Job:
    """What is measured, whoever is asked."""

    settings: BenchSettings
    prompts: Sequence[Prompt]
    command: str


def bench(
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="Base URL of an OpenAI-compatible endpoint; none: an engine is started."),
    ] = None,
    concurrency: Annotated[str | None, typer.Option(help="Requests at once, such as 1,4,16,32 (the default).")] = None,
    rate: Annotated[str | None, typer.Option(help="Instead: requests per second, arriving at random: 0.5,2,8.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds that count, after one that warms up.")] = 5,
    requests: Annotated[int | None, typer.Option(help="Requests per load, way of decoding and round.")] = None,
    new_tokens: Annotated[int, typer.Option(help="Tokens per answer.")] = 128,
    prompts: Annotated[Path | None, typer.Option(help="File with a prompt per line: text or JSON.")] = None,
    temperature: Annotated[float, typer.Option(help="0: greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of arrival times and sampled answers.")] = 0,
    api: Annotated[ApiKind, typer.Option(help="Which of OpenAI's endpoints is asked.")] = ApiKind.CHAT,
    ignore_eos: Annotated[bool, typer.Option(help="Let Outrider's answers have full length.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request has failed.")] = 600.0,
    model: Annotated[str | None, typer.Option(help="Model to ask for; without URL: the target to start.")] = None,
    drafter: Annotated[str | None, typer.Option(help="Without URL: draft model, or 'ngram', or 'none'.")] = None,
    config: Annotated[Path | None, typer.Option(help="Without URL: settings file, as for serve.")] = None,
    api_key: Annotated[str | None, typer.Option(KEY_OPTION, envvar=KEY_VARIABLE, help="The endpoint's key.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for report.json, report.md and plots.")] = None,
    plots: Annotated[bool | None, typer.Option(help="Draw plots into that folder.")] = None,
) -> None:
    """Measure plain decoding and speculation under load, interleaved in one run."""
    with errors_as_sentences():
        try:
            settings = BenchSettings(
                loads=parse_loads(concurrency, rate),
                rounds=rounds,
                requests=requests,
                new_tokens=new_tokens,
                ignore_eos=ignore_eos,
                temperature=temperature,
                seed=seed,
                api=api,
                timeout_s=timeout,
            )
        except ValidationError as error:
            raise ConfigurationError(explain(error, BenchSettings)) from None
        require_installed("aiohttp", "outrider bench")
        if output is not None:
            plots = draws(plots)
            prepare_output(output)
        job = Job(settings, load_prompts(prompts, api), redacted(sys.argv[1:]))
        if url is None:
            report = _bench_locally(job, _local_config(config, model, drafter))
        elif drafter is not None or config is not None:
            raise ConfigurationError("--drafter and --config describe an engine to start: leave them out with a URL")
        else:
            report = _bench(job, url, model=model, api_key=api_key)
        _show(report)
        if output is not None:
            _save(report, output, plots=bool(plots))


def _local_config(file: Path | None, model: str | None, drafter: str | None) -> ClusterConfig:
    from cluster.bench.load.local_engine import require_one_process

    overrides = {"target": {"model": model}, "drafters": {"model": drafter}}
    config = load_config(file, environ=os.environ, overrides=overrides)
    require_one_process(config)
    return config


def _bench_locally(job: Job, config: ClusterConfig) -> "Report":
    from cluster.bench.load.local_engine import LocalEngine

    prepared = prepare_models(config, lambda line: errors.print(line, markup=False))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        engine = LocalEngine(prepared, Path(folder) / "engine.log")
        with errors.status("starting a local engine"):
            stack.enter_context(engine)
        return _bench(job, engine.url, local=config)


def _bench(
    job: Job,
    url: str,
    *,
    model: str | None = None,
    api_key: str | None = None,
    local: ClusterConfig | None = None,
) -> "Report":
    from cluster.bench.load.benchmark import run_benchmark

    benchmark = run_benchmark(
        url,
        job.settings,
        job.prompts,
        model=model,
        api_key=api_key,
        local=local,
        command=job.command,
        watch=lambda requests: SweepProgress(errors, requests),
    )
    return asyncio.run(benchmark)


def _show(report: "Report") -> None:
    from cluster.bench.load.table import WIDTH, render

    show(render(report), WIDTH)


def _save(report: "Report", folder: Path, *, plots: bool) -> None:
    from cluster.bench.load.table import markdown

    report.save(folder / "report.json")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    saved = ["report.json", "report.md"]
    if plots:
        from cluster.bench.load.plots import save_plots

        saved += [file.name for file in save_plots(report, folder)]
    console.print(f"saved in {folder}: {', '.join(saved)}", markup=False)
