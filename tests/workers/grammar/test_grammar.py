"""Grammars on a byte-level tokenizer, so that a token is a character and every text can be spelled."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from tests.support.tiny_models import EOS, byte_tokenizer
from workers.contract.errors import GrammarError, InvalidParameterError
from workers.contract.processing import MAX_GRAMMAR_CHARS, Grammar, GrammarKind
from workers.grammar.compiler import REMEMBERED, GrammarCompiler
from workers.tokenizer import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ANSWER = '{"name": "Bo", "age": 31}'


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    byte_tokenizer().save_pretrained(folder)
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def compiler(tokenizer):
    return GrammarCompiler(tokenizer, tokenizer.vocab_size)


@pytest.fixture
def matcher(compiler):
    return compiler.compile(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)))


def allowed(mask: bytes) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")).tolist())


def test_masks_follow_the_draft_and_leave_the_matcher_where_it_was(matcher, tokenizer):
    ids = tokenizer.encode(ANSWER)
    masks = matcher.masks(ids[:4])
    assert len(masks) == 5
    assert allowed(masks[0]) == {ids[0]}
    assert allowed(masks[4]) == {ids[4]}
    assert matcher.masks([]) == masks[:1]


def test_masks_end_with_the_position_of_the_first_illegal_token(matcher, tokenizer):
    ids = tokenizer.encode('{"x": 1}')
    masks = matcher.masks(ids)
    assert len(masks) == 3, "after {, after the quote; x is what the third forbids"
    assert allowed(masks[2]) == set(tokenizer.encode("n"))


def test_a_complete_answer_may_only_end(matcher, tokenizer):
    matcher.advance(tokenizer.encode(ANSWER))
    assert allowed(matcher.masks([EOS, 7])[-1]) == set(tokenizer.eos_token_ids)
    assert matcher.legal_prefix([EOS, 7]) == 1
    matcher.advance([EOS])
    assert matcher.legal_prefix([7]) == 0


@settings(deadline=None)
@given(data=st.data())
def test_the_legal_prefix_is_where_masks_first_forbid(data, compiler, tokenizer):
    matcher = compiler.compile(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)))
    ids = [*tokenizer.encode(ANSWER), EOS]
    start = data.draw(st.integers(0, len(ids) - 1))
    matcher.advance(ids[:start])
    draft = ids[start : start + 6]
    at = data.draw(st.integers(0, len(draft) - 1))
    draft[at] = data.draw(st.sampled_from([draft[at], EOS, 256, *tokenizer.encode('"9,}x')]))
    legal = matcher.legal_prefix(draft)
    masks = matcher.masks(draft)
    expected = 0
    for token, mask in zip(draft, masks, strict=False):
        if token not in allowed(mask):
            break
        expected += 1
        if token == EOS:
            break
    assert legal == expected


def test_a_text_that_leaves_the_grammar_is_an_error_only_where_a_mask_is_needed(matcher, tokenizer):
    matcher.advance(tokenizer.encode("nonsense"))
    assert matcher.legal_prefix(tokenizer.encode("{")) == 0
    with pytest.raises(GrammarError):
        matcher.masks([])


def test_matchers_of_one_grammar_are_independent(compiler, tokenizer):
    grammar = Grammar(GrammarKind.REGEX, "(ab)+")
    one, other = compiler.compile(grammar), compiler.compile(grammar)
    one.advance(tokenizer.encode("a"))
    assert allowed(one.masks([])[0]) == set(tokenizer.encode("b"))
    assert allowed(other.masks([])[0]) == set(tokenizer.encode("a"))


def test_lark_grammars_are_followed(compiler, tokenizer):
    matcher = compiler.compile(Grammar(GrammarKind.LARK, 'start: "yes" | "no"'))
    assert allowed(matcher.masks([])[0]) == {*tokenizer.encode("y"), *tokenizer.encode("n")}


@pytest.mark.parametrize(
    ("kind", "source", "why"),
    [
        ("json_schema", '{"type": "objct"}', "objct"),
        ("json_schema", "{", "property name"),
        ("json_schema", '{"$ref": "#/nowhere"}', "nowhere"),
        ("json_schema", '{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ("regex", "(", "unclosed group"),
        ("regex", "(?=x)y", "look-around"),
        ("lark", "start: missing", "missing"),
        ("regex", r"[^\s\S]", "no answer can begin by it"),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_the_reason(compiler, kind, source, why):
    with pytest.raises(InvalidParameterError, match=why) as refusal:
        compiler.compile(Grammar(GrammarKind(kind), source))
    assert refusal.value.param == "response_format"


def test_a_grammar_that_is_too_long_is_refused():
    with pytest.raises(InvalidParameterError, match="characters"):
        Grammar(GrammarKind.REGEX, "a" * (MAX_GRAMMAR_CHARS + 1))


def test_the_memory_of_grammars_is_bounded(compiler):
    for i in range(REMEMBERED + 20):
        compiler.compile(Grammar(GrammarKind.REGEX, f"a{{{i + 1}}}"))
    assert len(compiler._compiled) == REMEMBERED


class SlowCompiler(GrammarCompiler):
    """Compiles the grammars "slow" only once it may, and counts what it compiles."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer, tokenizer.vocab_size)
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.count = 0

    def _compile(self, grammar):
        self.count += 1
        if "slow" in grammar.source:
            self.begun.set()
            assert self.may_end.wait(10)
        return super()._compile(grammar)


