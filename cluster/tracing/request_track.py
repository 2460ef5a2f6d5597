"""One track per request: its wait for a place, its prompt, its verifications, and what it waited for in between."""

from dataclasses import dataclass

from cluster.tracing.events import TraceEvent, begin, end, names, span
from cluster.tracing.rows import RowKind, RowResult

FIRST_PID = 100
"""Requests are listed as processes of their own, so that their drafts stand beneath them; the target is below."""
CATEGORY = "request"


@dataclass(slots=True, eq=False)
class RequestTrack:
    """A request from its arrival to its end."""

    request_id: str
    pid: int
    last_end: int
    """When its last slice ended."""
    rows: int = 0
    emitted: int = 0
    verified: int = 0
    draft_tokens: int = 0
    accepted: int = 0

    @property
    def track(self) -> tuple[int, int]:
        """(pid, tid)."""
        return self.pid, 1

    def open(self, **args: object) -> list[TraceEvent]:
        """Begin the track with a slice that encloses all others."""
        title = f"request {self.request_id}"
        return [
            *names(self.track, title, "progress"),
            begin(title, CATEGORY, self.track, self.last_end, **args),
        ]

    def row(self, result: RowResult, start: int, stop: int, missed_step: bool, held: bool) -> list[TraceEvent]:
        """Add a row of a step, and the wait before it.

        ``missed_step``: the step before this one ran without the request; ``held``: the target waited for drafts.
        """
        events = []
        reason = "queued" if not self.rows else "its turn" if missed_step else "drafts" if held else None
        if reason is not None and start > self.last_end:
            name = "queued" if reason == "queued" else f"waiting for {reason}"
            events.append(span(name, "wait", self.track, self.last_end, start))
        kind = result.kind
        events.append(span(kind, kind, self.track, start, stop, **result.describe()))
        self.rows += 1
        self.last_end = stop
        self.verified += kind is RowKind.VERIFY
        self.draft_tokens += result.draft
        self.accepted += result.accepted
        return events

    def close(self, at: int, reason: str) -> list[TraceEvent]:
        """End the track, with the sums of what it shows."""
        events = []
        if not self.rows and at > self.last_end:
            events.append(span("queued", "wait", self.track, self.last_end, at))
        sums = {
            "emitted": self.emitted,
            "verified": self.verified,
            "draft_tokens": self.draft_tokens,
            "accepted": self.accepted,
        }
        return [*events, end(self.track, max(at, self.last_end), reason=reason, **sums)]
