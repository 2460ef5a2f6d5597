"""Which drafter a model makes: by what its folder says it is."""

import torch

from workers.checkpoint.load import resolve_device
from workers.checkpoint.source import resolve_model
from workers.draft_model.checkpoint import load_draft_model
from workers.draft_model.config import is_draft_model
from workers.draft_model.runner import PlainDraftRunner
from workers.drafting.features.drafter import FeatureDrafter
from workers.drafting.features.runner import FeatureRunner
from workers.drafting.model_drafter import ModelDrafter
from workers.layers.int8_linears import has_int8_kernels
from workers.model_runner import ModelRunner
from workers.settings import DrafterSettings
from workers.threads import run_in_passing_thread


def load_drafter(settings: DrafterSettings) -> ModelDrafter:
    """Load the model that the settings name; takes seconds.

    Raises:
        ModelRefusedError: the model cannot be loaded, or would compute something silently wrong.
        ConfigurationError: there is no such model, or the settings do not fit it or the machine.
    """
    runner = settings.runner.model_copy(update={"model": settings.model})
    source = resolve_model(settings.model)
    if not is_draft_model(source.path):
        return ModelDrafter(ModelRunner.from_settings(runner))
    if runner.threads is not None:
        torch.set_num_threads(runner.threads)

    def load() -> ModelDrafter:
        device = resolve_device(runner.device)
        dtype = torch.bfloat16 if runner.dtype == "auto" else getattr(torch, runner.dtype)
        model = load_draft_model(source.path, device, dtype)
        int8 = device.type == "cpu" and runner.dtype == "auto" and has_int8_kernels()
        if model.config.feature_layers:
            return FeatureDrafter(FeatureRunner(model, source.name, runner, int8))
        return ModelDrafter(PlainDraftRunner(model, source.name, runner, int8))

    return run_in_passing_thread(load)
