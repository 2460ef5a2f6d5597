"""The emitted sequences have the target's distribution, and each seed its plain text, whoever drafts."""

from collections import Counter

import pytest
import torch

from tests.exactness import toy
from tests.exactness.toy import MIXES, TableModel, coupled

TARGET = TableModel(seed=1)
OTHER = TableModel(seed=2)
SEEDS = 4_000

DRAFTERS = {
    "the target itself": coupled(TARGET),
    "good": coupled(TARGET.mixed_with(OTHER, 0.2)),
    "bad": coupled(OTHER),
    "right logits, other noise": coupled(TARGET, seed_shift=10**6),
    "always wrong": toy.always_wrong(TARGET),
    "always repeats": toy.always_repeats,
    "out of support": toy.rarest(TARGET),
}


@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_no_drafter_changes_the_distribution_or_any_seeds_text(mix):
    chances = toy.exact_distribution(TARGET, mix)
    assert sum(chances.values()) == pytest.approx(1.0)
    for number, (name, drafter) in enumerate(DRAFTERS.items()):
        seeds = torch.arange(SEEDS) + 10**7 * number  # fresh seeds: every drafter's test is evidence of its own
        texts, accepted = toy.decode_with_drafts(TARGET, drafter, mix, seeds)
        assert texts == toy.decode_plainly(TARGET, mix, seeds), name
        counts = Counter(texts)
        assert toy.p_value([counts[s] for s in chances], list(chances.values())) > 0.001, name
        if name != "out of support":  # accepted now and then where the processors cut nothing
            assert (accepted == 0) == (name == "always wrong"), name


def test_greedy_text_is_left_alone_too():
    mix = {"temperature": 0.0}
    seeds = torch.arange(8)
    plain = toy.decode_plainly(TARGET, mix, seeds)
    assert len(set(plain)) == 1
    for drafter in DRAFTERS.values():
        assert toy.decode_with_drafts(TARGET, drafter, mix, seeds)[0] == plain


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_shared_noise_is_accepted_as_often_as_theory_says_and_more_than_independent_draws(share):
    """P[x = y] = sum_v 1 / sum_w max(p_w / p_v, q_w / q_v) (arXiv 2408.07978), against sum_v p_v q_v."""
    mix, count = {"temperature": 1.0}, 100_000
    start = torch.empty(1, 0, dtype=torch.int64)
    drafter = TARGET.mixed_with(OTHER, share)
    p, q = (model.logits(start)[0].double().softmax(-1) for model in (TARGET, drafter))
    ratio = torch.maximum(p / p[:, None], q / q[:, None])
    theory = float((1.0 / ratio.sum(-1)).sum())
    total_variation = float((p - q).abs().sum() / 2)
    assert (1 - total_variation) / (1 + total_variation) <= theory <= 1 - total_variation

    seeds = torch.arange(count)
    tokens = start.expand(count, 0)
    target = coupled(TARGET)(tokens, mix, seeds)
    shared = float((coupled(drafter)(tokens, mix, seeds) == target).double().mean())
    independent = float((coupled(drafter, seed_shift=count)(tokens, mix, seeds) == target).double().mean())
    assert shared == pytest.approx(theory, abs=4 * (0.25 / count) ** 0.5)
    assert independent == pytest.approx(float((p * q).sum()), abs=4 * (0.25 / count) ** 0.5)
    assert shared > independent + 0.2


def test_a_good_drafter_saves_verifications():
    mix, seeds = {"temperature": 1.0}, torch.arange(2_000)
    accepted = {name: toy.decode_with_drafts(TARGET, d, mix, seeds)[1] for name, d in DRAFTERS.items()}
    assert accepted["the target itself"] > accepted["good"] > accepted["bad"] > accepted["always wrong"]
    assert accepted["good"] > 1.3 * accepted["right logits, other noise"]
