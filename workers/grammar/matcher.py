"""One sequence's place in its grammar, held by llguidance."""

from collections.abc import Sequence as Seq

from llguidance import LLMatcher

from workers.contract.errors import GrammarError
from workers.grammar.panics import panics_as_errors


class LlguidanceMatcher:
    """A ``workers.contract.processing.GrammarMatcher``. It never raises where tokens do not fit: masks do then."""

    def __init__(self, matcher: LLMatcher, end_token_ids: frozenset[int]) -> None:
        self._matcher = matcher
        self._end_token_ids = end_token_ids

    @panics_as_errors()
    def advance(self, tokens: Seq[int]) -> None:
        """See GrammarMatcher."""
        self._matcher.consume_tokens(self._until_end(tokens))

    @panics_as_errors()
    def legal_prefix(self, draft: Seq[int]) -> int:
        """See GrammarMatcher."""
        words = self._until_end(draft)
        legal = self._matcher.validate_tokens(words) if words else 0
        if legal < len(words) or len(words) == len(draft):
            return legal
        return legal + self._complete_after(words)

    @panics_as_errors()
    def masks(self, draft: Seq[int]) -> list[bytes]:
        """See GrammarMatcher."""
        masks = [self._mask()]
        consumed = 0
        try:
            for token in draft:
                if token in self._end_token_ids or self._matcher.try_consume_tokens([token]) == 0:
                    break
                consumed += 1
                masks.append(self._mask())
        finally:
            if consumed and not self._matcher.rollback(consumed):
                raise GrammarError(f"the grammar cannot be followed: {self._matcher.get_error()}")
        return masks

    def _mask(self) -> bytes:
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise GrammarError(f"the grammar cannot be followed: {self._matcher.get_error()}")
        return mask

    def _complete_after(self, words: list[int]) -> bool:
        self._matcher.consume_tokens(words)
        complete = self._matcher.is_accepting()
        self._matcher.rollback(len(words))
        return complete

    def _until_end(self, tokens: Seq[int]) -> list[int]:
        """Return the tokens before the first that ends the answer."""
        words = list(tokens)
        end = next((i for i, token in enumerate(words) if token in self._end_token_ids), len(words))
        return words[:end]
