import pytest
import torch

from tests.workers.attention.paged_setting import layer
from workers.attention.choice import Surroundings, choose_attention, make_attention
from workers.attention.gather import GatherAttention
from workers.contract.errors import ConfigurationError
from workers.kv.cache import PagedKVCache

H100 = Surroundings("cuda", (9, 0), torch.bfloat16, 16, (2, 13))
CPU = Surroundings("cpu", None, torch.bfloat16, 16, (2, 13))


@pytest.mark.parametrize(
    ("around", "chosen"),
    [
        (CPU, "gather"),
        (H100, "triton"),
        (H100._replace(capability=(8, 0)), "triton"),
        (H100._replace(dtype=torch.float16), "triton"),
        (H100._replace(dtype=torch.float32), "triton"),
        (H100._replace(torch_version=(2, 11)), "triton"),
        (H100._replace(block_size=256), "triton"),
        (H100._replace(capability=(7, 5)), "gather"),
        (H100._replace(no_triton="triton is not installed"), "gather"),
        (H100._replace(dtype=torch.float64), "gather"),
    ],
    ids=str,
)
def test_the_default(around, chosen):
    assert choose_attention("auto", around, [layer(softcap=1.0, has_sinks=True, window=5)]) == chosen


PAGED_256 = H100._replace(block_size=256)


@pytest.mark.parametrize(
    ("wanted", "around", "changes", "reason"),
    [
        ("triton", CPU, {}, "the model runs on cpu"),
        ("triton", H100._replace(no_triton="triton is not installed"), {}, "triton is not installed"),
        ("triton", H100._replace(capability=(7, 5)), {}, "this GPU has 7.5"),
        ("triton", H100._replace(dtype=torch.float64), {}, "torch.float64"),
        ("varlen", CPU, {}, "the model runs on cpu"),
        ("varlen", H100, {}, "block_size is 16"),
        ("varlen", PAGED_256._replace(torch_version=(2, 11)), {}, "torch 2.11 has no block tables"),
        ("varlen", PAGED_256._replace(dtype=torch.float32), {}, "not in torch.float32"),
        ("varlen", PAGED_256, {"softcap": 3.0}, "soft caps"),
        ("varlen", PAGED_256, {"has_sinks": True}, "sinks"),
        ("varlen", PAGED_256, {"value_dim": 4}, "differ in width"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(wanted, around, changes, reason):
    with pytest.raises(ConfigurationError, match=reason):
        choose_attention(wanted, around, [layer(**changes)])


def test_what_is_wanted_and_can_run_is_taken():
    assert choose_attention("gather", H100, [layer()]) == "gather"
    assert choose_attention("varlen", PAGED_256, [layer(window=9)]) == "varlen"


def test_on_this_machine_s_cpu_it_is_gather():
    cache = PagedKVCache([layer()], 4, 16, torch.float32, torch.device("cpu"))
    assert isinstance(make_attention("auto", cache, [layer()], 64), GatherAttention)
    with pytest.raises(ConfigurationError, match="use attention auto"):
        make_attention("triton", cache, [layer()], 64)
