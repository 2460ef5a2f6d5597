"""Prompts from files and folders, as the model's chat template has them."""

import pytest

from cluster.distill.prompts import MAX_CHARS, read_prompts
from tests.support.tiny_models import byte_tokenizer
from workers.contract.errors import ConfigurationError
from workers.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(byte_tokenizer(), [])


def texts(path, tokenizer, max_tokens=10_000):
    return [tokenizer.decode(prompt) for prompt in read_prompts(path, tokenizer, max_tokens)]


def test_a_text_file_has_one_prompt_per_line_each_once(tmp_path, tokenizer):
    path = tmp_path / "prompts.txt"
    path.write_text("first\n\n  second\nfirst\n")
    assert [text.split("\n")[1] for text in texts(path, tokenizer)] == ["first", "  second"]


def test_json_lines_hold_prompts_or_conversations(tmp_path, tokenizer):
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "hello"}\n{"messages": [{"role": "system", "content": "be brief"}, '
        '{"role": "user", "content": "why"}]}\n'
    )
    first, second = texts(path, tokenizer)
    assert first == "user\nhello\nassistant\n"
    assert second == "system\nbe brief\nuser\nwhy\nassistant\n"


def test_json_lines_may_hold_token_ids(tmp_path, tokenizer):
    path = tmp_path / "held_out.jsonl"
    path.write_text('{"p": [70, 71]}\n{"p": [72], "o": [73], "t": 0.0}\n')
    assert read_prompts(path, tokenizer, 100) == [[70, 71], [72]]
    path.write_text('{"p": [70, 100000]}')
    with pytest.raises(ConfigurationError, match="100000"):
        read_prompts(path, tokenizer, 100)


def test_a_folder_has_one_prompt_per_file(tmp_path, tokenizer):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("x" * (MAX_CHARS + 5))
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / ".hidden").write_text("no")
    first, second = texts(tmp_path, tokenizer)
    assert "one\ntwo" in first
    assert second.count("x") == MAX_CHARS


def test_long_prompts_are_cut(tmp_path, tokenizer):
    path = tmp_path / "prompts.txt"
    path.write_text("a" * 100)
    (prompt,) = read_prompts(path, tokenizer, 20)
    assert len(prompt) == 20


BAD_LINES = ("nonsense", '{"text": "x"}', '{"messages": []}', '{"messages": ["x"]}', "[]", '{"p": "text"}', '{"p": 5}')


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, tokenizer, line):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hello"}\n' + line + "\n")
    with pytest.raises(ConfigurationError, match=r"prompts\.jsonl:2: expected"):
        read_prompts(path, tokenizer, 100)


@pytest.mark.parametrize("make", [lambda path: path.write_text("\n\n"), lambda path: path.mkdir(), lambda path: None])
def test_no_prompts_are_an_error(tmp_path, tokenizer, make):
    path = tmp_path / "prompts"
    make(path)
    with pytest.raises(ConfigurationError, match="prompts"):
        read_prompts(path, tokenizer, 100)
