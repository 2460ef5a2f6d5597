"""Stop strings: the same cut however the text arrives, and nothing shown that would have to be taken back."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cluster.api.reply.stop_strings import StopStrings

SMALL = st.text(alphabet="abc", max_size=40)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=5), max_size=4)


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The definition: go character by character; the longest stop string that ends here wins."""
    for end in range(1, len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            longest = max(done, key=len)
            return text[: end - len(longest)], longest
    return text, None


def pieces(text: str, cuts: list[int]) -> list[str]:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


@given(SMALL, STOPS, st.lists(st.integers(0, 40), max_size=12))
def test_the_cut_depends_on_the_text_alone(text, stops, cuts):
    watcher = StopStrings(stops)
    shown = ""
    for piece in pieces(text, cuts):
        shown += watcher.feed(piece)
        assert expected(text, stops)[0].startswith(shown), "text was shown that a stop string takes back"
    if watcher.hit is None:
        shown += watcher.flush()
    assert (shown, watcher.hit) == expected(text, stops)


@given(SMALL, STOPS, st.lists(st.integers(0, 40), max_size=12))
def test_no_more_is_held_back_than_could_begin_a_stop_string(text, stops, cuts):
    watcher = StopStrings(stops)
    seen = shown = ""
    for piece in pieces(text, cuts):
        seen += piece
        shown += watcher.feed(piece)
        if watcher.hit is not None:
            return
        held = seen[len(shown) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_without_stop_strings_everything_passes_at_once():
    watcher = StopStrings([])
    assert watcher.feed("anything") == "anything"
    assert watcher.flush() == ""
    assert watcher.hit is None


def test_after_a_hit_nothing_more_is_shown():
    watcher = StopStrings(["END"])
    assert watcher.feed("oneEND") == "one"
    assert watcher.hit == "END"
    assert watcher.feed("two") == ""
