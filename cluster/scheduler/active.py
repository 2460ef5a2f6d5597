"""A request inside the scheduler: its sequence, what it has emitted, and what is known of its next tokens."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from cluster.scheduler.draft import Draft
from cluster.scheduler.estimates.acceptance import Acceptance, Guess
from cluster.scheduler.scoring import PromptScoring
from workers.contract.draft import DraftSource, Outcome
from workers.contract.prefix_hash import prefix_hash, prefix_hashes
from workers.contract.processing import GrammarMatcher, Processing
from workers.contract.request import FinishReason, GenerationRequest
from workers.contract.sequence import Sequence
from workers.drafting.ngram import NgramIndex
from workers.drafting.outcome_cache import OutcomeCache

LOOKUP_MAX, LOOKUP_MIN = 4, 2
"""Suffix lengths of the target's own n-gram guess: long enough to be worth a verification slot."""
NEWS = 16
"""A drafter that has to read more tokens than these before it can draft has fallen behind."""


@dataclass(slots=True)
class Ask:
    """A draft block on its way; not changed once it is made."""

    at: float
    """When it was asked for."""
    length: int
    """K."""
    sequences: int
    """How many sequences were asked for at the same time."""
    first: bool
    """The drafter had to read the whole text first, or had not proposed anything yet."""
    ahead: int = 0
    """Verdicts that it was asked to prepare for after that."""
    after_ahead: bool = False
    """It had been asked to prepare for the text as it was then."""
    at_hand: bool = False
    """A draft was at hand all the same."""
    behind: bool = False
    """The drafter had to read so much first that this block's time tells nothing of others'."""
    awaited: bool = False
    """It is waited for even if that does not pay, to learn what it takes while no step runs."""


