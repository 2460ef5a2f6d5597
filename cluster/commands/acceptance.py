"""``outrider acceptance``: what a drafter's guesses are worth."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.bench.prompts import KINDS, conversation
from cluster.bench.report import today
from cluster.commands.bench_progress import SweepProgress
from cluster.commands.models import prepare_models
from cluster.commands.output import prepare_output, redacted
from cluster.commands.terminal import console, errors, errors_as_sentences, show
from cluster.commands.values import numbers
from cluster.config_loader import load_config
from workers.contract.errors import ConfigurationError
from workers.settings import DEFAULT_MODEL
from workers.threads import usable_cpus


def acceptance(
    drafter: Annotated[str | None, typer.Option(help="Draft model, or 'ngram'; the one that comes along.")] = None,
    target: Annotated[str, typer.Option(help="Target model: a folder, a .gguf file or a hub id.")] = DEFAULT_MODEL,
    length: Annotated[int, typer.Option(min=1, max=16, help="Draft tokens per verification (K).")] = 4,
    temperatures: Annotated[str, typer.Option(help="With commas between them.")] = "0,0.8",
    kinds: Annotated[str, typer.Option(help=f"Of prompts: {', '.join(KINDS)}.")] = "chat,code,summarise,copy",
    prompts: Annotated[Path | None, typer.Option(help="Instead: one prompt per line, or JSON lines.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Answers per prompt at temperatures above 0.")] = 2,
    output: Annotated[Path | None, typer.Option(help="Folder for acceptance.json and acceptance.md.")] = None,
) -> None:
    """Measure a drafter on this machine: tokens accepted by kind of prompt and temperature, and its cost.

    Serves one request at a time, every verification with a draft. Minutes with the default model.
    """
    with errors_as_sentences():
        heats = numbers("--temperatures", temperatures, float)
        if output is not None:
            prepare_output(output)
        overrides = {"target": {"model": target}, "drafters": {"model": drafter}}
        config = prepare_models(load_config(overrides=overrides), lambda line: errors.print(line, markup=False))
        if not config.drafters.enabled:
            raise ConfigurationError("--drafter must be a model or 'ngram'")
        from cluster.bench.acceptance.measure import Question, measure  # torch, for who needs it
        from cluster.bench.acceptance.report import WIDTH, render
        from cluster.bench.markdown import markdown
        from cluster.distill.prompts import read_prompts
        from workers.checkpoint.source import resolve_model
        from workers.tokenizer import Tokenizer

        tokenizer = Tokenizer.from_folder(resolve_model(config.target.model).path)
        texts = {
            kind: [tokenizer.apply_chat_template(conversation(text)) for text in KINDS[kind]] for kind in _chosen(kinds)
        }
        if prompts is not None:
            texts = {prompts.stem: read_prompts(prompts, tokenizer, max_tokens=1024)}
        question = Question(
            config.target.runner_settings(),
            config.drafters.drafter_settings(),
            length,
            texts,
            heats,
            repeats,
            max_tokens,
            sorted(tokenizer.eos_token_ids),
            usable_cpus(),
        )
        answers = sum(map(len, texts.values())) * sum(1 if heat == 0 else repeats for heat in heats)
        with SweepProgress(errors, answers) as bar:
            report = measure(question, bar.begin, bar.advance)
        show(render(report), WIDTH)
        if output is not None:
            command = redacted(sys.argv[1:])
            figures = {"date": today(), "command": command, "drafter": config.drafters.model, **report.figures()}
            (output / "acceptance.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            text = markdown(f"Acceptance of {config.drafters.model}, {today()}", command, render(report), WIDTH)
            (output / "acceptance.md").write_text(text, encoding="utf-8")
            console.print(f"saved in {output}: acceptance.json, acceptance.md", markup=False)


def _chosen(kinds: str) -> list[str]:
    chosen = [kind.strip() for kind in kinds.split(",")]
    for kind in chosen:
        if kind not in KINDS:
            raise ConfigurationError(f"--kinds: {kind!r} is none of {', '.join(KINDS)}")
    return list(dict.fromkeys(chosen))
