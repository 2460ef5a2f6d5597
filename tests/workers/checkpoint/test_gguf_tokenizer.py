import pytest

from tests.support.tiny_models import byte_tokenizer
from workers.checkpoint.gguf_tokenizer import build_tokenizer, end_token_ids
from workers.contract.errors import ModelRefusedError

ALPHABET = [token for token, i in sorted(byte_tokenizer().get_vocab().items(), key=lambda item: item[1]) if i < 256]
MERGES = ["1 2", "12 3", "123 4", "Ġ a"]
TOKENS = [*ALPHABET, *(merge.replace(" ", "") for merge in MERGES), "<|endoftext|>", "<|im_end|>", "<file>"]
METADATA = {
    "llama.context_length": 2048,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [1] * 260 + [3, 3, 4],
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": 260,
    "tokenizer.ggml.eos_token_id": 261,
}


def tokens(pre, text, **changes):
    tokenizer = build_tokenizer({**METADATA, "tokenizer.ggml.pre": pre, **changes})
    return tokenizer.convert_ids_to_tokens(tokenizer.encode(text))


def test_smollm_splits_every_digit():
    assert tokens("smollm", "1234 a") == ["1", "2", "3", "4", "Ġa"]


def test_gpt2_keeps_digits_together():
    assert tokens("gpt-2", "1234 a") == ["1234", "Ġa"]


def test_llama3_splits_digits_by_threes():
    assert tokens("llama-bpe", "1234 a") == ["123", "4", "Ġa"]


def test_control_tokens_are_special_and_user_defined_ones_are_text():
    tokenizer = build_tokenizer({**METADATA, "tokenizer.ggml.pre": "smollm"})
    ids = tokenizer.encode("1<|im_end|><file>2")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "1<file>2"
    assert ids[1:3] == [261, 262]


def test_bos_is_added_where_the_file_says_so():
    assert tokens("gpt-2", "1", **{"tokenizer.ggml.add_bos_token": True}) == ["<|endoftext|>", "1"]
    assert tokens("gpt-2", "1") == ["1"]


def test_all_end_tokens_end_a_generation_eos_first():
    assert end_token_ids(METADATA) == [261, 260]


def test_another_kind_of_tokenizer_is_refused():
    with pytest.raises(ModelRefusedError, match="'llama' tokenizer"):
        tokens("default", "x", **{"tokenizer.ggml.model": "llama"})
