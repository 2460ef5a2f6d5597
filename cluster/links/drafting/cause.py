"""Why a target has no stream to a drafter (any longer): what is counted, and what the drafter is blamed for."""

from enum import StrEnum


class Cause(StrEnum):
    """Why there is no stream (any longer)."""

    UNREACHABLE = "unreachable"
    """Nobody answered at the address, or whoever did is no drafter by its certificate."""
    LOST = "lost"
    """The connection broke or the drafter ended."""
    SILENT = "silent"
    """Nothing at all came for longer than a drafter that runs is ever silent."""
    OVERDUE = "overdue"
    """It owed answers for several times as long as it has taken so far."""
    UNREAD = "unread"
    """The drafter does not read what it is sent."""
    REMOVED = "removed"
    """The drafter was taken off the list."""
    INCOMPATIBLE = "incompatible"
    """The drafter speaks another version, has another tokenizer, or wants states that the target does not have."""
    FORBIDDEN = "forbidden"
    """The drafter does not take us for a target: it is not what our certificate says."""
    PROTOCOL = "protocol"
    """A message was wrong: the drafter's, or ours as the drafter says."""
    FLOODING = "flooding"
    """It sent far more than it was asked for."""
    LYING = "lying"
    """It answered for a text that it was never sent. Wrong guesses are none of this: they only bring nothing."""

    @property
    def misconduct(self) -> bool:
        """True for what will not go away by dialling again: a drafter that is broken, hostile or set up wrongly."""
        return self in _MISCONDUCT


_MISCONDUCT = frozenset({Cause.INCOMPATIBLE, Cause.FORBIDDEN, Cause.PROTOCOL, Cause.FLOODING, Cause.LYING})
