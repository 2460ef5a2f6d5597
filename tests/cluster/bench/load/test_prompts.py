import pytest

from cluster.bench.load.prompts import Prompt, load_prompts
from cluster.bench.load.settings import ApiKind
from cluster.bench.prompts import PROMPTS
from workers.contract.errors import ConfigurationError

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def test_a_line_is_text_or_json(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        'plain text\n\n"a JSON string"\n{"prompt": "an object"}\n"To be" is from where?\n'
        '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]}\n'
    )
    *texts, last = load_prompts(file, ApiKind.CHAT)
    assert [prompt.text for prompt in texts] == ["plain text", "a JSON string", "an object", '"To be" is from where?']
    assert last.fields(ApiKind.CHAT) == {"messages": TURNS}
    with pytest.raises(ConfigurationError, match="only --api chat can send"):
        load_prompts(file, ApiKind.COMPLETIONS)


def test_a_text_is_sent_to_either_api():
    assert Prompt("Hi").fields(ApiKind.CHAT) == {"messages": [{"role": "user", "content": "Hi"}]}
    assert Prompt("Hi").fields(ApiKind.COMPLETIONS) == {"prompt": "Hi"}


def test_the_built_in_prompts_are_all_there_with_their_kinds_mixed():
    texts = [prompt.text for prompt in load_prompts(None, ApiKind.CHAT)]
    assert sorted(texts) == sorted(PROMPTS)
    assert texts != list(PROMPTS)
    assert texts == [prompt.text for prompt in load_prompts(None, ApiKind.CHAT)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\n \n", "holds no prompts"),
        (b'fine\n{"prompt": \n', "line 2: it begins like a JSON object and is none"),
        (b'{"text": "x"}', "line 1: a JSON object needs a text in prompt or a list in messages"),
        (b'{"messages": ["x"]}', "line 1: messages must be a list of objects"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x\n" * 10_001, "holds 10001 prompts; at most 10000"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path, content, sentence):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        load_prompts(file, ApiKind.CHAT)
    assert sentence in str(refused.value)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read the prompts file .*none\.txt: No such file"):
        load_prompts(tmp_path / "none.txt", ApiKind.CHAT)
