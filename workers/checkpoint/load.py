"""Loading a causal LM with transformers: its definition and its loader are used, nothing else of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.distributed import DistributedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from workers.checkpoint.digest import weights_digest
from workers.checkpoint.eligibility import check_eligible, check_length, text_config
from workers.checkpoint.source import ModelSource
from workers.contract.errors import ConfigurationError, ModelRefusedError
from workers.settings import RunnerSettings


@dataclass
class LoadedModel:
    """A causal LM in evaluation mode on its device, and what the runner must know of it."""

    source: ModelSource
    model: torch.nn.Module
    config: Any
    """transformers' configuration of the language model (the text part of a multi-modal one)."""
    dtype: torch.dtype
    device: torch.device
    vocab_size: int
    """Rows of the head over all ranks; may exceed the tokenizer's vocabulary by padding."""
    max_model_len: int
    weights_digest: str


def load_causal_lm(
    settings: RunnerSettings, source: ModelSource, tp_size: int = 1, attn_implementation: str | None = None
) -> LoadedModel:
    """Load a model with its attention computed by ``attn_implementation`` (None: our paged attention).

    With ``tp_size`` above 1, torch.distributed must be initialised with exactly that many ranks; each rank
    reads only its own slices, and the head stays sharded by vocabulary (transformers' plan would gather
    full logits on every rank).

    Raises:
        ModelRefusedError: the checkpoint is incomplete, unknown, or would compute something silently wrong.
        ConfigurationError: the settings ask for what the model or the machine does not have.
    """
    config = _read_config(source)
    model_class = _causal_lm_class(config)
    check_eligible(config, model_class, tp_size)
    max_model_len = resolve_max_model_len(settings.max_model_len, text_config(config))
    check_length(config, max_model_len)
    device = resolve_device(settings.device)
    model = _load(source, settings, attn_implementation or _paged_attention(), _distributed(model_class, tp_size))
    model = model.to(device) if tp_size == 1 else model
    return LoadedModel(
        source=source,
        model=model.eval().requires_grad_(False),
        config=text_config(model.config),
        dtype=model.dtype,
        device=device,
        vocab_size=text_config(config).vocab_size,
        max_model_len=max_model_len,
        weights_digest=weights_digest(source.path),
    )


def check_servable(source: ModelSource, tp_size: int) -> None:
    """Refuse what ``load_causal_lm`` would refuse by the config alone, before anything is started for nothing.

    Raises:
        ModelRefusedError: see ``check_eligible``.
    """
    config = _read_config(source)
    check_eligible(config, _causal_lm_class(config), tp_size)


def resolve_max_model_len(setting: int | None, config: Any) -> int:
    """Return the longest sequence: the setting, else all that the model was trained for.

    Raises:
        ConfigurationError: the setting exceeds the model, or the model says nothing and neither does the setting.
    """
    limit: int | None = getattr(config, "max_position_embeddings", None)
    if limit is None and setting is None:
        raise ConfigurationError("the model's config has no max_position_embeddings; set max_model_len")
    if limit is not None and setting is not None and setting > limit:
        raise ConfigurationError(f"max_model_len is {setting}, but the model supports {limit} positions")
    return setting or limit or 0


def resolve_device(setting: str) -> torch.device:
    """Return the device: ``auto`` is the GPU where there is one.

    Raises:
        ConfigurationError: CUDA is asked for and there is none.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device is cuda, but torch sees no CUDA device; use device auto or cpu")
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda", torch.cuda.current_device()) if setting == "cuda" else torch.device(setting)


def _read_config(source: ModelSource) -> Any:
    try:
        with _quiet():
            return AutoConfig.from_pretrained(source.path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelRefusedError(f"the config of {source.name} cannot be used: {error}") from error


def _causal_lm_class(config: Any) -> type[Any] | None:
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    model_class: type[Any] = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return model_class


def _paged_attention() -> str:
    from workers.attention.bridge import ATTENTION_NAME  # importing it registers the attention function

    return ATTENTION_NAME


def _distributed(model_class: Any, tp_size: int) -> DistributedConfig | None:
    if tp_size == 1:
        return None
    heads = getattr(model_class, "_tp_plan", None) or {}
    return DistributedConfig(
        tp_size=tp_size,
        tp_plan={name: "colwise" for name, style in heads.items() if style == "colwise_gather_output"},
    )


def _load(source: ModelSource, settings: RunnerSettings, attention: str, distributed: DistributedConfig | None) -> Any:
    dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    try:
        with _quiet():
            model, report = AutoModelForCausalLM.from_pretrained(
                source.path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                attn_implementation=attention,
                distributed_config=distributed,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelRefusedError(f"{source.name} cannot be loaded: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelRefusedError(
            f"{source.name} lacks {len(missing)} weights, {missing[0]!r} among them; "
            "transformers would fill them with random numbers"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings off the console: every rank would print them."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