@pytest.fixture
def slow(tokenizer):
    slow = SlowCompiler(tokenizer)
    yield slow
    slow.may_end.set()


def test_nobody_waits_for_the_compilation_of_another_grammar(slow):
    with ThreadPoolExecutor() as threads:
        first = threads.submit(slow.compile, Grammar(GrammarKind.REGEX, "slow"))
        assert slow.begun.wait(10)
        assert threads.submit(slow.compile, Grammar(GrammarKind.REGEX, "quick")).result(5)
        assert not first.done()
        slow.may_end.set()
        assert first.result(10)


@pytest.mark.parametrize("source", ["slow", "slow("])
def test_a_grammar_that_many_ask_for_at_once_is_compiled_once(slow, tokenizer, source):
    grammar = Grammar(GrammarKind.REGEX, source)
    with ThreadPoolExecutor() as threads:
        answers = [threads.submit(slow.compile, grammar)]
        assert slow.begun.wait(10)
        answers += [threads.submit(slow.compile, grammar) for _ in range(3)]
        with pytest.raises(TimeoutError):
            answers[-1].result(0.1)
        slow.may_end.set()
        refused = [isinstance(answer.exception(10), InvalidParameterError) for answer in answers]
    assert refused == [source == "slow("] * 4
    assert slow.count == 1
    if refused[0]:
        assert not slow._compiled, "what is refused takes no room"
        return
    matchers = [answer.result() for answer in answers]
    matchers[0].advance(tokenizer.encode("s"))
    assert allowed(matchers[1].masks([])[0]) == set(tokenizer.encode("s"))


def test_a_tokenizer_that_cannot_be_read_refuses_grammars_and_nothing_else():
    words = RustTokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1}, unk_token="[UNK]"))
    tokenizer = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>"), ())
    compiler = GrammarCompiler(tokenizer, 2)
    with pytest.raises(InvalidParameterError, match=r"cannot be constrained by a grammar: .*decoder") as refusal:
        compiler.compile(Grammar(GrammarKind.REGEX, "a"))
    assert refusal.value.param == "response_format"


def test_the_tokenizer_is_read_before_the_first_grammar(tokenizer, monkeypatch):
    compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size)
    monkeypatch.setattr("workers.grammar.compiler.LLTokenizer", None)
    assert compiler.compile(Grammar(GrammarKind.REGEX, "a"))


class PanicException(BaseException):
    """What a panic in Rust looks like from outside."""


class Panicking:
    """Stands for a class of llguidance, or for an object of one, all of whose methods panic."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **options):
        raise PanicException("index out of bounds")


@pytest.mark.parametrize("ask", [lambda m: m.advance([1]), lambda m: m.legal_prefix([1]), lambda m: m.masks([1])])
def test_a_panic_while_a_grammar_is_followed_is_an_error_of_its_request(matcher, ask):
    matcher._matcher = Panicking()
    with pytest.raises(GrammarError, match="index out of bounds"):
        ask(matcher)


@pytest.mark.parametrize("name", ["LLTokenizer", "LLMatcher"])
def test_a_panic_while_a_grammar_is_compiled_refuses_it(tokenizer, monkeypatch, name):
    monkeypatch.setattr(f"workers.grammar.compiler.{name}", Panicking())
    compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size)
    with pytest.raises(InvalidParameterError, match="index out of bounds"):
        compiler.compile(Grammar(GrammarKind.LARK, 'start: "a"'))


def test_what_ends_a_program_is_no_panic(tokenizer, monkeypatch):
    compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size)

    def interrupted(grammar):
        raise KeyboardInterrupt

    monkeypatch.setattr(compiler, "_compile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiler.compile(Grammar(GrammarKind.REGEX, "a"))
