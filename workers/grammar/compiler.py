"""Compiles grammars for one tokenizer, with llguidance, and remembers the ones that are used again."""

import json
import logging
import threading
from collections import OrderedDict
from concurrent.futures import Future

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from workers.contract.errors import GrammarError, InvalidParameterError
from workers.contract.processing import Grammar, GrammarKind
from workers.grammar.matcher import LlguidanceMatcher
from workers.grammar.panics import panics_as_errors
from workers.tokenizer import Tokenizer

log = logging.getLogger(__name__)

REMEMBERED = 128
"""Compiled grammars that are kept; a copy for a further request costs microseconds."""
LIMITS = LLParserLimits(
    initial_lexer_fuel=500_000,
    step_lexer_fuel=100_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)
"""A half to a fifth of llguidance's own limits: grammars come from clients, and masks are made in the step loop."""
_MAX_MESSAGE = 500


class GrammarCompiler:
    """Makes matchers. Callable from any thread; compiling takes from under a millisecond to tens of them."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """Compile for the ids of a tokenizer, of which the model's head has ``vocab_size``.

        Reading the tokenizer holds up all other threads for as long as a second, so it is done here, before anybody
        is served. Where llguidance cannot read it every grammar is refused.
        """
        self._end_token_ids = tokenizer.eos_token_ids
        self._unreadable = ""
        try:
            with panics_as_errors():
                self._read = LLTokenizer(tokenizer.definition(), vocab_size, sorted(self._end_token_ids))
        except Exception as error:  # tokenizers raises bare Exception
            log.warning("requests with a grammar are refused: llguidance cannot read the tokenizer: %s", error)
            self._unreadable = f"the model's tokenizer cannot be constrained by a grammar: {error}"[:_MAX_MESSAGE]
        self._lock = threading.Lock()
        self._compiled: OrderedDict[Grammar, Future[LLMatcher]] = OrderedDict()

    def compile(self, grammar: Grammar) -> LlguidanceMatcher:
        """Return a matcher at the grammar's beginning; who asks for one that is being compiled waits for that.

        Raises:
            InvalidParameterError: the grammar cannot be compiled, or an answer by it could not even begin, or the
                tokenizer cannot be constrained.
            GrammarError: the compiled grammar cannot be copied.
        """
        if self._unreadable:
            raise InvalidParameterError("response_format", self._unreadable)
        fresh: Future[LLMatcher] = Future()
        with self._lock:
            pristine = self._compiled.setdefault(grammar, fresh)
            self._compiled.move_to_end(grammar)
            if len(self._compiled) > REMEMBERED:
                self._compiled.popitem(last=False)
        if pristine is fresh:
            self._fill(fresh, grammar)
        with panics_as_errors():
            return LlguidanceMatcher(pristine.result().deep_copy(), self._end_token_ids)

    def _fill(self, pristine: Future[LLMatcher], grammar: Grammar) -> None:
        """Compile a grammar for all that wait for it; one that is refused is forgotten."""
        try:
            with panics_as_errors():
                pristine.set_result(self._compile(grammar))
        except BaseException as error:
            with self._lock:
                if self._compiled.get(grammar) is pristine:
                    del self._compiled[grammar]
            pristine.set_exception(_refused(grammar, str(error)) if isinstance(error, GrammarError) else error)

    def _compile(self, grammar: Grammar) -> LLMatcher:
        try:
            matcher = LLMatcher(self._read, _source(grammar), log_level=0, limits=LIMITS)
        except (ValueError, RecursionError) as error:
            raise _refused(grammar, str(error)) from error
        if matcher.is_error():
            raise _refused(grammar, matcher.get_error())
        beginning = matcher.deep_copy()
        possible = any(beginning.compute_bitmask())
        if beginning.is_error() or not possible:
            raise _refused(grammar, f"no answer can begin by it. {beginning.get_error()}")
        return matcher


def _source(grammar: Grammar) -> str:
    if grammar.kind is GrammarKind.JSON_SCHEMA:
        json.loads(grammar.source)  # llguidance would say less about what is wrong
        # One way to space, that of Python's json.dumps: a model that may indent without end often does.
        return LLMatcher.grammar_from_json_schema(
            grammar.source, defaults={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        )
    if grammar.kind is GrammarKind.REGEX:
        return LLMatcher.grammar_from_regex(grammar.source)
    return LLMatcher.grammar_from_lark(grammar.source)


def _refused(grammar: Grammar, reason: str) -> InvalidParameterError:
    return InvalidParameterError(
        "response_format", f"the {grammar.kind.value} cannot be compiled: {reason.strip()[:_MAX_MESSAGE]}"
    )
