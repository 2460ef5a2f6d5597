"""A drafter in simulated time: the desk of the real one, with a synthetic model behind it."""

import random
from collections.abc import Callable
from collections.abc import Sequence as Seq

from cluster.simulator.hardware import Hardware
from cluster.simulator.synthetic import SyntheticAcceptance, SyntheticDrafter
from cluster.simulator.timeline import Timeline
from workers.contract.draft import DraftOp
from workers.drafting.desk import DraftDesk
from workers.drafting.drafter import DraftPeer

MAX_SEQUENCES = 2**20


class SimulatedDrafter:
    """Takes orders at the end of each of its steps, as a real drafter does, and is busy while it makes one."""

    def __init__(
        self,
        hardware: Hardware,
        acceptance: SyntheticAcceptance,
        timeline: Timeline,
        rng: random.Random,
        run_ahead_rows: int,
    ) -> None:
        """Draft with the speed of ``hardware`` and the luck of ``acceptance``."""
        self.sequences = 0
        """Open sequences, as their targets count them."""
        self.busy = False
        self.busy_s = 0.0
        """Those of the step under way included, as if it were over."""
        self.beside_target: Callable[[], bool] = lambda: False
        """Whether a target is at a step at the moment."""
        self._busy_until = 0.0
        self._hardware = hardware
        self._timeline = timeline
        self._rng = rng
        self._model = SyntheticDrafter(acceptance, whole_blocks=hardware.whole_blocks)
        self._desk = DraftDesk(self._model, MAX_SEQUENCES, run_ahead_rows)
        self._inbox: list[tuple[DraftPeer, Seq[DraftOp]]] = []

    def worked_s(self) -> float:
        """Return the seconds that it has worked until now."""
        return self.busy_s - max(self._busy_until - self._timeline.now, 0.0)

    def post(self, peer: DraftPeer, ops: Seq[DraftOp]) -> None:
        """Take a target's orders, which arrive now."""
        self._inbox.append((peer, ops))
        if not self.busy:
            self._go_on()

    def _go_on(self) -> None:
        for peer, ops in self._inbox:
            for op in ops:
                self._desk.apply(peer, op)
        self._inbox.clear()
        self._send()
        if self._desk.idle:
            self.busy = False
            return
        self._desk.step()
        self.busy = True
        tokens_s = sum(map(self._hardware.draft_step_s, self._model.rows))
        seconds = self._hardware.vary(self._hardware.begin_draft_s(self._model.begun) + tokens_s, self._rng)
        if self.beside_target():
            seconds *= 1 + self._hardware.drafter_interference
        self.busy_s += seconds
        self._busy_until = self._timeline.now + seconds
        self._timeline.after(seconds, self._end_of_step)

    def _end_of_step(self) -> None:
        self._send()
        self._go_on()

    def _send(self) -> None:
        for peer, replies in self._desk.take_replies().items():
            peer.deliver(replies)
