"""A drafter made from its own target: the same checkpoint with the last layers cut off."""

import json
import re
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
_PER_LAYER_LISTS = ("layer_types", "no_rope_layers", "mlp_layer_types")


def truncate_checkpoint(source: Path, folder: Path, num_layers: int) -> Path:
    """Write the first ``num_layers`` layers of a checkpoint, tokenizer included, and return ``folder``.

    Such a model guesses a part of its target's tokens right without any training: a realistic drafter.
    """
    config = json.loads((source / "config.json").read_text())
    assert 0 < num_layers <= config["num_hidden_layers"]
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copy(file, folder)
    config["num_hidden_layers"] = num_layers
    for key in _PER_LAYER_LISTS:
        if config.get(key):
            config[key] = config[key][:num_layers]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    kept = {}
    for path in sorted(source.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            names = tensors.keys()
            kept |= {name: tensors.get_tensor(name) for name in names if _kept(name, num_layers)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _kept(name: str, num_layers: int) -> bool:
    match = _LAYER.search(name)
    return match is None or int(match[1]) < num_layers
