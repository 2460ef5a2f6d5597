import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.tiny_models import make_tiny
from tests.workers.feeding import Feeder
from workers.model_runner import ModelRunner
from workers.settings import RunnerSettings

LENGTHS = (75, 9, 40, 130)
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
FAMILIES = {
    "llama": {},
    "llama-one-kv-head": {"num_key_value_heads": 1},
    "llama-no-groups": {"num_key_value_heads": 4},
    "mistral": {"sliding_window": 20},
    "qwen2": {"use_sliding_window": True, "sliding_window": 17, "max_window_layers": 1},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "sliding_window": 19, "query_pre_attn_scalar": 20},
    "gemma3_text": {"head_dim": 16, "sliding_window": 21, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": {"pad_token_id": 0},
    "mixtral": MOE,
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 16},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "eos_token_id": 257},
    "gpt_oss": {**MOE, "head_dim": 16, "sliding_window": 18},
    "granite": {"logits_scaling": 3.0, "attention_multiplier": 0.2},
    "cohere": {"logit_scale": 0.3},
    "gpt2": {"n_embd": 48, "n_layer": 2, "n_head": 4},
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_chunks_give_the_logits_of_whole_sequences(name, tmp_path):
    make_tiny(tmp_path, name.split("-")[0], scale=4.0, **FAMILIES[name])
    generator = torch.Generator().manual_seed(1)
    sequences = [torch.randint(0, 256, (n,), generator=generator).tolist() for n in LENGTHS]
    runner = ModelRunner.from_settings(
        RunnerSettings(model=str(tmp_path), block_size=4, max_model_len=256, kv_cache_bytes=1 << 20)
    )
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()

    chunked = Feeder(runner, sequences, seed=2).run(most=50, draft=3)

    for tokens, logits in zip(sequences, chunked, strict=True):
        with torch.inference_mode():
            expected = reference(torch.tensor([tokens]), use_cache=False).logits[0]
        torch.testing.assert_close(logits, expected, atol=2e-5 * float(expected.abs().max()), rtol=0)
        assert expected.std() > 0.1

    prefill_only = Feeder(runner, sequences[:1], watched=0)
    prefill_only.run(most=50)
    assert prefill_only.done == [LENGTHS[0]]
