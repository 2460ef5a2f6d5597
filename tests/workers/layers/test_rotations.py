import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workers.layers.rotations import tabulated

LIKE = torch.zeros(1, dtype=torch.bfloat16)
KINDS = {
    "default": {},
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
}


def rotary(kind, **fields):
    parameters = {"rope_type": kind, "rope_theta": 10000.0, **fields}
    return LlamaRotaryEmbedding(LlamaConfig(head_dim=16, max_position_embeddings=256, rope_parameters=parameters))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_looked_up_is_what_the_module_computes(kind):
    module = rotary(kind, **KINDS[kind])
    looked_up = tabulated(module, 256, LIKE)
    for dtype in (torch.int32, torch.int64):
        positions = torch.tensor([[0, 255, 7, 7, 128]], dtype=dtype)
        for found, expected in zip(looked_up(LIKE, positions), module(LIKE, positions), strict=True):
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found, expected, atol=2**-8, rtol=2**-8)


def test_what_depends_on_more_than_the_position_is_computed():
    assert tabulated(rotary("dynamic", factor=2.0), 256, LIKE) is None
    assert tabulated(torch.nn.Identity(), 256, LIKE) is None
