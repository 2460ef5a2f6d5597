"""Reading hidden states out of a running model: what drafters that condition on the target are fed with."""

from typing import Any

import torch
from torch import Tensor, nn

from workers.contract.features import FeatureSpec


class StateTap:
    """Remembers what chosen decoder layers put out in the latest forward pass.

    It listens only: a model computes the same with a tap and without.
    """

    def __init__(self, model: Any, spec: FeatureSpec) -> None:
        """Tap a transformers causal LM; `fits` must hold."""
        self.spec = spec
        self._seen: dict[int, Tensor] = {}
        layers = decoder_layers(model)
        self._hooks = [layers[n - 1].register_forward_hook(self._remember(n)) for n in spec.layers]

    def states(self) -> Tensor:
        """Return the states of all tokens of the latest pass where they are, bfloat16 ``[num_tokens, values]``."""
        return torch.cat([self._seen[n][0].to(torch.bfloat16) for n in self.spec.layers], -1)

    def remove(self) -> None:
        """Listen no more."""
        for hook in self._hooks:
            hook.remove()
        self._seen.clear()

    def _remember(self, n: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._seen[n] = output[0] if isinstance(output, tuple) else output

        return hook


def decoder_layers(model: Any) -> nn.ModuleList:
    """Return a causal LM's decoder layers; empty where its family keeps them elsewhere than in ``decoder.layers``."""
    layers = getattr(model.get_decoder(), "layers", None)
    return layers if isinstance(layers, nn.ModuleList) else nn.ModuleList()


def fits(spec: FeatureSpec, num_layers: int, hidden_size: int) -> bool:
    """Return whether a model with so many decoder layers of such a width has the states that a drafter wants."""
    return spec.size == hidden_size and spec.layers[-1] <= num_layers
