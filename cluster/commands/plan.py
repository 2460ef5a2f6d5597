"""``outrider plan``: how many drafters a fleet should have, from a simulation of it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.bench.report import today
from cluster.commands.bench_progress import SweepProgress
from cluster.commands.models import prepare_models
from cluster.commands.output import draws, prepare_output, redacted
from cluster.commands.terminal import console, errors, errors_as_sentences, show
from cluster.commands.values import numbers
from cluster.config_loader import load_config, validated
from cluster.plan.builtin import BUILTIN, DEFAULT, builtin
from cluster.plan.fleet import Demand
from cluster.plan.profile import HardwareProfile, load_profile
from cluster.plan.recommend import Limits, recommend
from cluster.plan.report import Plan
from cluster.plan.sweep import fleets, sweep
from cluster.plan.table import WIDTH, markdown, render
from workers.contract.errors import ConfigurationError
from workers.settings import DEFAULT_MODEL


def plan(
    profile: Annotated[
        str | None,
        typer.Argument(metavar="[PROFILE]", help=f"YAML or JSON file, or built in: {', '.join(BUILTIN)}."),
    ] = None,
    targets: Annotated[str, typer.Option(help="Numbers of targets, such as 1,2.")] = "1",
    drafters: Annotated[str, typer.Option(help="Numbers of drafters that they share; 0: plain.")] = "0,1,2,4,8",
    concurrency: Annotated[int | None, typer.Option(help="Requests at once in the whole fleet (64).")] = None,
    rate: Annotated[float | None, typer.Option(help="Instead: requests per second, arriving at random.")] = None,
    requests: Annotated[int | None, typer.Option(help="Requests per fleet; four times the concurrency.")] = None,
    prompt_tokens: Annotated[int | None, typer.Option(help="Length of prompts, over the profile's.")] = None,
    answer_tokens: Annotated[int | None, typer.Option(help="Length of answers, over the profile's.")] = None,
    acceptance: Annotated[str | None, typer.Option(help="By position, over the profile's: 0.8,0.7,0.65.")] = None,
    target_price: Annotated[float | None, typer.Option(help="Per hour of a target, all its devices.")] = None,
    drafter_price: Annotated[float | None, typer.Option(help="Per hour of a drafter.")] = None,
    max_itl_ms: Annotated[float | None, typer.Option(help="Only recommend what has this ITL at p95.")] = None,
    max_ttft_ms: Annotated[float | None, typer.Option(help="Only recommend what has this TTFT at p95.")] = None,
    seed: Annotated[int, typer.Option(help="Of arrivals, acceptance and jitter.")] = 0,
    measure: Annotated[
        Path | None, typer.Option(help="Measure this machine first: minutes. Writes the profile into this new file.")
    ] = None,
    model: Annotated[str, typer.Option(help="With --measure: the target.")] = DEFAULT_MODEL,
    drafter: Annotated[str, typer.Option(help="With --measure: draft model, or 'ngram'.")] = "ngram",
    output: Annotated[Path | None, typer.Option(help="Folder for plan.json, plan.md and plan.png.")] = None,
    plots: Annotated[bool | None, typer.Option(help="Draw the plot into that folder.")] = None,
) -> None:
    """Simulate fleets of several sizes with the scheduler that serves, and recommend one.

    A core simulates 15,000 to 60,000 tokens a second: with the defaults a plan takes some ten seconds.
    """
    with errors_as_sentences():
        combinations = fleets(numbers("--targets", targets, int), numbers("--drafters", drafters, int))
        if concurrency is not None and rate is not None:
            raise ConfigurationError("give either --concurrency or --rate: a plan has one kind of load")
        demand = validated(Demand, concurrency=concurrency, rate=rate, requests=requests, seed=seed)
        limits = validated(Limits, max_itl_ms=max_itl_ms, max_ttft_ms=max_ttft_ms)
        if output is not None:
            plots = draws(plots)
            prepare_output(output)
        if measure is not None and profile is not None:
            raise ConfigurationError("give either a profile or --measure, which makes one")
        known = _profile(profile) if measure is None else _measured(measure, model, drafter)
        costs = known.changed(
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            acceptance=None if acceptance is None else numbers("--acceptance", acceptance, float),
            target__price_per_hour=target_price,
            drafter__price_per_hour=drafter_price,
        )
        with SweepProgress(errors, len(combinations)) as bar:
            bar.begin("simulating fleets")
            figures = sweep(costs, demand, combinations, bar.advance)
        made = Plan(
            date=today(),
            command=redacted(sys.argv[1:]),
            profile=costs,
            demand=demand,
            limits=limits,
            fleets=tuple(figures),
            recommendation=recommend(figures, limits),
        )
        _show(made)
        if output is not None:
            _save(made, output, plots=bool(plots))


def _profile(named: str | None) -> HardwareProfile:
    if named is None or named in BUILTIN:
        return builtin(named or DEFAULT)
    return load_profile(Path(named)) if Path(named).exists() else builtin(named)


def _measured(file: Path, model: str, drafter: str) -> HardwareProfile:
    """Measure this machine and write its profile, into a file that is not there yet: one may have taken minutes."""
    from cluster.plan.measure import measure_profile, save_profile

    if file.exists():
        raise ConfigurationError(f"{file} exists: give it as the profile to plan with it, or another name to measure")
    prepare_output(file.parent)
    overrides = {"target": {"model": model}, "drafters": {"model": drafter}}
    config = prepare_models(load_config(overrides=overrides), lambda line: errors.print(line, markup=False))
    if not config.drafters.enabled:
        raise ConfigurationError("--drafter must be a model or 'ngram': a profile tells what drafters cost")
    with errors.status("measuring this machine") as status:
        made = measure_profile(config.target.runner_settings(), config.drafters.drafter_settings(), status.update)
    save_profile(made, file)
    console.print(f"measured profile saved in {file}", markup=False)
    return made


def _show(made: Plan) -> None:
    show(render(made), WIDTH)


def _save(made: Plan, folder: Path, *, plots: bool) -> None:
    made.save(folder / "plan.json")
    (folder / "plan.md").write_text(markdown(made), encoding="utf-8")
    saved = ["plan.json", "plan.md"]
    if plots:
        from cluster.plan.plot import save_plot

        save_plot(made, folder / "plan.png")
        saved.append("plan.png")
    console.print(f"saved in {folder}: {', '.join(saved)}", markup=False)
