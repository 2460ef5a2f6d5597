import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.tiny_models import make_tiny
from tests.workers.feeding import all_logits
from workers.contract.errors import ConfigurationError, ModelRefusedError
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan, verify
from workers.model_runner import ModelRunner
from workers.process_group import ProcessGroup
from workers.sampling.batch import SamplingBatch
from workers.sampling.coupled import choose_tokens
from workers.settings import RunnerSettings
from workers.tokenizer import Tokenizer

GREEDY = SamplingParams(temperature=0.0)
PROMPT = [72, 101, 108, 108, 111, 44, 32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"), scale=4.0)


@pytest.fixture(scope="module")
def runner(folder):
    return ModelRunner.from_settings(
        RunnerSettings(model=str(folder), block_size=4, max_model_len=200, kv_cache_bytes=1 << 20)
    )


@pytest.fixture(scope="module")
def greedy(folder):
    """Thirty tokens that transformers' own generate appends to PROMPT."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    out = model.generate(torch.tensor([PROMPT]), max_new_tokens=30, do_sample=False, eos_token_id=None, pad_token_id=0)
    return out[0, len(PROMPT) :].tolist()


def choose(runner, *rows):
    return runner.execute(StepPlan(rows)).sampled


def test_greedy_decoding_is_that_of_generate(runner, greedy):
    blocks = range(12)
    tokens = choose(runner, Row(0, PROMPT, 0, blocks, 1, GREEDY))[0]
    while len(tokens) < len(greedy):
        start = len(PROMPT) + len(tokens) - 1
        tokens += choose(runner, Row(0, tokens[-1:], start, blocks, 1, GREEDY))[0]
    assert tokens == greedy


def test_drafts_change_nothing_and_rejected_ones_are_overwritten(runner, greedy):
    blocks = range(12)
    tokens = choose(runner, Row(0, PROMPT, 0, blocks, 1, GREEDY))[0]
    steps = 0
    while len(tokens) < len(greedy):
        right = greedy[len(tokens) : len(tokens) + 2]
        draft = [*right, 1, 2] if steps % 2 else [3, *right]
        start = len(PROMPT) + len(tokens) - 1
        row = Row(0, [tokens[-1], *draft], start, blocks, len(draft) + 1, GREEDY)
        tokens += verify(draft, choose(runner, row)[0])
        steps += 1
    assert tokens[: len(greedy)] == greedy
    assert steps < 20


def test_rows_get_as_many_choices_as_they_ask_for(runner):
    rows = [Row(i, PROMPT, 0, range(10 * i, 10 * i + 10), i, GREEDY) for i in (2, 0, 7)]
    two, none, seven = choose(runner, *rows)
    assert (len(two), len(none), len(seven)) == (2, 0, 7)
    assert seven[-2:] == two


def test_a_step_without_choices_still_fills_the_cache(runner, greedy):
    assert choose(runner, Row(0, PROMPT[:-1], 0, range(10), 0, GREEDY)) == [[]]
    last = Row(0, PROMPT[-1:], len(PROMPT) - 1, range(10), 1, GREEDY)
    assert choose(runner, last) == [greedy[:1]]


def test_an_empty_plan_is_an_empty_step(runner):
    assert runner.execute(StepPlan(())).sampled == []


def test_a_choice_is_drawn_with_the_row_s_parameters_at_the_absolute_position(runner):
    params = SamplingParams(temperature=1.3, top_k=50, seed=77)
    plan = StepPlan((Row(0, PROMPT, 0, range(10), 3, params), Row(1, PROMPT, 0, range(10, 20), 1, GREEDY)))
    batch = SamplingBatch.from_params([(params, 5), (params, 6), (params, 7), (GREEDY, 7)])
    expected = choose_tokens(all_logits(runner, plan), batch).tolist()
    assert runner.execute(plan).sampled == [expected[:3], expected[3:]]


def test_identity_says_what_peers_must_know(runner, folder):
    identity = runner.identity
    assert identity.vocab_size == runner.vocab_size == 259
    assert identity.tokenizer_fingerprint == Tokenizer.from_folder(folder).fingerprint
    assert identity.max_model_len == runner.max_model_len == 200
    for part in ("float32", "tp1", "cpu", "1threads", "gather", torch.__version__):
        assert part in identity.numerics_class


def test_other_weights_are_another_numerics_class(runner, tmp_path):
    make_tiny(tmp_path, scale=4.0, seed=1)
    other = ModelRunner.from_settings(RunnerSettings(model=str(tmp_path), kv_cache_bytes=1 << 20))
    digest, rest = runner.identity.numerics_class.split("/", 1)
    other_digest, other_rest = other.identity.numerics_class.split("/", 1)
    assert digest != other_digest
    assert rest == other_rest


def test_the_cache_has_the_size_that_is_set(folder):
    per_block = 2 * 2 * 2 * 12 * 4 * 4  # layers, keys and values, heads, head size, tokens, bytes
    settings = RunnerSettings(model=str(folder), block_size=4, kv_cache_bytes=10 * per_block + 1)
    assert ModelRunner.from_settings(settings).num_blocks == 10


def test_the_cache_is_never_larger_than_sequences_could_fill(folder):
    settings = RunnerSettings(model=str(folder), block_size=4, max_model_len=10)
    assert ModelRunner.from_settings(settings).num_blocks == 256 * 3


def test_too_little_memory_for_a_block_is_refused_with_the_numbers(folder):
    with pytest.raises(ConfigurationError, match="takes 1536 bytes; raise kv_cache_bytes"):
        ModelRunner.from_settings(RunnerSettings(model=str(folder), block_size=4, kv_cache_bytes=1000))


def test_a_probe_computes_and_touches_no_request(runner, greedy):
    blocks = range(12)
    first = choose(runner, Row(0, PROMPT, 0, blocks, 1, GREEDY))[0]
    runner.probe()
    assert choose(runner, Row(0, first, len(PROMPT), blocks, 1, GREEDY))[0] == greedy[1:2]


def test_a_head_that_is_not_sharded_as_the_choice_of_tokens_needs_it_is_refused(runner):
    """As transformers 5.17 has it: every rank gets all logits, and the second would take them for its share."""
    group = object.__new__(ProcessGroup)  # that talks to nobody
    for group.rank, group.size, share in ((0, 2, 130), (1, 2, 129)):
        with pytest.raises(ModelRefusedError, match=f"gets 259 logits of tiny where its share .* is {share}: transf"):
            runner._check_head(group, "tiny")
    group.rank, group.size = 0, 1
    runner._check_head(group, "tiny")
