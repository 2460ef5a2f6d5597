"""Where a model comes from: a name, a folder, a GGUF file or a hub id becomes a local folder."""

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from workers.checkpoint.cache import Progress, build_once, converted_name, no_progress
from workers.checkpoint.embedded import embedded_model
from workers.contract.errors import ConfigurationError, ModelRefusedError
from workers.settings import DEFAULT_DRAFTER, DEFAULT_MODEL

SHIPPED = Path(__file__).parent.parent / "draft_model" / "shipped"
"""Draft models that come with the distribution."""
_HUB_WEIGHTS = ["*.safetensors"]
_HUB_TEXTS = ["*.json", "*.jinja", "tokenizer.model", "*.txt"]
_HUB_IGNORE = ["*/*", "consolidated*"]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelSource:
    """A model that is on this machine: ``path`` holds config, safetensors and tokenizer."""

    name: str
    path: Path


def resolve_model(model: str, progress: Progress | None = None, *, weights: bool = True) -> ModelSource:
    """Return the local folder of ``model``, fetching or converting it where that has not been done yet.

    ``model`` is the embedded default's name or its drafter's, a folder, a ``.gguf`` file or a hub id; something
    that exists on disk wins over a hub id of the same spelling. Without ``weights`` they are not fetched from a hub:
    for who wants the tokenizer alone.

    Raises:
        ModelRefusedError: the folder or file is not a checkpoint that can be served.
        ConfigurationError: there is no such model, or it cannot be fetched now.
    """
    progress = progress or no_progress
    if model == DEFAULT_MODEL:
        return ModelSource(model, embedded_model(progress))
    if model == DEFAULT_DRAFTER:
        return ModelSource(model, SHIPPED / DEFAULT_DRAFTER)
    path = Path(model).expanduser()
    if path.is_dir():
        check_folder(path)
        return ModelSource(path.resolve().name, path.resolve())
    if path.is_file():
        return _from_file(path, progress)
    if path.is_absolute() or model.startswith((".", "~")) or not _HUB_ID.fullmatch(model):
        raise ConfigurationError(
            f"there is no model {model!r}: give {DEFAULT_MODEL!r}, a folder with config.json and safetensors, "
            "a .gguf file, or a hub id (owner/name)"
        )
    return _from_hub(model, progress, weights)


def check_folder(path: Path) -> None:
    """Check that a folder looks like a checkpoint of safetensors.

    Raises:
        ModelRefusedError: config.json or the safetensors are missing, or the weights are pickled.
    """
    if not (path / "config.json").is_file():
        raise ModelRefusedError(f"{path} has no config.json: it is not a checkpoint folder")
    if any(path.glob("*.safetensors")):
        return
    if any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.pth")):
        raise ModelRefusedError(
            f"{path} holds pickled weights, which can run code when they are read; convert them where you trust "
            "them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder) writes safetensors"
        )
    raise ModelRefusedError(f"{path} has no *.safetensors: the weights are missing (pickled ones are not read)")


def _from_file(path: Path, progress: Progress) -> ModelSource:
    if path.suffix != ".gguf":
        raise ModelRefusedError(f"{path} is a file; give the folder that holds it, or a .gguf file")
    name = converted_name(path.stem, _file_key(path))
    return ModelSource(path.stem, build_once(name, partial(_convert, path.resolve()), progress))


def _convert(gguf: Path, folder: Path, progress: Progress) -> None:
    from workers.checkpoint.gguf_import import convert_gguf  # torch and transformers, for a first start only

    convert_gguf(gguf, folder, progress)


def _file_key(path: Path) -> str:
    """Return a key that changes when the file does: size, and the first and last megabyte."""
    size = path.stat().st_size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, size - _SAMPLE_BYTES))
        digest.update(file.read())
    return digest.hexdigest()


def _from_hub(model: str, progress: Progress, weights: bool) -> ModelSource:
    progress(f"fetching {model} from the hub", 0.0)
    patterns = [*_HUB_WEIGHTS, *_HUB_TEXTS] if weights else _HUB_TEXTS
    try:
        path = Path(snapshot_download(model, allow_patterns=patterns, ignore_patterns=_HUB_IGNORE))
    except GatedRepoError as error:
        raise ConfigurationError(f"{model} is gated: accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ConfigurationError(f"the hub has no model {model!r} (or it is private: set HF_TOKEN)") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ConfigurationError(
            f"{model} is neither a folder here nor in the hub's cache, and the hub cannot be reached; "
            f"give a local folder, or {DEFAULT_MODEL!r}, which comes from the package index"
        ) from error
    progress(f"fetching {model} from the hub", 1.0)
    if weights:
        check_folder(path)
    return ModelSource(model, path)
