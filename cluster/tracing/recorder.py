"""From what an engine tells its observer to the events of a trace: bookkeeping without files, threads or a clock."""

from collections.abc import Sequence as Seq

from cluster.scheduler.events import Arrived, Cancelled, DraftersConnected, DraftsArrived, Event, Wait
from cluster.tracing.draft_track import DraftTracks
from cluster.tracing.events import TraceEvent, counter, instant, names
from cluster.tracing.loop_track import TRACK, LoopTrack
from cluster.tracing.request_track import FIRST_PID, RequestTrack
from cluster.tracing.rows import results
from workers.contract.draft import CloseDraft, DraftOp
from workers.contract.request import Progress
from workers.contract.step import StepOutput, StepPlan


class Recorder:
    """Takes what an EngineObserver is told and collects events until they are taken.

    It keeps state only of requests that have not ended. A row names its sequence and nothing else; which request
    that is follows from the planner's way of numbering: sequences count arrivals, from 1.
    """

    def __init__(self, title: str) -> None:
        """Record an engine that the reader is to see as ``title``."""
        self._origin: float | None = None
        self._events: list[TraceEvent] = names(TRACK, title, "step loop")
        self._loop = LoopTrack()
        self._drafts = DraftTracks()
        self._submitted: dict[str, float] = {}
        self._arrivals = 0
        self._sequences: dict[int, RequestTrack] = {}
        self._numbers: dict[str, int] = {}
        self._last_step_end = 0

    @property
    def pending(self) -> int:
        """Events that wait to be taken."""
        return len(self._events)

    def take(self) -> list[TraceEvent]:
        """Return what has been recorded since the last call."""
        events, self._events = self._events, []
        return events

    def submitted(self, request_id: str, at: float) -> None:
        """See EngineObserver."""
        self._submitted[request_id] = at

    def started(self, at: float) -> None:
        """See EngineObserver. The trace's times count from here."""
        self._origin = at
        self._loop.start(0)

    def woke(self, at: float) -> None:
        """See EngineObserver."""
        self._loop.woke(self._us(at))

    def took(self, event: Event, at: float) -> None:
        """See EngineObserver."""
        match event:
            case Arrived():
                self._arrive(event, at)
            case Cancelled():
                self._leave(event.request_id, at, "cancelled")
            case DraftsArrived():
                for block in event.blocks:
                    self._events += self._drafts.arrive(block, self._us(event.at))
                self._events.append(self._drafts.count(self._us(event.at)))
            case DraftersConnected():
                self._events.append(counter("drafters connected", TRACK, self._us(at), event.count))

    def waits(self, wait: Wait, at: float) -> None:
        """See EngineObserver."""
        self._events += self._loop.wait(wait, self._us(at))

    def stepped(self, plan: StepPlan, output: StepOutput | None, started: float, ended: float) -> None:
        """See EngineObserver."""
        start, end = self._us(started), self._us(ended)
        rows = results(plan, output)
        self._events += self._loop.step(rows, start, end, failed=output is None)
        held = self._loop.held_before_step
        for result in rows:
            request = self._sequences.get(result.row.seq_id)
            if request is not None:
                missed = request.last_end < self._last_step_end
                self._events += request.row(result, start, end, missed, held)
        self._last_step_end = end

    def progressed(self, progress: Seq[Progress], at: float) -> None:
        """See EngineObserver."""
        for item in progress:
            number = self._numbers.get(item.request_id)
            if number is not None:
                self._sequences[number].emitted += len(item.tokens)
            if item.finish_reason is not None:
                self._leave(item.request_id, at, item.finish_reason)

    def ordered(self, ops: Seq[DraftOp], at: float) -> None:
        """See EngineObserver."""
        moment = self._us(at)
        for op in ops:
            request = self._sequences.get(op.seq_id)
            if isinstance(op, CloseDraft):
                self._events += self._drafts.close(op.seq_id, moment)
            elif request is not None:
                self._events += self._drafts.order(op, request.track, moment)
        self._events.append(self._drafts.count(moment))

    def close(self, at: float, why: str) -> None:
        """End every track; ``why`` is shown where the trace ends."""
        moment = self._us(at)
        self._events += self._loop.close(moment)
        for request_id in list(self._numbers):
            self._leave(request_id, at, why)
        self._events += self._drafts.close_all(moment)
        self._events.append(instant("trace ends", TRACK, moment, why=why))

    def _arrive(self, event: Arrived, at: float) -> None:
        self._arrivals += 1
        request = event.request
        submitted = self._us(self._submitted.pop(request.request_id, at))
        track = RequestTrack(request.request_id, FIRST_PID + self._arrivals, submitted)
        self._sequences[self._arrivals] = track
        self._numbers[request.request_id] = self._arrivals
        sizes = {"prompt_tokens": len(request.prompt), "max_tokens": request.stopping.max_tokens}
        resumed = {"emitted_before": len(request.emitted)} if request.emitted else {}
        self._events += track.open(**sizes, **resumed)

    def _leave(self, request_id: str, at: float, reason: str) -> None:
        number = self._numbers.pop(request_id, None)
        if number is None:
            return
        moment = self._us(at)
        self._events += self._drafts.close(number, moment)
        self._events += self._sequences.pop(number).close(moment, reason)

    def _us(self, at: float) -> int:
        """Return microseconds since the start; what came before it counts as having come then."""
        origin = at if self._origin is None else self._origin
        return max(round((at - origin) * 1e6), 0)
