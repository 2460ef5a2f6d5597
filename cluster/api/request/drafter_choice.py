"""Which drafters a request may have, by the names that its targets' drafters go by."""

from collections.abc import Iterable

from cluster.api.errors import invalid
from cluster.api.request.models import ANY, Speculation
from cluster.links.generation.status import TargetStatus
from workers.contract.draft import DraftSource

MAX_SHOWN = 16
"""Names that an error lists."""


def chosen_drafter(speculation: Speculation | None, targets: Iterable[TargetStatus]) -> tuple[DraftSource | None, str]:
    """Return whose drafts a request may use, and the name of its drafters where it chose one.

    Names are those of drafters that some target reaches or has reached: one that is gone for a while leaves its
    requests without drafts, and refuses none. A 400 lists them where the one that is asked for is not among them.
    """
    wanted = ANY if speculation is None else speculation.drafter
    if wanted in _SOURCES:
        return _SOURCES[wanted], ""
    statuses = list(targets)
    names = sorted({name for status in statuses for name in status.drafters})
    if statuses and wanted not in names:
        raise invalid("speculation.drafter", _unknown(wanted, names))
    return DraftSource.DRAFTER, wanted


_SOURCES = {ANY: None, "drafter": DraftSource.DRAFTER, "lookup": DraftSource.LOOKUP, "none": None}


def _unknown(wanted: str, names: list[str]) -> str:
    there = ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "") if names else "none so far"
    return (
        f"speculation.drafter: there is no drafter {wanted[:200]!r}; drafters by name: {there}. "
        "Else choose any, drafter (any of them), lookup (the target's own n-gram guesses) or none"
    )
