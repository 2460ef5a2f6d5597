"""Hands a running model's hidden states to who wants them, whether a step is run or replayed from a recording."""

from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from workers.contract.features import FeatureSpec
from workers.contract.step import Row
from workers.states.feature_store import FeatureStore
from workers.states.state_tap import StateTap, decoder_layers, fits


class StateKeeper:
    """Listens to one model while its store wants states. One thread runs the model and calls this."""

    def __init__(self, model: Any, hidden_size: int) -> None:
        self._model = model
        self._hidden_size = hidden_size
        self._tap: StateTap | None = None
        self.store: FeatureStore | None = None
        """Where the states go; None: nowhere."""

    @property
    def heard(self) -> FeatureSpec | None:
        """Which states are listened to."""
        return None if self._tap is None else self._tap.spec

    def has(self, spec: FeatureSpec) -> bool:
        """Return whether the model has the states that a drafter asks for."""
        return fits(spec, len(decoder_layers(self._model)), self._hidden_size)

    def latest(self) -> Tensor | None:
        """Return the states of the latest pass that was run, None where nobody listens."""
        return None if self._tap is None else self._tap.states()

    def hand_over(self, rows: Seq[Row], replayed: Tensor | None) -> None:
        """Put the states of a step into the store: those that were ``replayed``, else those of the latest pass.

        Then listen to what is wanted of the next step.
        """
        if self.store is None:
            return
        if self._tap is not None:
            states = self._tap.states() if replayed is None else replayed
            self.store.put(self._tap.spec, rows, _on_host(states).view(torch.uint16).numpy())
        wanted = self.store.wanted
        if wanted is not self.heard:
            if self._tap is not None:
                self._tap.remove()
            self._tap = StateTap(self._model, wanted) if wanted is not None else None


def _on_host(states: Tensor) -> Tensor:
    """Return states in the host's memory: in pages that a GPU writes to by itself, else some megabytes take as many ms.

    The store copies them, so that the next step's may stand there.
    """
    if not states.is_cuda:
        return states
    return torch.empty(states.shape, dtype=states.dtype, pin_memory=True).copy_(states)
