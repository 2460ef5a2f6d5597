"""How tools are shown to a model, and how its calls look: in tags, whether its template knows tools or not.

    <tool_call>[{"name": "f", "arguments": {"x": 1}}, ...]</tool_call>      SmolLM2's instructions, our own prompt
    <tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call> ...         Hermes, Qwen and SmolLM3 templates

Templates that know tools and write their calls in another way are refused: their answers would come back as text.
"""

import json
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from typing import Any

from cluster.api.errors import invalid
from workers.tokenizer import Tokenizer

BEGIN, END = "<tool_call>", "</tool_call>"

_INSTRUCTIONS = """\
You are an expert in composing functions. You are given a question and a set of possible functions. \
Based on the question, you will need to make one or more function/tool calls to achieve the purpose. \
If none of the functions can be used, point it out and refuse to answer. \
If the given question lacks the parameters required by the function, also point it out.

You have access to the following tools:
<tools>{tools}</tools>

The output MUST strictly adhere to the following format, and NO other text MUST be included.
The example format is as follows. Please make sure the parameter type is correct. \
If no function call is needed, please make the tool calls an empty list '[]'.
<tool_call>[
{{"name": "func_name1", "arguments": {{"argument1": "value1", "argument2": "value2"}}}},
(more tool calls as required)
]</tool_call>"""
"""The prompt that SmolLM2's makers trained and publish for function calls."""


def in_template(tokenizer: Tokenizer) -> bool:
    """Return whether the chat template shows tools itself; a 400 where it does so in a format not known here."""
    if not tokenizer.template_knows("tools"):
        return False
    if not tokenizer.template_knows(BEGIN):
        raise invalid("tools", f"tools are possible with templates that write calls in {BEGIN} tags; this one does not")
    return True


def as_lists(tokenizer: Tokenizer) -> bool:
    """Return whether the calls of an answer come as one list in one pair of tags."""
    return not tokenizer.template_knows("tools")


def instruct(turns: Seq[Mapping[str, Any]], tools: Seq[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a conversation whose system message tells of the tools, and which has no message of another kind."""
    text = _INSTRUCTIONS.format(tools=json.dumps([tool["function"] for tool in tools], ensure_ascii=False))
    plain = without_tools(turns)
    if plain and plain[0]["role"] == "system":
        return [{"role": "system", "content": f"{plain[0]['content']}\n\n{text}"}, *plain[1:]]
    return [{"role": "system", "content": text}, *plain]


def without_tools(turns: Seq[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a conversation for a template that knows neither calls nor results: both become text."""
    plain: list[dict[str, Any]] = []
    for turn in turns:
        if turn.get("tool_calls"):
            calls = json.dumps([call["function"] for call in turn["tool_calls"]], ensure_ascii=False)
            content = f"{turn['content']}\n" if turn["content"] else ""
            plain.append({"role": "assistant", "content": f"{content}{BEGIN}{calls}{END}"})
        elif turn["role"] == "tool":
            plain.append({"role": "user", "content": f"<tool_response>\n{turn['content']}\n</tool_response>"})
        else:
            plain.append(dict(turn))
    return plain
