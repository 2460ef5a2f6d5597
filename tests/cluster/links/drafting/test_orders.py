import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.links.drafting.orders import MAX_KEPT, Orders, Verdict
from workers.contract.draft import DraftBlock, Outcome
from workers.contract.prefix_hash import prefix_hash


def block(text, length, digest=None, ahead_of=0):
    digest = prefix_hash(text[:length]) if digest is None else digest
    return DraftBlock(1, (Outcome(length, digest, (7,)),), ahead_of)


@pytest.fixture
def text():
    return [1, 2, 3]


@pytest.fixture
def orders(text):
    orders = Orders(text)
    orders.ask(10.0, opened=3)
    return orders


def test_an_answer_settles_its_order_and_those_before_it(orders, text):
    for at in (11.0, 12.0, 13.0):
        text.append(5)
        orders.ask(at)
    assert orders.oldest.at == 10.0
    verdict, order = orders.judge(block(text, 5))
    assert (verdict, order.at, order.opened) == (Verdict.ANSWER, 12.0, 0)
    assert orders.oldest.at == 13.0
    assert orders.judge(block(text, 6))[0] is Verdict.ANSWER
    assert orders.oldest is None


def test_what_is_repeated_late_or_prepared_is_no_lie(orders, text):
    assert orders.judge(block(text, 3))[1].opened == 3
    text += [4, 5]
    assert orders.judge(block(text, 3)) == (Verdict.NEUTRAL, None)
    assert orders.judge(block(text, 2)) == (Verdict.NEUTRAL, None)
    assert orders.judge(block(text, 4, digest=99, ahead_of=3)) == (Verdict.NEUTRAL, None)
    assert orders.judge(DraftBlock(1, ())) == (Verdict.NEUTRAL, None)


@pytest.mark.parametrize("lie", [{"length": 3, "digest": 99}, {"length": 2, "digest": 99}, {"length": 4}])
def test_a_text_that_was_never_sent_is_a_lie(orders, text, lie):
    assert orders.judge(block(text, **lie))[0] is Verdict.LIE


def test_nobody_can_prepare_for_what_was_not_asked(orders, text):
    assert orders.judge(block(text, 5, ahead_of=4))[0] is Verdict.LIE


def test_what_is_withdrawn_is_not_waited_for(orders, text):
    orders.withdraw()
    assert orders.oldest is None
    assert orders.judge(block(text, 3)) == (Verdict.NEUTRAL, None)


def test_asking_twice_for_one_text_starts_no_new_clock(orders):
    orders.ask(99.0)
    assert orders.oldest.at == 10.0


def test_what_is_kept_is_bounded_and_the_oldest_order_stays(orders, text):
    for at in range(10 * MAX_KEPT):
        text.append(at)
        orders.ask(20.0 + at)
    assert len(orders._open) <= MAX_KEPT
    assert orders.oldest.at == 10.0
    assert orders.judge(block(text, 40))[0] is Verdict.NEUTRAL


class Text(list):
    """A text that counts how many of its tokens have been read."""

    read = 0

    def __getitem__(self, where):
        found = super().__getitem__(where)
        self.read += len(found) if isinstance(where, slice) else 1
        return found


@pytest.mark.parametrize("true", [True, False])
def test_no_block_makes_us_read_the_text_again(true):
    text = Text(range(1000))
    orders = Orders(text)
    orders.ask(10.0)
    text += range(100)
    blocks = [block(list(text), length, None if true else 99) for length in range(900, 1101)]
    for answer in blocks * 3:
        assert (orders.judge(answer)[0] is Verdict.LIE) is not true
    assert text.read == len(text), "each token once, those that no block was asked for among them"


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200), st.data())
def test_true_answers_are_never_lies_and_false_ones_always(history, data):
    text = [1, 2]
    orders = Orders(text)
    for step, (tokens, asks) in enumerate(history):
        text += [step] * tokens
        if asks:
            orders.ask(float(step))
    length = data.draw(st.integers(1, len(text)))
    assert orders.judge(block(text, length, digest=prefix_hash(text[:length]) ^ 1))[0] is Verdict.LIE
    assert orders.judge(block(text, length))[0] is not Verdict.LIE
