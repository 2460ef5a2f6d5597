"""The damage that a soak does: each kind of fault, whom it hits, and whether anybody must be replaced afterwards.

A new kind is one more entry of ``KINDS``: everything else, the command's help and the report included, follows.
"""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import Protocol

from cluster.soak.processes import Role


class Fault(Protocol):
    """One kind of damage to one process."""

    @property
    def name(self) -> str:
        """As users write it and the report shows it."""

    @property
    def role(self) -> Role:
        """Whose process is hit."""

    @property
    def explanation(self) -> str:
        """What is done, in a few words."""

    @property
    def ends_victim(self) -> bool:
        """Whether somebody must come in its place."""

    async def inject(self, pid: int) -> None:
        """Do it to a process, and return when nothing more is to be done."""


@dataclass(frozen=True, slots=True)
class SignalFault:
    """A signal, and another one some seconds later to undo it where it is to be undone."""

    name: str
    role: Role
    explanation: str
    signal: signal.Signals
    undo_after_s: float | None = None
    """Seconds until SIGCONT; None: it stays as it is."""

    @property
    def ends_victim(self) -> bool:
        """See Fault."""
        return self.undo_after_s is None

    async def inject(self, pid: int) -> None:
        """See Fault."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, self.signal)
            if self.undo_after_s is not None:
                await asyncio.sleep(self.undo_after_s)
                os.kill(pid, signal.SIGCONT)


KINDS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        SignalFault("target-kill", Role.TARGET, "SIGKILL to rank 0 of a target", signal.SIGKILL),
        SignalFault("rank-kill", Role.RANK, "SIGKILL to another rank of a target", signal.SIGKILL),
        SignalFault("rank-stop", Role.RANK, "SIGSTOP to another rank, for good", signal.SIGSTOP),
        SignalFault("target-stop", Role.TARGET, "SIGSTOP to rank 0 of a target, for good", signal.SIGSTOP),
        SignalFault("target-pause", Role.TARGET, "SIGSTOP to rank 0 of a target for 2 s", signal.SIGSTOP, 2.0),
        SignalFault("drafter-kill", Role.DRAFTER, "SIGKILL to a drafter", signal.SIGKILL),
        SignalFault("drafter-stop", Role.DRAFTER, "SIGSTOP to a drafter for 3 s", signal.SIGSTOP, 3.0),
    )
}
"""All kinds, by name."""
