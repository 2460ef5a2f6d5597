import json

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tests.support.tiny_gguf import write_gguf
from tests.support.tiny_models import make_tiny
from workers.checkpoint import source
from workers.checkpoint.source import resolve_model
from workers.contract.errors import ConfigurationError, ModelRefusedError


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my-model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (path / "model.safetensors").touch()
    return path


def test_a_folder_is_used_where_it_is(folder, monkeypatch):
    assert resolve_model(str(folder)).path == folder
    monkeypatch.chdir(folder.parent)
    assert resolve_model("my-model") == resolve_model(str(folder))
    assert resolve_model("./my-model").name == "my-model"


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ModelRefusedError, match=r"no config\.json"):
        resolve_model(str(folder))


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelRefusedError, match=r"pickled.*save_pretrained"):
        resolve_model(str(folder))


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelRefusedError, match="weights are missing"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    "model", ["/no/such/folder", "./nothing", "nothing", "a/b/c", "~/no-such-model", "owner/na me"]
)
def test_what_is_nowhere_is_named_with_the_choices(model):
    with pytest.raises(ConfigurationError, match=r"smollm2-135m-instruct.*hub id"):
        resolve_model(model)


def test_a_single_weights_file_is_refused(folder):
    with pytest.raises(ModelRefusedError, match="give the folder"):
        resolve_model(str(folder / "model.safetensors"))


def test_a_gguf_file_is_converted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path / "cache"))
    gguf = write_gguf(make_tiny(tmp_path / "tiny"), tmp_path / "tiny-q8.gguf")
    found = resolve_model(str(gguf))
    assert found.name == "tiny-q8"
    assert (found.path / "model.safetensors").is_file()
    monkeypatch.setattr(source, "_convert", lambda *_: pytest.fail("converted again"))
    assert resolve_model(str(gguf)) == found


def test_another_gguf_of_the_same_name_is_not_mistaken_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path / "cache"))
    paths = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        gguf = write_gguf(make_tiny(folder / "tiny", seed=seed), folder / "tiny.gguf")
        paths.append(resolve_model(str(gguf)).path)
    assert paths[0] != paths[1]


def test_a_hub_id_is_fetched_without_pickles(folder, monkeypatch):
    asked = {}

    def snapshot_download(model, allow_patterns, ignore_patterns):
        asked.update(model=model, allow=allow_patterns)
        return str(folder)

    monkeypatch.setattr(source, "snapshot_download", snapshot_download)
    found = resolve_model("owner/model")
    assert (found.name, found.path) == ("owner/model", folder)
    assert "*.safetensors" in asked["allow"]
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in asked["allow"])


def test_who_wants_the_tokenizer_alone_fetches_no_weights(tmp_path, monkeypatch):
    """An ingress needs none of a target's 140 GB, and its node may have no room for them."""
    asked = []

    def snapshot_download(model, allow_patterns, ignore_patterns):
        asked.extend(allow_patterns)
        return str(tmp_path)  # no safetensors in it, which is no reason to refuse it

    monkeypatch.setattr(source, "snapshot_download", snapshot_download)
    assert resolve_model("owner/model", weights=False).path == tmp_path
    assert "*.json" in asked and "*.safetensors" not in asked


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("offline"), ConnectionError("no route")])
def test_an_unreachable_hub_is_a_clear_error(monkeypatch, error):
    def snapshot_download(*_, **__):
        raise error

    monkeypatch.setattr(source, "snapshot_download", snapshot_download)
    with pytest.raises(ConfigurationError, match=r"owner/model .*cannot be reached.*smollm2"):
        resolve_model("owner/model")
