"""The tokenizer inside a GGUF file, rebuilt from its vocabulary, merges and named pre-tokenizer.

Built by hand rather than by transformers' GGUF path, which chooses a pre-tokenizer by architecture and
so splits SmolLM2's digits wrongly. A pre-tokenizer that is not known is refused, not guessed: a wrong
split yields valid ids of another text.
"""

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from workers.contract.errors import ModelRefusedError

_CONTROL = 3
"""GGUF's token type of control tokens, which plain text never encodes to."""
_USER_DEFINED = 4
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_END_TOKENS = frozenset({"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "</s>"})
"""Control tokens that end a text or a turn, whichever of them the metadata calls eos."""


def build_tokenizer(metadata: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Return the byte-level BPE tokenizer that GGUF ``metadata`` describes, chat template included.

    Raises:
        ModelRefusedError: another kind of tokenizer, or a pre-tokenizer whose rule is not known here.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ModelRefusedError(
            f"GGUF files with a {kind!r} tokenizer are not converted, only byte-level BPE ('gpt2'); "
            "use the model's safetensors checkpoint"
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    try:
        tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelRefusedError(f"the GGUF file's tokenizer is broken: {error}") from error
    tokenizer.pre_tokenizer = _pre_tokenizer(metadata.get("tokenizer.ggml.pre", "default"))
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([_added(tokens[i], True) for i, kind in enumerate(types) if kind == _CONTROL])
    tokenizer.add_tokens([_added(tokens[i], False) for i, kind in enumerate(types) if kind == _USER_DEFINED])
    bos = _named(metadata, "bos")
    if bos is not None and metadata.get("tokenizer.ggml.add_bos_token", False):
        bos_id = metadata["tokenizer.ggml.bos_token_id"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, bos_id)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=_named(metadata, "eos"),
        unk_token=_named(metadata, "unknown"),
        pad_token=_named(metadata, "padding"),
        chat_template=metadata.get("tokenizer.chat_template"),
        model_max_length=metadata["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )


def end_token_ids(metadata: dict[str, Any]) -> list[int]:
    """Return the ids that end a generation: eos first, then the other control tokens that end a text or turn."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    eos = [metadata[key] for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id") if key in metadata]
    named = [
        i
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind == _CONTROL and token in _END_TOKENS
    ]
    return list(dict.fromkeys(eos + named))


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "gpt-2":
        return byte_level
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name == "llama-bpe":
        split = pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise ModelRefusedError(
        f"GGUF pre-tokenizer {name!r} is not known (known: gpt-2, smollm, llama-bpe); "
        "use the model's safetensors checkpoint"
    )


def _added(token: str, special: bool) -> AddedToken:
    return AddedToken(token, special=special, normalized=False)


def _named(metadata: dict[str, Any], role: str) -> str | None:
    index = metadata.get(f"tokenizer.ggml.{role}_token_id")
    return None if index is None else metadata["tokenizer.ggml.tokens"][index]
