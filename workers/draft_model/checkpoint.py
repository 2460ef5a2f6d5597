"""Draft models on disk: a folder with config, weights and what the target's checkpoint need not hold twice."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.checkpoint.source import resolve_model
from workers.contract.errors import ModelRefusedError
from workers.draft_model.config import DraftModelConfig
from workers.draft_model.model import DraftModel

WEIGHTS = "model.safetensors"
SHARED = {"embedding.weight": "embed_tokens.weight", "head.weight": "lm_head.weight"}
"""Parts of a draft model that may be left to its target's checkpoint, and how their names end there."""


def save_draft_model(model: DraftModel, folder: Path, with_shared: bool) -> None:
    """Write a draft model in bfloat16; without ``with_shared``, embedding and head are left to the target's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor.to(torch.int32)).contiguous()
        for name, tensor in model.state_dict().items()
        if with_shared or name not in SHARED
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    model.config.save(folder)


def load_draft_model(
    folder: Path, device: torch.device, dtype: torch.dtype = torch.bfloat16, target: Path | None = None
) -> DraftModel:
    """Load a draft model for drafting.

    What is not stored comes from ``target``, the target's folder, or else from the model that the config names.

    Raises:
        ModelRefusedError: weights are missing, of another shape, or unreadable.
        ConfigurationError: the target is needed and is not here.
    """
    config = DraftModelConfig.load(folder)
    with torch.device("meta"):
        model = DraftModel(config)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelRefusedError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    ids = weights.get("draft_ids")
    if ids is None or ids.shape != (config.draft_vocab_size,) or not _are_ids(ids, config.vocab_size):
        raise ModelRefusedError(f"{folder / WEIGHTS}: draft_ids are no {config.draft_vocab_size} ascending token ids")
    weights["draft_ids"] = ids.to(torch.int64)
    if missing := [name for name in SHARED if name not in weights]:
        weights |= shared_weights(target or resolve_model(config.target).path, missing, weights["draft_ids"])
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := sorted(name for name in wanted | found if wanted.get(name) != found.get(name)):
        raise ModelRefusedError(
            f"{folder}: {wrong[0]} is {_shape(found.get(wrong[0]))}, and should be {_shape(wanted.get(wrong[0]))}"
        )
    model = DraftModel(config)
    model.load_state_dict(weights)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.to(device=device, dtype=dtype).eval()


def shared_weights(target: Path, names: list[str], draft_ids: Tensor) -> dict[str, Tensor]:
    """Return embedding and head rows from a target's checkpoint; a tied head is the embedding.

    Raises:
        ModelRefusedError: the checkpoint has none.
    """
    found: dict[str, Tensor] = {}
    for path in sorted(target.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                for name, ending in SHARED.items():
                    if key.endswith(ending):
                        found[name] = file.get_tensor(key)
    if "embedding.weight" not in found:
        raise ModelRefusedError(f"{target} has no token embedding that a draft model could share")
    head = found.get("head.weight", found["embedding.weight"])
    if int(draft_ids.max()) >= len(head):
        raise ModelRefusedError(f"{target} has {len(head)} token ids, fewer than the draft model was made for")
    shared = {"embedding.weight": found["embedding.weight"], "head.weight": head[draft_ids]}
    return {name: shared[name] for name in names}


def _are_ids(ids: Tensor, vocab_size: int) -> bool:
    return bool((ids[1:] > ids[:-1]).all()) and int(ids[0]) >= 0 and int(ids[-1]) < vocab_size


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))
