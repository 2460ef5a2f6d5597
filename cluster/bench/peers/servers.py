"""Servers that others have made, as their own documents start them on a machine without a GPU."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster.bench.server_process import ChildServer, free_port

MAX_MODEL_LEN = 1024
"""Positions per sequence that each server makes room for."""
VLLM_KV_CACHE_GIB = 1


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of somebody else's, and how it is started."""

    name: str
    """What the table calls it."""
    model: str
    """The name by which it serves the model."""
    command: Callable[[int], list[str]]
    """Makes it listen on a port of the loopback."""
    environ: dict[str, str] = field(default_factory=dict)

    def server(self, folder: Path) -> ChildServer:
        """Return the server, not started, for a port that is free now; its output will be in ``folder``."""
        port = free_port()
        return ChildServer(self.command(port), port, folder / f"{port}.log", environ=self.environ)


def llama_cpp(program: Path, gguf: Path, threads: int, slots: int) -> Peer:
    """Return llama.cpp's ``llama-server`` with a GGUF file, and ``slots`` places for requests at once."""

    def command(port: int) -> list[str]:
        return [
            *(str(program), "--model", str(gguf), "--host", "127.0.0.1", "--port", str(port), "--no-ui"),
            *("--threads", str(threads), "--parallel", str(slots), "--ctx-size", str(slots * MAX_MODEL_LEN)),
            *("--cache-ram", "0"),  # states of earlier requests: no prompt comes twice
        ]

    return Peer(f"llama.cpp, {gguf.name}", gguf.name, command)


def vllm(python: Path, model: Path, threads: int, slots: int) -> Peer:
    """Return vLLM's server in bf16, with the Python that it is installed for."""

    def command(port: int) -> list[str]:
        return [
            *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)),
            *("--model", str(model), "--served-model-name", model.name, "--dtype", "bfloat16"),
            *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", str(slots)),
        ]

    environ = {
        "VLLM_CPU_KVCACHE_SPACE": str(VLLM_KV_CACHE_GIB),
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return Peer("vLLM, bf16", model.name, command, environ)
