"""Samples: what is read, what is kept apart, and how they are laid side by side."""

import gzip
import random
from dataclasses import replace

import pytest
import torch

from workers.contract.errors import ConfigurationError
from workers.distill.batches import COOLEST, arrange, load_batch
from workers.distill.samples import Sample, append_samples, frequent_ids, read_samples, split


def some(count, seed=0):
    rng = random.Random(seed)

    def ids(most):
        return tuple(rng.randrange(100) for _ in range(rng.randrange(1, most)))

    return [Sample(ids(20), ids(40), rng.choice((0.0, 0.7, 1.0))) for _ in range(count)]


class States:
    """Every position's states say which sample and position it is."""

    width = 2

    def __init__(self, samples):
        self.samples = samples

    def of(self, index):
        return torch.tensor([[index, p] for p in range(len(self.samples[index]))], dtype=torch.bfloat16)


def test_samples_survive_the_file_and_a_compressed_one_reads_alike(tmp_path):
    samples = some(20)
    append_samples(tmp_path / "s.jsonl", samples[:7])
    append_samples(tmp_path / "s.jsonl", samples[7:])
    assert read_samples(tmp_path / "s.jsonl", 100, 1000) == samples
    packed = tmp_path / "s.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "s.jsonl").read_bytes()))
    assert read_samples(packed, 100, 1000) == samples


def test_what_is_too_long_is_cut_and_something_of_the_answer_stays(tmp_path):
    append_samples(tmp_path / "s.jsonl", [Sample((1,) * 9, (2,) * 9, 0.0), Sample((1,) * 30, (2,) * 9, 0.0)])
    cut = read_samples(tmp_path / "s.jsonl", 100, 12)
    assert [(len(s.prompt), len(s.output)) for s in cut] == [(9, 3), (11, 1)]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing\.jsonl cannot be read"):
        read_samples(tmp_path / "missing.jsonl", 100, 12)
    (tmp_path / "broken.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigurationError, match=r"broken\.gz cannot be read"):
        read_samples(tmp_path / "broken.gz", 100, 12)


def test_all_answers_to_a_prompt_are_on_the_same_side():
    samples = some(3000)
    again = [replace(sample, output=(5,), temperature=0.3) for sample in samples]
    chosen, held = split(samples)
    assert 30 < len(held) < 100
    assert sorted(chosen + held) == list(range(3000))
    assert split(again) == (chosen, held)


def test_frequent_ids_are_those_of_the_outputs():
    samples = [Sample((9,), (1, 1, 3), 0.0), Sample((9,), (3, 2, 3), 0.0)]
    assert frequent_ids(samples, 2) == [1, 3]
    assert frequent_ids(samples, 50) == [1, 2, 3]


def test_every_sample_is_in_one_batch_and_no_batch_is_too_large():
    samples = some(200)
    batches = arrange(samples, range(0, 200, 2), 300, random.Random(1))
    assert sorted(i for batch in batches for i in batch) == list(range(0, 200, 2))
    assert all(len(batch) * max(len(samples[i]) for i in batch) <= 300 for batch in batches)
    assert batches == arrange(samples, range(0, 200, 2), 300, random.Random(1))
    assert batches != arrange(samples, range(0, 200, 2), 300, random.Random(2))


def test_a_batch_predicts_every_token_of_the_answers_and_no_other():
    samples = some(6)
    batch = load_batch(samples, range(6), States(samples))
    assert batch.num_predicted == sum(len(sample.output) for sample in samples)
    for row, sample in enumerate(samples):
        text = sample.prompt + sample.output
        assert batch.tokens[row, : len(text)].tolist() == list(text)
        predicted = batch.predicts[row].nonzero().flatten().tolist()
        assert [text[p + 1] for p in predicted] == list(sample.output)
        assert batch.states[row, : len(text), 1].tolist() == list(range(len(text)))
        assert float(batch.temperature[row, 0]) == pytest.approx(max(sample.temperature, COOLEST))


def test_cropped_samples_keep_token_and_state_together():
    samples = some(200)
    rng = random.Random(3)
    cropped = 0
    for i in range(200):
        batch = load_batch(samples, [i], States(samples), rng)
        start = int(batch.states[0, 0, 1])
        cropped += start > 0
        text = samples[i].prompt + samples[i].output
        assert batch.tokens[0].tolist() == list(text[start:])
        assert batch.num_predicted >= 1
    assert 10 < cropped < 60
