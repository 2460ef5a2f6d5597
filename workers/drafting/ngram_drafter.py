"""A drafter without a model: it guesses that a sequence goes on as its own text did before."""

from collections.abc import Sequence as Seq

from workers.contract.identity import ModelIdentity
from workers.drafting.drafter import Advance, DraftState
from workers.drafting.ngram import NgramIndex


class NgramDrafter:
    """Drafts by look-up, for targets of any vocabulary: every id that it sends came from the target."""

    runs_ahead = False

    def __init__(self, max_n: int, min_n: int) -> None:
        """Look for the latest ``max_n`` down to ``min_n`` tokens earlier in the same sequence."""
        self.identity = ModelIdentity(name="ngram", vocab_size=0, tokenizer_fingerprint="")
        self._sizes = (max_n, min_n)
        self._indexes: dict[DraftState, NgramIndex] = {}

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Finish every block at once; a sequence without a match gets an empty one."""
        for state in wanting:
            index = self._indexes.get(state)
            if index is None:
                index = self._indexes[state] = NgramIndex(state.tokens, *self._sizes)
            state.draft = index.propose(state.wanted)
        return Advance(finished=list(wanting))

    def forget(self, state: DraftState) -> None:
        """Free a sequence's index."""
        self._indexes.pop(state, None)
