"""Which attention backend a model gets: a pure function of the device, the versions and what the layers ask for."""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never

import torch

from workers.attention.backend import AttentionBackend, LayerSpec
from workers.contract.errors import ConfigurationError
from workers.device import LEAST_CAPABILITY, why_no_triton
from workers.kv.cache import PagedKVCache

log = logging.getLogger(__name__)

AttentionName = Literal["gather", "triton", "varlen"]

_MATRIX_DTYPES = (torch.bfloat16, torch.float16)


class Surroundings(NamedTuple):
    """What there is to run attention on."""

    device: str
    """Type of the device: cpu or cuda."""
    capability: tuple[int, int] | None
    """Of the CUDA device."""
    dtype: torch.dtype
    block_size: int
    torch_version: tuple[int, int]
    no_triton: str | None = None
    """Why Triton cannot be used; None: it can."""

    @classmethod
    def found(cls, cache: PagedKVCache) -> "Surroundings":
        """Look around on the machine that holds a cache."""
        pages = cache.keys[0]
        major, minor = torch.__version__.split(".")[:2]
        return cls(
            device=pages.device.type,
            capability=torch.cuda.get_device_capability(pages.device) if pages.is_cuda else None,
            dtype=pages.dtype,
            block_size=cache.block_size,
            torch_version=(int(major), int(minor)),
            no_triton=why_no_triton(),
        )


def choose_attention(
    wanted: AttentionName | Literal["auto"], around: Surroundings, layers: Sequence[LayerSpec]
) -> AttentionName:
    """Return the backend: Triton's kernels where they run, else what runs anywhere. `varlen` is never a default.

    Raises:
        ConfigurationError: the one that is wanted cannot run here, with the reason.
    """
    if wanted != "auto":
        if reason := _against(wanted, around, layers):
            raise ConfigurationError(f"attention is {wanted}, but {reason}; use attention auto")
        return wanted
    return "triton" if not _against("triton", around, layers) else "gather"


def make_attention(
    wanted: AttentionName | Literal["auto"], cache: PagedKVCache, layers: Sequence[LayerSpec], max_model_len: int
) -> AttentionBackend:
    """Return the chosen backend over ``cache``; raises as choose_attention."""
    around = Surroundings.found(cache)
    name = choose_attention(wanted, around, layers)
    if name == "gather" and around.device == "cuda":
        log.warning("attention runs without kernels of its own: %s", _against("triton", around, layers))
    match name:
        case "gather":
            from workers.attention.gather import GatherAttention, limits_of

            if around.device != "cpu":
                return GatherAttention(cache, max_model_len)
            return GatherAttention(cache, max_model_len, limits_of(layers, around.dtype))
        case "triton":
            from workers.attention.triton import TritonAttention

            return TritonAttention(cache, max_model_len)
        case "varlen":
            from workers.attention.varlen import VarlenAttention

            return VarlenAttention(cache, max_model_len)
    assert_never(name)


def _against(name: AttentionName, around: Surroundings, layers: Sequence[LayerSpec]) -> str | None:
    """Return what keeps a backend from running, None if nothing does."""
    if name == "gather":
        return None
    if around.device != "cuda":
        return f"the model runs on {around.device}"
    if around.capability is not None and around.capability < LEAST_CAPABILITY:
        needed, found = (".".join(map(str, capability)) for capability in (LEAST_CAPABILITY, around.capability))
        return f"its kernels need compute capability {needed}, and this GPU has {found}"
    return _against_triton(around) if name == "triton" else _against_varlen(around, layers)


def _against_triton(around: Surroundings) -> str | None:
    if around.no_triton is not None:
        return around.no_triton
    if around.dtype not in (*_MATRIX_DTYPES, torch.float32):
        return f"its kernels do not compute in {around.dtype}"
    return None


def _against_varlen(around: Surroundings, layers: Sequence[LayerSpec]) -> str | None:
    if around.torch_version < (2, 12):
        return f"torch {around.torch_version[0]}.{around.torch_version[1]} has no block tables yet (2.12 has)"
    if around.dtype not in _MATRIX_DTYPES:
        return f"it computes in bfloat16 and float16 only, not in {around.dtype}"
    if around.block_size % 256:
        return f"it needs blocks of a multiple of 256 tokens, and block_size is {around.block_size}"
    if any(layer.softcap is not None or layer.has_sinks for layer in layers):
        return "the model has soft caps or attention sinks, which it does not compute"
    if any(layer.key_dim != layer.value_dim or layer.key_dim > 256 for layer in layers):
        return "the model's heads are wider than 256, or keys and values differ in width"
    return None
