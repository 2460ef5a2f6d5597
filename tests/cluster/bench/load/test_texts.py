"""Different texts are found, and told from an endpoint that does not repeat itself."""

from dataclasses import replace

from cluster.bench.load.modes import Mode
from cluster.bench.load.sample import Sample
from cluster.bench.load.texts import check_texts
from tests.cluster.bench.load.made import FOUR, pairs, run, sample


def test_equal_texts():
    check = check_texts(pairs([1.0, 1.0], [1.0, 1.0]) + pairs([1.0], [1.0], load=FOUR))
    assert (check.compared, check.different) == (6, 0)
    assert (check.repeated, check.repeated_different) == (2, 0)
    assert "6 pairs of plain and speculative answers, all equal; 0 of 2 plain answers differed" in check.sentence


def test_a_different_text_is_counted_and_shown():
    plain = run(Mode.PLAIN, 1, text="the same beginning, then this")
    other = run(Mode.SPECULATION, 1, text="the same beginning, then that")
    check = check_texts([other, plain])
    assert (check.compared, check.different) == (2, 2)
    assert check.examples[0].at == len("the same beginning, then th")
    assert check.examples[0].plain.endswith("this")
    assert check.examples[0].speculation.endswith("that")
    assert check.sentence == "Texts: 2 pairs of plain and speculative answers, 2 DIFFERENT."


def test_a_text_that_stops_early_is_different():
    check = check_texts([run(Mode.PLAIN, 1, text="abc"), run(Mode.SPECULATION, 1, text="ab")])
    assert check.different == 2
    assert check.examples[0].at == 2


def test_equal_texts_of_different_tokens_are_different():
    assert check_texts([run(Mode.PLAIN, 1, tokens=11), run(Mode.SPECULATION, 1, tokens=12)]).different == 2


def test_plain_decoding_is_held_against_itself():
    runs = [run(Mode.PLAIN, 1, text="a"), run(Mode.PLAIN, 2, text="b"), run(Mode.SPECULATION, 2, text="b")]
    check = check_texts(runs)
    assert (check.compared, check.different) == (2, 0)
    assert (check.repeated, check.repeated_different) == (2, 2)


def test_failed_requests_are_not_compared():
    half = replace(run(Mode.SPECULATION, 1), samples=(sample(0), Sample(1, failure="timed out")))
    assert check_texts([run(Mode.PLAIN, 1), half]).compared == 1


def test_there_is_nothing_to_check_in_one_mode():
    assert check_texts([run(Mode.AS_SERVED, 1)]) is None
