"""``outrider distill``: a draft model for a target that has none."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.distill_progress import DistillProgress
from cluster.commands.models import fetch_model
from cluster.commands.output import draws, prepare_output
from cluster.commands.terminal import console, errors, errors_as_sentences
from cluster.config_loader import validated
from workers.contract.errors import ConfigurationError
from workers.distill.settings import StudentSettings, TrainingSettings
from workers.settings import DEFAULT_MODEL, RunnerSettings
from workers.threads import claim_threads, usable_cpus


def distill(
    out: Annotated[Path, typer.Option(help="Folder for the draft model.")],
    target: Annotated[str, typer.Option(help="Target model: a folder or a hub id.")] = DEFAULT_MODEL,
    samples: Annotated[
        Path | None,
        typer.Option(help="Its own answers: lines of JSON with p (prompt ids), o (output ids), t (temperature)."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Or prompts to have answered: a .jsonl or text file, or a folder of texts.")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for states and checkpoints; OUT/work.")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers of the draft model (1).")] = None,
    vocab: Annotated[int | None, typer.Option(help="Ids that it can propose, the most frequent ones (12288).")] = None,
    features: Annotated[bool, typer.Option(help="Read the target's hidden states, or tokens alone.")] = True,
    epochs: Annotated[float | None, typer.Option(help="Passes over the samples (4).")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Positions per training step (4096).")] = None,
    passes: Annotated[int | None, typer.Option(help="Tokens of a block to train for (3).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate (0.002).")] = None,
    answer_tokens: Annotated[int, typer.Option(help="With --prompts: longest answer.")] = 256,
    store_shared: Annotated[bool, typer.Option(help="Store embedding and head too, not only in the target.")] = False,
    seed: Annotated[int, typer.Option(help="Of answers, order and initial weights.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    plots: Annotated[bool | None, typer.Option(help="Draw loss and acceptance into OUT/training.png.")] = None,
) -> None:
    """Make a small draft model for a target, trained on what the target says.

    Interrupted at any time, the same command goes on where it was. The result is a drafter: outrider serve
    --target M --drafter OUT.
    """
    with errors_as_sentences():
        if (samples is None) == (prompts is None):
            raise ConfigurationError("give either --samples, answers of the target, or --prompts, for it to answer")
        student = validated(StudentSettings, layers=layers, vocab=vocab, features=features)
        training = validated(
            TrainingSettings,
            epochs=epochs,
            batch_tokens=batch_tokens,
            passes=passes,
            learning_rate=learning_rate,
            seed=seed,
        )
        runner = validated(RunnerSettings, device=device, threads=threads)
        plots = draws(plots)
        prepare_output(out)
        fetch_model(target)
        claim_threads(threads or usable_cpus())
        from cluster.distill.order import Order  # torch and transformers, for who needs them
        from cluster.distill.run import distill as make

        order = Order(
            target=target,
            out=out,
            work=work or out / "work",
            runner=runner,
            student=student,
            training=training,
            samples=samples,
            prompts=prompts,
            answer_tokens=answer_tokens,
            store_shared=store_shared,
        )
        with DistillProgress(errors) as progress:
            made = make(order, progress)
        (out / "distill.json").write_text(json.dumps(made.figures(), indent=2) + "\n", encoding="utf-8")
        if plots:
            from cluster.distill.plot import save_plot

            save_plot(order.work / "journal.jsonl", out / "training.png")
        console.print(f"the draft model is in {out}: outrider serve --target {target} --drafter {out}", markup=False)
