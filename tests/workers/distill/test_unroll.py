"""Training on the model's own states is what drafting does, position by position."""

import torch

from tests.support.tiny_draft_model import TINY, dense_attention, make_draft_model
from workers.distill.unroll import unroll


@torch.inference_mode()
def test_each_pass_is_what_a_drafter_computes_at_that_place_of_a_block():
    torch.manual_seed(0)
    config = TINY.model_copy(update={"window": 9})
    model = make_draft_model(config)
    tokens = torch.randint(256, (2, 20))
    features = torch.randn(2, 20, config.features_width)
    passes = unroll(model, tokens, features, 4)
    for row in range(2):
        known = model.states_from(features[row])
        for last in range(6, 16):  # the last decided token
            states = [torch.zeros(config.hidden_size), *known[:last]]
            for s in range(4):
                ids = tokens[row, : last + s + 1][None]
                positions = torch.arange(ids.shape[1])[None]
                rotation, attend = model.rotation(positions), dense_attention(config.window)
                own = model(ids, torch.stack(states)[None], rotation, attend)[0, -1]
                torch.testing.assert_close(passes[s][row, last + s], own, atol=1e-5, rtol=1e-5)
                states.append(own)