@dataclass(slots=True, eq=False)
class ActiveRequest:
    """One request from its arrival to its end; owned by the planner alone."""

    request: GenerationRequest
    sequence: Sequence
    outcomes: OutcomeCache
    lookup: NgramIndex
    """Of its text."""
    hashes: list[int]
    """hashes[i]: prefix hash of the first prompt_len + i tokens."""
    scoring: PromptScoring
    longest: int
    """Length of the sequence with all tokens that may be emitted."""
    draft_open: bool = False
    draft_begun: bool = False
    """A drafter has proposed something: it has read the text."""
    drafter_len: int = 0
    """Tokens that the drafter has been told of."""
    asks: dict[int, Ask] = field(default_factory=dict)
    """Blocks on their way, by the length of the sequence when they were asked for."""
    acceptance: dict[DraftSource, Acceptance] = field(default_factory=dict)
    """How often guesses about this request are right, by who makes them."""
    guesses: list[Guess] = field(default_factory=list)
    """Guesses that the text has not borne out or refuted in full."""
    judged_len: int = 0
    """Length of the text that they were last held against."""
    missed_blocks: int = 0
    """Blocks in a row that were waited for and did not come in time."""
    gave_up_at: int = -1
    """Length of the sequence for which waiting was last given up."""
    last_ask: Ask | None = None
    """The latest of all asks, answered or not."""
    last_step: int = 0
    """Number of the latest step that it took part in."""
    arrived_at: float | None = None
    """When it came to this target, where that is known."""
    queued_s: float = 0.0
    """How long it waited for its first place, until that is told."""
    cached_prompt_tokens: int | None = None
    """Prompt tokens found in the prefix cache; None before the first admission."""
    processing: Processing | None = None
    """What reshapes its logits, its place in the grammar included; None: nothing."""
    verified_drafter: str = ""
    """Name of the drafter whose draft its latest row verifies; empty where that is none of a drafter."""
    plain: bool = True
    """Whether nothing is wanted of its logits but a choice: true of most, which then cost nothing more."""

    at_hand: Draft | None = None
    """The draft that the adaptive policy has found for the text as it is now; None: to be found (again)."""
    _drafted: tuple[int, ...] | None = None
    _looked_up: list[int] | None = None
    _looked_up_limit: int = 0

    @classmethod
    def start(
        cls,
        request: GenerationRequest,
        seq_id: int,
        grammar: GrammarMatcher | None = None,
        wasted: list[int] | None = None,
        arrived_at: float | None = None,
    ) -> "ActiveRequest":
        """Begin a request; tokens that an earlier attempt emitted count as emitted, not as prompt.

        ``wasted``: where draft tokens that come to nothing are counted, by Waste.
        """
        sequence = Sequence(seq_id, list(request.prompt), len(request.prompt), request.params, request.salt)
        lookup = NgramIndex(sequence.tokens, LOOKUP_MAX, LOOKUP_MIN)
        # An attempt that has delivered tokens has delivered the prompt's log-probabilities with the first of them.
        scoring = PromptScoring(sequence, request.num_prompt_logprobs is not None and not request.emitted)
        outcomes = OutcomeCache(wasted=wasted)
        longest = sequence.prompt_len + request.stopping.max_tokens
        active = cls(request, sequence, outcomes, lookup, [prefix_hash(request.prompt)], scoring, longest)
        if grammar is not None or not request.processors.neutral:
            stops = request.stopping.stop_token_ids
            active.processing = Processing(request.processors, sequence.tokens, sequence.prompt_len, stops, grammar)
        active.plain = active.processing is None and active.num_logprobs is None
        active.arrived_at = arrived_at
        active.append(request.emitted)
        active.judged_len = len(sequence)
        return active

    def admit(self, now: float, cached: int) -> None:
        """Note that it has got its first place, with so many tokens of its prompt in the prefix cache."""
        self.queued_s = 0.0 if self.arrived_at is None else max(0.0, now - self.arrived_at)
        self.cached_prompt_tokens = cached

    @property
    def drafter_is_behind(self) -> bool:
        """Whether its drafter has much to read before it can draft."""
        return not self.draft_begun or len(self.sequence.tokens) - self.drafter_len > NEWS

    @property
    def num_emitted(self) -> int:
        """Tokens emitted so far, earlier attempts included."""
        return len(self.sequence.tokens) - self.sequence.prompt_len

    @property
    def remaining(self) -> int:
        """Tokens that may still be emitted."""
        return self.longest - len(self.sequence.tokens)

    def drafted(self) -> tuple[int, ...]:
        """Return the longest draft of a drafter that follows the text as it is now; empty where none fits."""
        if self._drafted is None:
            self._drafted = self.outcomes.draft(self.sequence.tokens, self.sequence.prompt_len, self.hashes)
        return self._drafted

    def looked_up(self, limit: int) -> list[int]:
        """Return the n-gram guess of at most ``limit`` tokens that follows the text as it is now."""
        if self._looked_up is None or self._looked_up_limit != limit:
            self._looked_up_limit = limit
            self._looked_up = self.lookup.propose(limit)
        return self._looked_up

    def take_outcome(self, outcome: Outcome, drafter: str) -> None:
        """Keep what a drafter proposes."""
        self.draft_begun = True
        self.outcomes.add(outcome, drafter)
        self._drafted = self.at_hand = None

    def take_guess(self, guess: Guess) -> None:
        """Judge a drafter's guess, and keep it where it reaches beyond the text; the first about a base is the one.

        So few are kept, however many come: the bases are those from which a draft reaches beyond the text.
        """
        for known in self.guesses:
            if known.base_len == guess.base_len and known.acceptance is guess.acceptance:
                return
        if guess.judge(self.sequence.tokens):
            self.guesses.append(guess)

    def judge_guesses(self) -> None:
        """Hold guesses against the text, and forget those that nothing more can be learned from."""
        text = self.sequence.tokens
        self.guesses = [guess for guess in self.guesses if guess.judge(text)]

    def bears_out(self, outcome: Outcome) -> bool:
        """True where an outcome is about this very text, up to its base."""
        known = outcome.base_len - self.sequence.prompt_len
        return 0 <= known < len(self.hashes) and self.hashes[known] == outcome.base_hash

    def settle_asks(self, base_len: int) -> Ask | None:
        """Forget the asks that a block for ``base_len`` answers, and return its own."""
        answered = self.asks.get(base_len)
        self.asks = {length: ask for length, ask in self.asks.items() if length > base_len}
        return answered

    def append(self, tokens: Seq[int]) -> None:
        """Take tokens that the target has decided."""
        self.sequence.tokens.extend(tokens)
        if self.processing is not None and self.processing.grammar is not None:
            self.processing.grammar.advance(tokens)
        self.hashes += prefix_hashes(tokens, self.hashes[-1])
        self._drafted = self._looked_up = self.at_hand = None

    def legal(self, draft: Seq[int]) -> Seq[int]:
        """Return a draft as far as the request's grammar allows it."""
        if self.processing is None or self.processing.grammar is None:
            return draft
        return draft[: self.processing.grammar.legal_prefix(draft)]

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives that its rows must report: the most that are wanted anywhere; None: none at all."""
        wanted = [self.request.num_logprobs, self.request.num_prompt_logprobs if self.scoring.left else None]
        return max((count for count in wanted if count is not None), default=None)

    def cut_at_stop(self, tokens: list[int]) -> tuple[list[int], FinishReason | None]:
        """Return the tokens that may be emitted, and why the request ends with them if it does."""
        remaining, stops = self.longest - len(self.sequence.tokens), self.request.stopping.stop_token_ids
        if stops:
            for i, token in enumerate(tokens[:remaining]):
                if token in stops:
                    return tokens[: i + 1], FinishReason.STOP
        if len(tokens) >= remaining:
            return tokens[:remaining], FinishReason.LENGTH
        return tokens, None
