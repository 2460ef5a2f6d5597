"""Increments must add up to the text of the whole, for every kind of decoder and every way of cutting."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.support.tiny_models import byte_tokenizer
from workers.detokenizer import REPLACEMENT
from workers.tokenizer import Tokenizer

TEXT = "naïve façade — 日本語のテキスト, 👩‍👩‍👧‍👦 family 😀😀, Ünïcödé; зачем? ½ ²  \t\n x"


def byte_level() -> Tokenizer:
    return Tokenizer(byte_tokenizer(), ())


def byte_fallback() -> Tokenizer:
    """A SentencePiece-like tokenizer: words with a leading space, bytes for the rest, first space dropped."""
    words = ["<unk>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "▁family", "▁x", "na", *"abcdefghijklmnopqrstuvwxyz"]
    raw = RawTokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(words)}, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>"), ())


BYTE_LEVEL, BYTE_FALLBACK = byte_level(), byte_fallback()


def stream(tokenizer, ids, cuts=None, **options):
    detokenizer = tokenizer.incremental(**options)
    parts, start = [], 0
    for size in cuts or [1] * len(ids):
        parts.append(detokenizer.add(ids[start : start + size]))
        start += size
    parts.append(detokenizer.add(ids[start:]))
    return [*parts, detokenizer.finish()]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 262), max_size=120),
    st.lists(st.integers(0, 9), max_size=40),
    st.booleans(),
)
def test_any_ids_of_a_byte_level_tokenizer_add_up(ids, cuts, skip):
    parts = stream(BYTE_LEVEL, ids, cuts, skip_special_tokens=skip)
    assert "".join(parts) == BYTE_LEVEL.decode(ids, skip_special_tokens=skip)


def test_long_runs_of_broken_bytes_add_up():
    lead, tail = BYTE_LEVEL.encode("😀")[0], BYTE_LEVEL.encode("€")[1:]
    for pattern in ([lead], tail, [*tail, lead], [lead, *tail]):
        ids = pattern * 100
        assert "".join(stream(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.lists(st.integers(0, 9), max_size=40))
def test_any_text_of_a_byte_fallback_tokenizer_adds_up(text, cuts):
    ids = BYTE_FALLBACK.encode(text)
    assert "".join(stream(BYTE_FALLBACK, ids, cuts)) == BYTE_FALLBACK.decode(ids)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK])
def test_text_streams_character_by_character_and_never_shows_half_of_one(tokenizer):
    ids = tokenizer.encode(TEXT * 5)
    parts = stream(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids)
    assert not any(REPLACEMENT in part for part in parts)
    assert max(len(part) for part in parts) <= len(" family")


@pytest.mark.parametrize("cut", [1, 5])
def test_leading_spaces_are_kept_in_mid_text(cut):
    ids = BYTE_FALLBACK.encode("x family x family" * 20)
    assert "".join(stream(BYTE_FALLBACK, ids, [cut] * (len(ids) // cut))) == BYTE_FALLBACK.decode(ids)


def test_a_character_that_never_ends_comes_with_the_finish():
    half = BYTE_LEVEL.encode("a€")[:-1]
    detokenizer = BYTE_LEVEL.incremental()
    assert detokenizer.add(half) == "a"
    assert detokenizer.finish() == REPLACEMENT
    assert detokenizer.finish() == ""


def test_a_malformed_run_of_byte_fallback_does_not_take_text_back():
    first = BYTE_FALLBACK.encode("日")[1:]
    detokenizer = BYTE_FALLBACK.incremental()
    assert detokenizer.add(first) == "日"
    assert detokenizer.add([first[0]]) == ""
    assert "日" not in detokenizer.add(BYTE_FALLBACK.encode("na")) + detokenizer.finish()


def test_the_work_per_token_does_not_grow_with_the_text():
    decoded = []
    generator = random.Random(0)
    words = [BYTE_FALLBACK.encode(word) for word in ("x", "family", "é")]
    detokenizer = BYTE_FALLBACK.incremental()
    inner = detokenizer._decode
    detokenizer._decode = lambda ids: decoded.append(len(ids)) or inner(ids)
    count = 0
    for _ in range(2000):
        ids = generator.choice(words)
        detokenizer.add(ids)
        count += len(ids)
    assert sum(decoded) / count < 30
    assert max(decoded) < 40


@settings(max_examples=300, deadline=None)
@given(*[st.text(st.characters(exclude_characters=REPLACEMENT, codec="utf-8"), max_size=20)] * 2, st.booleans())
def test_a_continuation_adds_up_with_what_it_continues(before, text, skip):
    for tokenizer in (BYTE_LEVEL, BYTE_FALLBACK):
        first, second = tokenizer.encode(before), tokenizer.encode(text)
        detokenizer = tokenizer.incremental(skip, first)
        parts = [detokenizer.add([token]) for token in second]
        whole = tokenizer.decode([*first, *second], skip_special_tokens=skip)
        assert tokenizer.decode(first, skip) + "".join(parts) + detokenizer.finish() == whole


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK])
def test_a_continuation_completes_the_character_that_is_begun(tokenizer):
    begun, end = tokenizer.encode("a🚀🚀")[:-2], tokenizer.encode("a🚀🚀")[-2:]
    detokenizer = tokenizer.incremental(before=begun)
    assert [detokenizer.add([token]) for token in end] == ["", "🚀"]
    assert tokenizer.incremental(before=tokenizer.encode("a\ufffd")).finish() == "", "that one is whole"


def test_special_tokens_in_front_of_a_continuation_are_none_of_its_text():
    before = [*BYTE_LEVEL.encode("ab"), *BYTE_LEVEL.encode("<|im_end|>") * 9]
    for skip in (True, False):
        detokenizer = BYTE_LEVEL.incremental(skip, before)
        assert detokenizer.add(BYTE_LEVEL.encode("c")) == "c"
