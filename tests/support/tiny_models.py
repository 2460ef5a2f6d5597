"""Tiny random checkpoints with a byte-level tokenizer: whole folders, so that tests load them as users do."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

BYTE_VOCAB = 256
EOS = 257  # <|im_end|>
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

BASE: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


def byte_tokenizer(words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are single bytes, plus three special ones: vocabulary of 259.

    Each of ``words``, letters after an optional space, is a token of its own as well, and so are its beginnings.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled = [word.replace(" ", "\u0120") for word in words]
    merges = list(dict.fromkeys((word[:end], word[end]) for word in spelled for end in range(1, len(word))))
    vocabulary = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(vocabulary)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_tiny(
    folder: Path,
    model_type: str = "llama",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    tokenizer: bool = True,
    scale: float = 1.0,
    **overrides: Any,
) -> Path:
    """Write a random checkpoint of a family and return its folder.

    ``scale`` multiplies the standard deviation of the random weights: above 1 it makes the distribution
    less flat, so that a greedy choice is stable and a second model with other weights disagrees.
    """
    torch.manual_seed(seed)
    fields = {**BASE, "vocab_size": BYTE_VOCAB + len(SPECIAL), **overrides}
    config = AutoConfig.for_model(model_type, **fields)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    if scale != 1.0:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(scale)
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(folder)
    if tokenizer:
        byte_tokenizer().save_pretrained(folder)
    return folder
