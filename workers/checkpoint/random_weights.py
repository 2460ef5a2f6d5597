"""A causal LM of a given shape with random weights, made in memory: a step costs what it costs, whatever it says.

For benchmarks on machines without a model hub, and for shapes that no disk has room for.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from workers.attention.bridge import ATTENTION_NAME
from workers.checkpoint.load import LoadedModel, resolve_max_model_len
from workers.checkpoint.source import ModelSource


def random_causal_lm(
    folder: Path, model_type: str, shape: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> LoadedModel:
    """Return a model of a transformers family; ``shape`` holds fields of its configuration.

    ``folder`` gets configuration and a tokenizer of single bytes, as the runner reads them from there.
    """
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **shape)
    config.save_pretrained(folder)
    _byte_tokenizer().save_pretrained(folder)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=ATTENTION_NAME)
    return LoadedModel(
        source=ModelSource(folder.name, folder),
        model=model.to(device).eval().requires_grad_(False),
        config=config,
        dtype=dtype,
        device=device,
        vocab_size=config.vocab_size,
        max_model_len=resolve_max_model_len(None, config),
        weights_digest="random",
    )


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
