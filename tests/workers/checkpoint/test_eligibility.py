from types import SimpleNamespace

import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from workers.checkpoint.eligibility import check_eligible, check_length
from workers.contract.errors import ModelRefusedError

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SERVED = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "mixtral", "gpt_oss", "gpt_neox"]
SERVED += ["olmo2", "granite", "deepseek_v3"]


def check(model_type, tp_size=1, **fields):
    config = AutoConfig.for_model(model_type, **fields)
    check_eligible(config, MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None), tp_size)


@pytest.mark.parametrize("model_type", SERVED)
def test_decoders_with_plain_attention_are_served(model_type):
    check(model_type)


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("bloom", {}, "ALiBi"),
        ("mpt", {}, "ALiBi"),
        ("falcon", {"alibi": True}, "ALiBi"),
        ("falcon", {}, "attention interface"),
        ("gptj", {}, "attention interface"),
        ("mamba", {}, "linear_attention"),
        ("qwen3_next", {}, "linear_attention"),
        ("lfm2", {"layer_types": ["conv", "full_attention"] * 16}, "conv"),
        ("llama4_text", {}, "chunked_attention"),
        ("gemma3n_text", {}, "shares keys and values"),
        ("gemma4_text", {"num_kv_shared_layers": 2}, "shares keys and values"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "both directions"),
        ("bert", {}, "encoder"),
        ("t5", {}, "encoder-decoder"),
        ("mllama", {}, "cross-attention"),
        ("vit", {}, "no causal language model"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(model_type, fields, message):
    with pytest.raises(ModelRefusedError, match=message):
        check(model_type, **fields)


def test_recurrent_state_is_refused_even_where_no_layer_type_tells():
    config = AutoConfig.for_model("llama", **SMALL)
    stateful = SimpleNamespace(_is_stateful=True, _supports_attention_backend=True)
    with pytest.raises(ModelRefusedError, match="rolled back"):
        check_eligible(config, stateful)


def test_a_multi_modal_config_is_judged_by_its_text_part():
    config = AutoConfig.for_model("gemma3", text_config={"use_bidirectional_attention": True})
    with pytest.raises(ModelRefusedError, match="both directions"):
        check_eligible(config, MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])


def test_a_multi_modal_config_without_text_is_refused():
    config = SimpleNamespace(model_type="seer", sub_configs={"vision_config": object})
    config.get_text_config = lambda decoder: config
    with pytest.raises(ModelRefusedError, match="without a text configuration"):
        check_eligible(config, None)


LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 6,
    "long_factor": [4.0] * 6,
    "original_max_position_embeddings": 1024,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 1024}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}


@pytest.mark.parametrize("rope", [LONG, DYNAMIC])
def test_rope_that_follows_the_batch_is_served_up_to_its_original_length_only(rope):
    config = AutoConfig.for_model("llama", **SMALL, max_position_embeddings=4096, rope_parameters=rope)
    check_length(config, 1024)
    with pytest.raises(ModelRefusedError, match="max_model_len to at most 1024"):
        check_length(config, 1025)


def test_rope_per_layer_type_is_looked_into():
    config = AutoConfig.for_model("gemma3_text", **SMALL, layer_types=["sliding_attention", "full_attention"])
    check_length(config, 100_000)
    config.rope_parameters = {"sliding_attention": LINEAR, "full_attention": DYNAMIC}
    with pytest.raises(ModelRefusedError, match="dynamic"):
        check_length(config, 4096)


def test_rope_with_fixed_frequencies_has_no_limit_of_its_own():
    check_length(AutoConfig.for_model("llama", **SMALL, rope_parameters=LINEAR), 1_000_000)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "tp_size", "message"),
    [
        (9, 3, 2, "9 attention heads.* tp may be 1 or 3$"),
        (8, 2, 4, "2 key-value heads.* tp may be 1 or 2$"),
        (9, 3, 9, "3 key-value heads.* tp may be 1 or 3$"),
    ],
)
def test_heads_that_cannot_be_divided_are_refused(heads, kv_heads, tp_size, message):
    with pytest.raises(ModelRefusedError, match=message):
        check("llama", tp_size, hidden_size=144, num_attention_heads=heads, num_key_value_heads=kv_heads)


def test_heads_that_can_be_divided_are_served():
    check("llama", 3, hidden_size=144, num_attention_heads=9, num_key_value_heads=3)


def test_key_value_heads_do_not_matter_where_attention_is_replicated():
    check("olmo2", 4, hidden_size=48, num_attention_heads=4, num_key_value_heads=2)


def test_a_model_without_a_plan_is_served_on_one_rank_only():
    check("gpt2", 1)
    with pytest.raises(ModelRefusedError, match="no tensor-parallel plan"):
        check("gpt2", 2)
