"""The kinds of faults of drafters, each of which is done for real and made good again."""

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cluster.links.drafting.cause import Cause
from tests.faults import lies
from tests.faults.message_proxy import Change, unchanged
from tests.faults.stage import Actor
from tests.faults.tcp_proxy import Wire

VOCAB = 259
"""Token ids of the tiny models."""

Act = Callable[[Actor], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One kind: what is done to a drafter, how it ends, and under which causes it may be counted."""

    name: str
    begin: Act
    end: Act
    causes: frozenset[Cause] = frozenset()
    """One of these is counted; empty: the drafter stays, for what it sends is harmless or only slow."""


def signalled(signum: signal.Signals) -> Act:
    async def act(actor: Actor) -> None:
        os.kill(actor.process.pid, signum)

    return act


def wired(wire: Wire) -> Act:
    async def act(actor: Actor) -> None:
        actor.wire.set(wire)

    return act


def sending(change: Change, orders: Change = unchanged, anew: bool = False) -> Act:
    async def act(actor: Actor) -> None:
        actor.messages.replies, actor.messages.orders = change, orders
        if anew:
            actor.wire.reset()

    return act


async def restart(actor: Actor) -> None:
    await actor.restart()


def _lie(name: str, change: Change, *causes: Cause, orders: Change = unchanged, anew: bool = False) -> Fault:
    return Fault(name, sending(change, orders, anew), sending(unchanged), frozenset(causes))


_BROKEN = (Cause.LOST, Cause.PROTOCOL, Cause.UNREACHABLE, Cause.LYING, Cause.OVERDUE, Cause.INCOMPATIBLE)

FAULTS = (
    Fault("killed", signalled(signal.SIGKILL), restart, frozenset({Cause.LOST})),
    Fault(
        "stopped",
        signalled(signal.SIGSTOP),
        signalled(signal.SIGCONT),
        frozenset({Cause.OVERDUE, Cause.SILENT}),
    ),
    Fault("slow", wired(Wire.SLOW), wired(Wire.WHOLE)),
    Fault("stalled", wired(Wire.STALLED), wired(Wire.WHOLE), frozenset({Cause.OVERDUE, Cause.SILENT})),
    Fault("cut off", wired(Wire.CUT), wired(Wire.WHOLE), frozenset({Cause.LOST})),
    Fault("noisy", wired(Wire.NOISY), wired(Wire.WHOLE), frozenset(_BROKEN)),
    _lie("duplicating", lies.duplicate(), orders=lies.duplicate()),
    _lie("reordering", lies.reorder()),
    _lie("replaying", lies.replay()),
    _lie("wrong tokens", lies.wrong_tokens(VOCAB)),
    _lie("ids out of the vocabulary", lies.out_of_vocabulary(VOCAB), Cause.PROTOCOL),
    _lie("drafts too long", lies.too_long(), Cause.PROTOCOL),
    _lie("no length", lies.no_length(), Cause.PROTOCOL),
    _lie("wrong hashes", lies.wrong_hash(), Cause.LYING),
    _lie("wrong lengths", lies.wrong_length(), Cause.LYING),
    _lie("garbage", lies.garbage(), Cause.PROTOCOL),
    _lie("flooding", lies.flood(), Cause.FLOODING),
    _lie("answering nothing", lies.swallow(), Cause.OVERDUE),
    _lie("another vocabulary", lies.wrong_vocabulary(), Cause.INCOMPATIBLE, anew=True),
)
