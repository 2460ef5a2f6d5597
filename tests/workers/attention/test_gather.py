import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.attention.paged_setting import MAX_LEN, Setting, layer, reference


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_kv_heads": 6},
        {"num_kv_heads": 1},
        {"value_dim": 5},
        {"window": 7},
        {"window": 1},
        {"softcap": 1.5},
        {"has_sinks": True},
        {"has_sinks": True, "softcap": 2.0, "window": 30},
    ],
    ids=str,
)
def test_ragged_rows_get_what_the_formula_says(changes):
    spec = layer(**changes)
    setting = Setting(spec, [70, 20, 130, 5], block_size=4)
    setting.run([(0, 0, 63), (2, 0, 126)])
    out = setting.run([(0, 63, 70), (1, 0, 20), (2, 126, 130), (3, 0, 5)])
    at = 0
    for i, start, end in [(0, 63, 70), (1, 0, 20), (2, 126, 130), (3, 0, 5)]:
        for position in range(start, end):
            expected = reference(setting.q[i][:, position], setting.k[i], setting.v[i], position, spec, setting.sinks)
            torch.testing.assert_close(out[at].double(), expected, atol=1e-5, rtol=1e-5)
            at += 1
    assert at == len(out)


def test_a_window_far_from_the_beginning_sees_only_its_own_keys():
    spec = layer(window=7)
    setting = Setting(spec, [595], block_size=4)
    setting.run([(0, 0, 590)])
    out = setting.run([(0, 590, 595)])
    for i, position in enumerate(range(590, 595)):
        expected = reference(setting.q[0][:, position], setting.k[0], setting.v[0], position, spec, None)
        torch.testing.assert_close(out[i].double(), expected, atol=1e-5, rtol=1e-5)


def test_padding_tokens_get_the_last_token_s_result():
    setting = Setting(layer(), [9], block_size=4)
    setting.run([(0, 0, 8)])
    out = setting.run([(0, 8, 9)], min_rows=3)
    assert torch.equal(out[1], out[0])
    assert torch.equal(out[2], out[0])


def test_what_other_sequences_left_in_a_block_does_not_matter():
    clean, used = Setting(layer(), [20], 16, seed=3), Setting(layer(), [20], 16, seed=3)
    for tensors in (used.cache.keys, used.cache.values):
        tensors[0].normal_()
    assert torch.equal(clean.run([(0, 0, 20)]), used.run([(0, 0, 20)]))


@settings(max_examples=25, deadline=None)
@given(
    contexts=st.lists(st.integers(1, MAX_LEN), min_size=1, max_size=4),
    block_size=st.sampled_from([1, 3, 16, 100]),
    data=st.data(),
)
def test_chunks_agree_with_whole_rows(contexts, block_size, data):
    setting = Setting(layer(window=data.draw(st.sampled_from([None, 40]))), contexts, block_size)
    whole = setting.run([(i, 0, c) for i, c in enumerate(contexts)]).split(contexts)
    chunked = Setting(setting.spec, contexts, block_size)
    cuts = [data.draw(st.integers(0, c - 1)) for c in contexts]
    if any(cuts):
        chunked.run([(i, 0, cut) for i, cut in enumerate(cuts) if cut])
    rest = chunked.run([(i, cut, c) for i, (cut, c) in enumerate(zip(cuts, contexts, strict=True))])
    parts = rest.split([c - cut for c, cut in zip(contexts, cuts, strict=True)])
    for cut, part, expected in zip(cuts, parts, whole, strict=True):
        torch.testing.assert_close(part, expected[cut:], atol=1e-5, rtol=1e-5)
