import pytest

from cluster.bench.load.settings import Load, LoadKind, parse_loads
from workers.contract.errors import ConfigurationError


def test_loads_are_read_in_their_order_and_once():
    assert [load.value for load in parse_loads("4, 1,4", None)] == [4, 1]
    assert [load.label for load in parse_loads(None, "0.5,2")] == ["0.5 per s", "2 per s"]
    assert [load.label for load in parse_loads(None, None)] == ["1 at once", "4 at once", "16 at once", "32 at once"]


@pytest.mark.parametrize(
    ("concurrency", "rate", "sentence"),
    [
        ("1", "1", "either --concurrency or --rate"),
        ("1,two", None, "'two' is not a whole number"),
        ("1.5", None, "'1.5' is not a whole number"),
        ("0", None, "--concurrency: 0 is not between 1 and 1024"),
        (None, "nan", "--rate: nan is not between 0.01 and 1000"),
        (None, "1e9", "--rate: 1e9 is not between"),
        (None, "", "'' is not a number"),
        (",".join(map(str, range(1, 18))), None, "at most 16 values, got 17"),
    ],
)
def test_wrong_loads_are_refused_in_a_sentence(concurrency, rate, sentence):
    with pytest.raises(ConfigurationError) as refused:
        parse_loads(concurrency, rate)
    assert sentence in str(refused.value)


def test_a_run_has_enough_requests_for_a_figure():
    assert Load(kind=LoadKind.CONCURRENCY, value=1).requests(None) == 4
    assert Load(kind=LoadKind.CONCURRENCY, value=32).requests(None) == 64
    assert Load(kind=LoadKind.RATE, value=0.5).requests(None) == 8
    assert Load(kind=LoadKind.RATE, value=2).requests(None) == 20
    assert Load(kind=LoadKind.RATE, value=2).requests(3) == 3
