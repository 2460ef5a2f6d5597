"""Grammars come from clients, and their masks are made between steps: none may take for ever."""

import subprocess
import sys

import pytest

FOLLOW = """
import sys
from cluster.api.request.structured import StructuredOutputs, grammar_of
from tests.support.tiny_models import byte_tokenizer
from workers.grammar.compiler import GrammarCompiler
from workers.tokenizer import Tokenizer

tokenizer = Tokenizer(byte_tokenizer(), ())
grammar, _ = grammar_of(None, StructuredOutputs(grammar=sys.argv[1]))
matcher = GrammarCompiler(tokenizer, tokenizer.vocab_size).compile(grammar)
for character in sys.argv[2]:
    matcher.advance(tokenizer.encode(character))
    matcher.masks([])
print("followed")
"""


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('start: /a+/ "a"', "aaa"),
        ("start: A A\nA: /a+/", "aaa"),
        ('start: "x" /a+/ /a/', "xaa"),
        ('%llguidance {"no_forcing": false}\nstart: /a+/ "a" // the end', "aaa"),
        ('start: x\nx: %lark {\n%llguidance {"no_forcing": false}\nstart: /a+/ "a"\n}', "aaa"),
        ('start: "a" start', "aaa"),
    ],
)
def test_a_part_that_swallows_what_the_next_one_waits_for_holds_nobody_up(grammar, text):
    done = subprocess.run(
        [sys.executable, "-c", FOLLOW, grammar, text], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == "followed\n", done.stderr
