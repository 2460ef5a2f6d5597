"""The kernels against `gather`, on a GPU where there is one, else in Triton's interpreter (tests/conftest.py)."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from tests.workers.attention.paged_setting import MAX_LEN, Setting, layer
from workers.attention.triton import TritonAttention

pytestmark = pytest.mark.kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
IN_TURN, SIDE_BY_SIDE = 0, 1000
"""How the splits of a context are computed: by the number of programs that would fill the device."""
TritonSetting = partial(Setting, device=DEVICE)


def make(fill):
    return partial(TritonAttention, fill=fill)


def pair(*arguments, fill=IN_TURN, dtype=torch.float32, **changes):
    """The same setting for `gather`, in float32 on the CPU, and for the kernels."""
    kernels = TritonSetting(*arguments, make=make(fill), dtype=dtype, **changes)
    gather = Setting(*arguments, **changes)
    for mine, theirs in ((gather.q, kernels.q), (gather.k, kernels.k), (gather.v, kernels.v)):
        mine[:] = [tensor.float().cpu() for tensor in theirs]
    for setting in (gather, kernels):
        setting.fill()
    gather.sinks = None if kernels.sinks is None else kernels.sinks.float().cpu()
    return gather, kernels


def assert_agree(settings_pair, *steps):
    gather, kernels = settings_pair
    for step in steps:
        expected, found = gather.run(step), kernels.run(step)
        bound = TOLERANCE[found.dtype]
        torch.testing.assert_close(found.float().cpu(), expected, atol=bound, rtol=bound)


CHANGES = [
    {},
    {"num_kv_heads": 6},
    {"num_query_heads": 20, "num_kv_heads": 1},
    {"key_dim": 24, "value_dim": 12},
    {"window": 7},
    {"window": 40},
    {"softcap": 5.0},
    {"has_sinks": True},
    {"softcap": 5.0, "has_sinks": True, "window": 280},
]


@pytest.mark.parametrize("fill", [IN_TURN, SIDE_BY_SIDE])
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_ragged_rows_get_what_the_reference_gives(changes, fill):
    contexts = [70, 20, 290, 5]
    assert_agree(pair(layer(**changes), contexts, 4, fill=fill), [(0, 63, 70), (1, 0, 20), (2, 286, 290), (3, 0, 5)])


def test_a_whole_text_at_once():
    assert_agree(pair(layer(), [90, 10], 4, dtype=torch.bfloat16), [(0, 0, 90), (1, 9, 10)])


@pytest.mark.parametrize("block_size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_blocks_of_any_size_in_any_dtype(block_size, dtype):
    spec = layer(key_dim=64, value_dim=64, scale=0.125)
    assert_agree(pair(spec, [270, 41], block_size, dtype=dtype), [(0, 265, 270), (1, 40, 41)])


@settings(max_examples=12, deadline=None)
@given(
    contexts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    block_size=st.sampled_from([1, 3, 16, 100]),
    kv_heads=st.sampled_from([1, 2, 3]),
    group=st.integers(1, 5),
    window=st.sampled_from([None, 1, 20]),
    fill=st.sampled_from([IN_TURN, SIDE_BY_SIDE]),
    data=st.data(),
)
def test_rows_of_any_shape(contexts, block_size, kv_heads, group, window, fill, data):
    spec = layer(num_query_heads=kv_heads * group, num_kv_heads=kv_heads, window=window)
    starts = [data.draw(st.integers(max(0, c - 20), c - 1)) for c in contexts]
    rows = [(i, start, c) for i, (start, c) in enumerate(zip(starts, contexts, strict=True))]
    assert_agree(pair(spec, contexts, block_size, fill=fill, dtype=torch.bfloat16), rows)


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({}, torch.float32),
        ({}, torch.bfloat16),
        ({"window": 30}, torch.bfloat16),
        ({"has_sinks": True, "softcap": 8.0}, torch.bfloat16),
    ],
    ids=str,
)
def test_a_row_alone_and_in_company_and_cut_in_any_way_is_the_same_bit_for_bit(changes, dtype):
    contexts = [275, 70, 300, 33]  # the first splits end at 256

    def setting(fill):
        return TritonSetting(layer(**changes), contexts, 16, make=make(fill), dtype=dtype).fill()

    start, lengths = 245, (5, 1, 1, 17, 6)
    whole = setting(IN_TURN).run([(0, start, 275)])
    companions = [[], [(1, 69, 70)], [(2, 290, 300), (3, 0, 20)], [(3, 20, 33)], [(1, 0, 9), (2, 299, 300)]]
    for fill in (IN_TURN, SIDE_BY_SIDE):
        at, parts = start, []
        for length, others in zip(lengths, companions, strict=True):
            before, behind = others[:1], others[1:]
            first = sum(end - begin for _, begin, end in before)
            parts.append(setting(fill).run([*before, (0, at, at + length), *behind])[first : first + length])
            at += length
        assert torch.equal(torch.cat(parts), whole)


def test_what_drafts_left_behind_does_not_matter():
    clean, used = (TritonSetting(layer(), [40], 16, make=make(IN_TURN)) for _ in range(2))
    for tensors in (used.cache.keys, used.cache.values):
        tensors[0].normal_()
    assert torch.equal(clean.run([(0, 0, 40)]), used.run([(0, 0, 40)]))


def test_splits_of_growing_size_are_merged_in_order():
    spec = layer(num_query_heads=2, num_kv_heads=1)
    gather, kernels = pair(spec, [4700], 64, max_len=4700, dtype=torch.bfloat16)
    last = [(0, 4690, 4700)]
    assert_agree((gather, kernels), last)
    in_turn = kernels.run(last)
    kernels.backend = TritonAttention(kernels.cache, 4700, fill=SIDE_BY_SIDE)
    assert torch.equal(kernels.run(last), in_turn)


def test_nothing_comes_of_padding_tokens():
    setting = TritonSetting(layer(), [9], 4, make=make(IN_TURN))
    setting.run([(0, 0, 8)])
    assert not setting.run([(0, 8, 9)], min_rows=3)[1:].any()


def test_partial_results_that_would_take_too_much_room_are_not_kept(monkeypatch):
    monkeypatch.setattr("workers.attention.triton.MAX_WORKSPACE_BYTES", 100)
    setting = TritonSetting(layer(), [MAX_LEN], 16, make=make(SIDE_BY_SIDE)).fill()
    setting.run([(0, MAX_LEN - 1, MAX_LEN)])
    assert setting.backend.workspace is None
