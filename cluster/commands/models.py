"""Get the models of a deployment ready on this machine before any process needs them."""

from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cluster.commands.terminal import errors
from cluster.config import ClusterConfig
from cluster.serving import Report, require_same_tokenizer
from workers.checkpoint.source import ModelSource, resolve_model
from workers.settings import DEFAULT_MODEL


def prepare_models(config: ClusterConfig, report: Report) -> ClusterConfig:
    """Fetch the models of this machine's roles; a relative path becomes absolute, for other processes to find.

    Raises:
        ModelRefusedError: A model cannot be had, the target cannot be divided among its ranks, or the drafter's
            tokenizer is not the target's.
    """
    folder = fetch_model(config.target.model)
    report(f"target model {config.target.model} is in {folder}")
    if config.target.tp > 1:
        from workers.checkpoint.load import check_servable  # seconds of imports, for who needs them

        check_servable(ModelSource(config.target.model, folder), config.target.tp)
    target, drafters = config.target.model_copy(update={"model": _findable(config.target.model)}), config.drafters
    if drafters.computes:
        draft_folder = fetch_model(drafters.model)
        report(f"draft model {drafters.model} is in {draft_folder}")
        if draft_folder != folder:
            require_same_tokenizer(folder, draft_folder)
        drafters = drafters.model_copy(update={"model": _findable(drafters.model)})
    return config.model_copy(update={"target": target, "drafters": drafters})


def fetch_model(model: str) -> Path:
    """Return the folder of a model, showing a bar for what takes long.

    Raises:
        ModelRefusedError: There is no such model, or it cannot be had.
    """
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


def _findable(model: str) -> str:
    """Return the name by which every process on this machine finds a model that this one has found."""
    named = model == DEFAULT_MODEL or not Path(model).expanduser().exists()
    return model if named else str(Path(model).expanduser().resolve())
