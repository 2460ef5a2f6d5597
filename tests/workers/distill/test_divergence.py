"""The loss with its gradient made by hand, against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from workers.distill import divergence
from workers.distill.divergence import HeadDivergence

PASSES, POSITIONS, HIDDEN, IDS = 3, 23, 8, 50


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "draft": normal(PASSES, POSITIONS, HIDDEN).requires_grad_(),
        "target": normal(POSITIONS, HIDDEN),
        "head": normal(IDS, HIDDEN),
        "temperature": normal(POSITIONS).abs() + 0.5,
        "weight": normal(PASSES, POSITIONS).abs(),
        "divergence": torch.tensor([1.0, 0.3, 0.0]),
    }


def by_torch(draft, target, head, temperature, weight, divergence):
    """The same with all logits at once: KL(target || draft) and total variation at T, times T."""
    heat = temperature[:, None]
    wanted = (target @ head.T / heat).softmax(-1)
    own = (draft @ head.T / heat).log_softmax(-1)
    apart = F.kl_div(own, wanted.expand_as(own), reduction="none").sum(-1)
    varied = (own.exp() - wanted).abs().sum(-1) / 2
    each = divergence[:, None] * apart + (1 - divergence[:, None]) * varied
    return (each * temperature * weight).sum()


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_loss_and_gradient_are_torchs_own(case, chunk, monkeypatch):
    monkeypatch.setattr(divergence, "CHUNK", chunk)
    expected = by_torch(**case)
    (wanted,) = torch.autograd.grad(expected, case["draft"])
    loss, _ = HeadDivergence.apply(*case.values())
    (got,) = torch.autograd.grad(3 * loss, case["draft"])
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    torch.testing.assert_close(got / 3, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_nothing_where_both_say_the_same(case):
    same = case["target"].expand(PASSES, -1, -1).clone().requires_grad_()
    loss, hits = HeadDivergence.apply(same, *list(case.values())[1:])
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-4)
    assert bool(hits.all())


def test_hits_are_equal_favourites(case):
    _, hits = HeadDivergence.apply(*case.values())
    own, wanted = (case["draft"] @ case["head"].T).argmax(-1), (case["target"] @ case["head"].T).argmax(-1)
    assert torch.equal(hits, own == wanted)
