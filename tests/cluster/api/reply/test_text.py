"""Increments of text add up to the text of the whole, whatever the steps and the stop strings are."""

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.reply.stop_strings import StopStrings
from cluster.api.reply.text import TextWriter
from workers.contract.draft import DraftSource
from workers.contract.request import FinishReason, Progress

PROPERTY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TEXTS = st.text(alphabet=st.sampled_from("ab é世🚀\n"), max_size=40)


def steps(tokens, cuts, finish):
    """Progress of a request whose tokens come in steps that end at ``cuts``."""
    bounds = sorted({0, len(tokens), *(cut for cut in cuts if cut < len(tokens))})
    for start, end in pairwise(bounds):
        chunk = tokens[start:end]
        last = finish if end == len(tokens) else None
        yield Progress("r", start, chunk, [DraftSource.NONE] * len(chunk), last)


def write(tokenizer, tokens, cuts, stops, finish):
    writer = TextWriter(0, tokenizer.incremental(), StopStrings(stops))
    text, count = "", 0
    for progress in steps(tokens, cuts, finish):
        delta = writer.take(progress)
        text += delta.text
        count += delta.num_tokens
        if delta.finish_reason is not None:
            return text, count, delta.finish_reason
    raise AssertionError("a request ends with a finish reason")


@PROPERTY
@given(TEXTS.filter(bool), st.lists(st.integers(1, 100), max_size=20))
def test_increments_add_up(tokenizer, text, cuts):
    tokens = tokenizer.encode(text)
    assert write(tokenizer, tokens, cuts, [], FinishReason.LENGTH) == (text, len(tokens), FinishReason.LENGTH)


@PROPERTY
@given(st.lists(st.integers(0, 258), min_size=1, max_size=60), st.lists(st.integers(1, 60), max_size=20))
def test_any_tokens_give_the_text_of_the_whole(tokenizer, tokens, cuts):
    text, count, _ = write(tokenizer, tokens, cuts, [], FinishReason.LENGTH)
    assert (text, count) == (tokenizer.decode(tokens), len(tokens))


@PROPERTY
@given(
    TEXTS.filter(bool), st.lists(st.integers(1, 100), max_size=20), st.lists(TEXTS.filter(bool), max_size=3), st.data()
)
def test_the_cut_and_the_count_do_not_depend_on_the_steps(tokenizer, text, cuts, others, data):
    start = data.draw(st.integers(0, len(text) - 1))
    stop = text[start : start + data.draw(st.integers(1, 4))]
    tokens = tokenizer.encode(text)
    stops = [*others, stop]
    shown, count, reason = write(tokenizer, tokens, cuts, stops, FinishReason.LENGTH)
    ends = [end for end in range(1, len(text) + 1) if any(text[:end].endswith(s) for s in stops)]
    whole = text[: ends[0]]
    longest = max((s for s in stops if whole.endswith(s)), key=len)
    assert reason is FinishReason.STOP
    assert shown == whole.removesuffix(longest)
    assert count == len(tokenizer.encode(whole)), "tokens are counted up to the one that completed the stop string"


def test_the_end_token_counts_and_is_not_shown(tokenizer):
    tokens = [*tokenizer.encode("ab"), *tokenizer.encode("c")]
    assert write(tokenizer, tokens, [2], [], FinishReason.STOP) == ("ab", 3, FinishReason.STOP)


def test_an_unfinished_character_is_shown_at_the_end(tokenizer):
    tokens = tokenizer.encode("a世")[:-1]
    text, count, _ = write(tokenizer, tokens, [], [], FinishReason.LENGTH)
    assert (text.rstrip("\ufffd"), count) == ("a", 3)
    assert text != "a"


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(0, 258), st.sampled_from(DraftSource)), min_size=1, max_size=60),
    st.lists(st.integers(1, 60), max_size=20),
    st.lists(TEXTS.filter(bool), max_size=3),
    st.booleans(),
    st.integers(0, 20),
)
def test_pieces_join_to_the_text_and_know_their_tokens(tokenizer, drawn, cuts, stops, show_stop, min_tokens):
    tokens, sources = [token for token, _ in drawn], [source for _, source in drawn]
    writer = TextWriter(
        0, tokenizer.incremental(), StopStrings(stops), min_tokens=min_tokens, show_stop=show_stop, pieces=True
    )
    plain = TextWriter(0, tokenizer.incremental(), StopStrings(stops), min_tokens=min_tokens, show_stop=show_stop)
    indexes = []
    for progress in steps(tokens, cuts, FinishReason.LENGTH):
        progress.sources = sources[progress.offset : progress.offset + len(progress.tokens)]
        delta, same = writer.take(progress), plain.take(progress)
        assert "".join(piece.text for piece in delta.pieces) == delta.text == same.text
        assert same.pieces == ()
        assert all(piece.text and piece.source is sources[piece.index] for piece in delta.pieces)
        indexes += [piece.index for piece in delta.pieces]
        if delta.finish_reason is not None:
            break
    assert indexes == sorted(indexes)


def test_a_piece_belongs_to_the_token_that_completed_its_characters(tokenizer):
    writer = TextWriter(0, tokenizer.incremental(), StopStrings(["bX"]), pieces=True)
    tokens = tokenizer.encode("aébc")
    own, drafted, looked_up = DraftSource.NONE, DraftSource.DRAFTER, DraftSource.LOOKUP
    first = writer.take(Progress("r", 0, tokens[:2], [own, drafted]))
    assert [(p.index, p.source, p.text) for p in first.pieces] == [(0, own, "a")]
    second = writer.take(Progress("r", 2, tokens[2:4], [looked_up, drafted]))
    assert [(p.index, p.source, p.text) for p in second.pieces] == [(2, looked_up, "é")], "b may begin a stop string"
    third = writer.take(Progress("r", 4, tokens[4:], [own], FinishReason.LENGTH))
    assert [(p.index, p.source, p.text) for p in third.pieces] == [(3, drafted, "b"), (4, own, "c")]
