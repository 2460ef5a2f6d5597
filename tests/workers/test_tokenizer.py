import json

import pytest

from tests.support.tiny_models import SPECIAL, byte_tokenizer, make_tiny
from workers.contract.errors import InvalidParameterError, ModelRefusedError
from workers.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.from_folder(folder)


def save(path, backend, **generation):
    backend.save_pretrained(path)
    (path / "generation_config.json").write_text(json.dumps(generation))
    return Tokenizer.from_folder(path)


def test_text_comes_back(tokenizer):
    text = "naïve 日本語 👩‍👩‍👧 \t\n 1234"
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


def test_special_tokens_are_text_only_on_demand(tokenizer):
    ids = tokenizer.encode("a<|im_end|>b")
    assert len(ids) == 3
    assert tokenizer.decode(ids) == "ab"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "a<|im_end|>b"


def test_ids_outside_the_vocabulary_have_no_text(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("ab"), 5000]) == "ab"
    stream = tokenizer.incremental()
    assert stream.add([*tokenizer.encode("ab"), 5000]) == "ab"


def test_a_conversation_is_rendered_by_the_checkpoints_template(tokenizer):
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}])
    text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], add_generation_prompt=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|im_start|>user\nhi<|im_end|>\n"


STRICT = (
    "{% for m in messages %}{% if m['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('only user and assistant speak here') }}{% endif %}{{ m['content'] + '' }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([{"role": "system", "content": "x"}], "only user and assistant"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": 7}], "unsupported operand"),
        ([{"role": "user", "content": "\ud800"}], "not valid Unicode"),
        ([], "chat template cannot render"),
    ],
)
def test_messages_that_cannot_be_rendered_are_the_requests_fault(tmp_path, messages, says):
    backend = byte_tokenizer()
    backend.chat_template = STRICT
    tokenizer = save(tmp_path, backend)
    with pytest.raises(InvalidParameterError, match=says) as raised:
        tokenizer.apply_chat_template(messages)
    assert raised.value.param == "messages"


def test_a_model_without_a_template_has_no_chat(tmp_path):
    backend = byte_tokenizer()
    backend.chat_template = None
    with pytest.raises(InvalidParameterError, match="/v1/completions"):
        save(tmp_path, backend).apply_chat_template([{"role": "user", "content": "x"}])


def test_a_lone_surrogate_is_the_requests_fault(tokenizer):
    with pytest.raises(InvalidParameterError, match="not valid Unicode") as raised:
        tokenizer.encode("x\udfff")
    assert raised.value.param == "prompt"


def test_what_ends_a_generation_is_read_from_every_place(tmp_path):
    im_end, im_start, endoftext = byte_tokenizer().convert_tokens_to_ids(
        ["<|im_end|>", "<|im_start|>", "<|endoftext|>"]
    )
    assert save(tmp_path / "a", byte_tokenizer()).eos_token_ids == {im_end}
    assert save(tmp_path / "b", byte_tokenizer(), eos_token_id=endoftext).eos_token_ids == {im_end, endoftext}
    many = save(tmp_path / "c", byte_tokenizer(), eos_token_id=[endoftext, im_start])
    assert many.eos_token_ids == {im_end, im_start, endoftext}


def test_the_fingerprint_is_of_the_vocabulary_only(tmp_path):
    plain = save(tmp_path / "a", byte_tokenizer())
    other_template = byte_tokenizer()
    other_template.chat_template = "x"
    assert save(tmp_path / "b", other_template).fingerprint == plain.fingerprint
    added = byte_tokenizer()
    added.add_tokens(["<more>"])
    assert save(tmp_path / "c", added).fingerprint != plain.fingerprint


def test_the_vocabulary_counts_added_tokens(tokenizer):
    assert tokenizer.vocab_size == 256 + len(SPECIAL)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelRefusedError, match="no usable tokenizer"):
        Tokenizer.from_folder(make_tiny(tmp_path / "bare", tokenizer=False))


def test_the_bytes_of_tokens_add_up_to_the_text(tokenizer):
    text = "Grüße, 世界! 🚀<|im_end|>"
    ids = tokenizer.encode(text)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert tokenizer.token_bytes(10**6) == b""


def test_a_message_can_be_left_open(tokenizer):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "I am"}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=False, continue_final_message=True)
    assert tokenizer.decode(ids, skip_special_tokens=False).endswith("assistant\nI am")


def test_each_token_is_looked_up_once(tokenizer, monkeypatch):
    """Log-probabilities ask for the same tokens thousands of times, on the event loop."""
    lookups = []
    backend = tokenizer._backend
    fresh = Tokenizer(backend, ())
    added, convert = backend.added_tokens_decoder, backend.convert_ids_to_tokens
    counted = property(lambda _: lookups.append("added") or added)
    monkeypatch.setattr(type(backend), "added_tokens_decoder", counted)
    monkeypatch.setattr(backend, "convert_ids_to_tokens", lambda token: lookups.append(token) or convert(token))
    ids = tokenizer.encode("ab<|im_end|>") * 50
    assert b"".join(map(fresh.token_bytes, ids)).decode() == "ab<|im_end|>" * 50
    assert sorted(map(str, lookups)) == sorted(map(str, [*ids[:3], "added"]))
