"""What a request wants of its tools, once it has been understood."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from cluster.api.errors import invalid
from cluster.api.openai.chat_models import PromptOptions
from cluster.api.tools.format import as_lists, in_template
from cluster.api.tools.grammar import calls_grammar
from cluster.api.tools.models import NamedTool, Tool
from workers.contract.processing import Grammar
from workers.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The functions that an answer may call; none where it may not call any."""

    offered: Seq[Tool] = ()
    grammar: Grammar | None = None
    """Where it must."""

    @property
    def names(self) -> frozenset[str]:
        """Names of the functions that may be called."""
        return frozenset(tool.function.name for tool in self.offered)


def tool_use(wanted: PromptOptions, tokenizer: Tokenizer) -> ToolUse:
    """Return what a request wants; a 400 where it contradicts itself or the model cannot do it."""
    tools, choice = wanted.tools or [], wanted.tool_choice or "auto"
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise invalid("tools", "tools has two functions with the same name")
    if not tools and (choice == "required" or isinstance(choice, NamedTool)):
        raise invalid("tool_choice", "tool_choice asks for a call, but there are no tools")
    if not tools or choice == "none":
        return ToolUse()
    in_template(tokenizer)
    if choice == "auto":
        return ToolUse(tools)
    forced = tools
    if isinstance(choice, NamedTool):
        forced = [tool for tool in tools if tool.function.name == choice.function.name]
        if not forced:
            raise invalid("tool_choice", f"tool_choice names {choice.function.name!r}, which is none of the tools")
    parallel = wanted.parallel_tool_calls is not False and not isinstance(choice, NamedTool)
    return ToolUse(tools, calls_grammar(forced, as_list=as_lists(tokenizer), parallel=parallel))
