"""What a worker process must be told: its model, its memory, its device. Unknown keys are errors."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_MODEL = "smollm2-135m-instruct"
"""The embedded default: fetched from the package index, so that no model hub is needed."""
DEFAULT_DRAFTER = "smollm2-135m-instruct-drafter"
"""The draft model that was made for it and comes along."""


class Settings(BaseModel):
    """Base of every settings class: immutable, and a key that does not exist is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunnerSettings(Settings):
    """How one model is loaded and run, on a target and on a model drafter alike."""

    model: str = DEFAULT_MODEL
    """The embedded default's name, a folder with safetensors, or a hub id."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """auto: the checkpoint's dtype; for a draft model on a CPU 8-bit integers, where those are fast."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_model_len: int | None = Field(default=None, ge=2)
    """Longest sequence, prompt and answer together; None: what the model was trained for."""
    block_size: int = Field(default=16, ge=1, le=1024)
    """Tokens per KV block."""
    kv_cache_bytes: int | None = Field(default=None, gt=0)
    """Memory for keys and values; None: measured from what the device has free (1 GiB at most on a CPU)."""
    attention: Literal["auto", "gather", "triton", "varlen"] = "auto"
    """Which kernels attend; auto: Triton's on a GPU that runs them, else gather. varlen: PyTorch's flash attention."""
    fused_layers: bool = True
    """In models built like Llama, compute layers by fewer kernels: on CPUs, and on GPUs with Triton's attention."""
    cuda_graphs: bool | None = None
    """With Triton's attention: replay steps of decoding and verification as CUDA graphs, recorded at start, which takes
    some seconds. None: where a model has one GPU."""
    batch_invariant: bool = False
    """On a GPU: compute a token's logits with the same bits in any batch, at the price of slower matrix products for
    more than 64 tokens. CPUs do so anyway."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; None: torch's own choice for a target alone, half of the CPUs for a drafter."""


class DrafterSettings(Settings):
    """How a drafter drafts."""

    model: str = "ngram"
    """`ngram`, or a model as in RunnerSettings.model whose tokenizer is the target's, or one made for the target."""
    runner: RunnerSettings = RunnerSettings()
    """Everything but the model's name, which stands above."""
    max_sequences: int = Field(default=256, ge=1)
    """Sequences open at once, over all targets; more are answered Busy."""
    run_ahead_rows: int = Field(default=64, ge=0, le=4096)
    """Guesses per forward step that prepare for what targets may say about drafts that were sent, over all
    sequences: a busy drafter prepares less. 0: a drafter rests while its drafts are verified."""
    ngram_max: int = Field(default=4, ge=1, le=16)
    """Longest suffix that the n-gram lookup tries to find again in the context."""
    ngram_min: int = Field(default=2, ge=1, le=16)
