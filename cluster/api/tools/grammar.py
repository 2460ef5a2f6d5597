"""The grammar of an answer that must call tools: nothing but calls, whose arguments fit their schemas."""

import json
from collections.abc import Sequence as Seq

from cluster.api.request.structured import ANY_OBJECT, lark_string
from cluster.api.tools.format import BEGIN, END
from cluster.api.tools.models import Tool
from workers.contract.processing import Grammar, GrammarKind

MOST_CALLS = 16
_SPACING = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


def calls_grammar(tools: Seq[Tool], *, as_list: bool, parallel: bool) -> Grammar:
    """Return the grammar of at least one call of some of ``tools``; of exactly one where not ``parallel``."""
    rules = []
    for number, tool in enumerate(tools):
        head = lark_string('{"name": ' + json.dumps(tool.function.name) + ', "arguments": ')
        schema = {**(tool.function.parameters or ANY_OBJECT), **_SPACING}
        rules += [f'call_{number}: {head} arguments_{number} "}}"', f"arguments_{number}: %json {json.dumps(schema)}"]
    begin, end = lark_string(BEGIN), lark_string(END)
    if as_list:
        more = f' (", " call){{0,{MOST_CALLS - 1}}}' if parallel else ""
        start = f'start: {begin} "[" call{more} "]" {end}'
    else:
        newline = lark_string("\n")
        one = f"{begin} {newline} call {newline} {end}"
        more = f" ({newline} {one}){{0,{MOST_CALLS - 1}}}" if parallel else ""
        start = f"start: {one}{more}"
    choice = "call: " + " | ".join(f"call_{number}" for number in range(len(tools)))
    return Grammar(GrammarKind.LARK, "\n".join([start, choice, *rules]))
