from hypothesis import given
from hypothesis import strategies as st

from workers.contract.draft import Outcome
from workers.contract.prefix_hash import extend, prefix_hash
from workers.drafting.outcome_cache import OutcomeCache

PROMPT = [7, 8, 9]


def hashes_of(tokens):
    hashes = [prefix_hash(PROMPT)]
    for token in tokens[len(PROMPT) :]:
        hashes.append(extend(hashes[-1], token))
    return hashes


def outcome(base, *continuation):
    return Outcome(len(base), prefix_hash(base), continuation)


def draft(cache, tokens):
    return cache.draft(tokens, len(PROMPT), hashes_of(tokens))


def test_a_fresh_outcome_is_the_draft():
    cache = OutcomeCache()
    cache.add(outcome(PROMPT, 1, 2, 3))
    assert draft(cache, PROMPT) == (1, 2, 3)
    assert (cache.used, cache.stale) == (1, 0)


def test_a_late_outcome_gives_what_is_left_and_counts_once():
    cache = OutcomeCache()
    cache.add(outcome(PROMPT, 1, 2, 3))
    assert draft(cache, [*PROMPT, 1]) == (2, 3)
    assert draft(cache, [*PROMPT, 1, 2]) == (3,)
    assert draft(cache, [*PROMPT, 1, 2, 3]) == ()
    assert len(cache) == 0
    assert (cache.used, cache.stale) == (1, 0)


def test_it_tells_who_guessed_the_latest_draft():
    cache = OutcomeCache()
    cache.add(outcome(PROMPT, 1, 2), "first")
    cache.add(outcome([*PROMPT, 1, 2], 3), "second")
    assert draft(cache, PROMPT) and cache.drafter == "first"
    assert draft(cache, [*PROMPT, 1]) and cache.drafter == "first"
    assert draft(cache, [*PROMPT, 1, 2]) and cache.drafter == "second"


def test_a_wrong_guess_is_dropped_for_good():
    cache = OutcomeCache()
    cache.add(outcome(PROMPT, 1, 2, 3))
    assert draft(cache, [*PROMPT, 5]) == ()
    assert len(cache) == 0
    assert (cache.used, cache.stale) == (0, 1)


def test_a_forged_hash_is_dropped():
    cache = OutcomeCache()
    cache.add(Outcome(3, prefix_hash(PROMPT) ^ 1, (1, 2)))
    assert draft(cache, PROMPT) == ()
    assert cache.stale == 1


def test_a_base_before_the_prompts_end_is_dropped():
    cache = OutcomeCache()
    cache.add(outcome(PROMPT[:2], 9, 1, 2))
    assert draft(cache, PROMPT) == ()
    assert cache.stale == 1


def test_outcomes_of_coming_verdicts_wait():
    cache = OutcomeCache()
    cache.add(outcome([*PROMPT, 1, 2], 3, 4))
    cache.add(outcome([*PROMPT, 1, 5], 6))
    assert draft(cache, [*PROMPT, 1]) == ()
    assert len(cache) == 2
    assert draft(cache, [*PROMPT, 1, 5]) == (6,)
    assert cache.stale == 1


def test_the_longest_rest_wins():
    cache = OutcomeCache()
    cache.add(outcome([*PROMPT, 1], 2, 3, 4))
    cache.add(outcome(PROMPT, 1, 2, 9))
    assert draft(cache, [*PROMPT, 1]) == (2, 3, 4)


def test_of_equal_ones_the_newest_wins():
    cache = OutcomeCache()
    cache.add(outcome(PROMPT, 1, 2))
    cache.add(outcome(PROMPT, 3, 4))
    assert draft(cache, PROMPT) == (3, 4)


def test_duplicates_count_once_and_size_is_bounded():
    cache = OutcomeCache(capacity=2)
    for _ in range(3):
        cache.add(outcome(PROMPT, 1))
    assert len(cache) == 1
    cache.add(outcome([*PROMPT, 1], 2))
    cache.add(outcome([*PROMPT, 2], 3))
    assert len(cache) == 2
    assert cache.stale == 1


def test_of_two_with_one_base_the_longer_is_kept():
    cache = OutcomeCache()
    cache.add(outcome(PROMPT, 1, 2))
    cache.add(outcome(PROMPT, 3))
    assert draft(cache, PROMPT) == (1, 2)
    cache.add(outcome(PROMPT, 4, 5, 6))
    assert draft(cache, PROMPT) == (4, 5, 6)
    assert (len(cache), cache.used, cache.stale) == (1, 2, 1)


@given(
    st.lists(st.integers(0, 2), max_size=8),
    st.lists(
        st.tuples(st.integers(0, 14), st.booleans(), st.lists(st.integers(0, 2), min_size=1, max_size=4)),
        max_size=12,
        unique_by=lambda entry: entry[:2],  # of two with one base only one is kept
    ),
)
def test_the_draft_always_continues_the_text_by_an_outcome_that_fits(emitted, raw):
    tokens = PROMPT + emitted
    cache = OutcomeCache()
    rests = set()
    for base_len, honest, continuation in raw:
        base = (tokens + [0] * 20)[:base_len]
        cache.add(Outcome(base_len, prefix_hash(base) ^ (not honest), tuple(continuation)))
        text = base + continuation
        if honest and len(PROMPT) <= base_len <= len(tokens) < len(text) and text[: len(tokens)] == tokens:
            rests.add(tuple(text[len(tokens) :]))
    best = draft(cache, tokens)
    assert best in rests if rests else best == ()
    assert len(best) == max(map(len, rests), default=0)
