"""An engine's observer that writes what it sees to a trace file, and gives up rather than get in the way."""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq
from pathlib import Path

from cluster.scheduler.events import Event, Wait
from cluster.tracing.recorder import Recorder
from cluster.tracing.settings import TraceSettings
from cluster.tracing.trace_file import TraceFile
from workers.contract.draft import DraftOp
from workers.contract.request import Progress
from workers.contract.step import StepOutput, StepPlan

log = logging.getLogger(__name__)

BATCH = 512
"""Events that go to the file together while the engine is busy; one that waits hands over what there is."""


class Tracer:
    """An EngineObserver. A full disk, a limit or a fault of its own ends the trace; the engine goes on."""

    def __init__(self, settings: TraceSettings, title: str) -> None:
        """Begin a trace of an engine that readers are to see as ``title``.

        Raises:
            ConfigurationError: The file cannot be made.
        """
        self._file = TraceFile(settings.file, settings.max_bytes)
        self._recorder: Recorder | None = Recorder(title)
        log.info("tracing to %s", self._file.path)

    @property
    def path(self) -> Path:
        """Where the trace is."""
        return self._file.path

    def submitted(self, request_id: str, at: float) -> None:
        """See EngineObserver."""
        if (recorder := self._recorder) is not None:
            recorder.submitted(request_id, at)

    def started(self, at: float) -> None:
        """See EngineObserver."""
        self._record(at, lambda recorder: recorder.started(at))

    def woke(self, at: float) -> None:
        """See EngineObserver."""
        self._record(at, lambda recorder: recorder.woke(at))

    def took(self, event: Event, at: float) -> None:
        """See EngineObserver."""
        self._record(at, lambda recorder: recorder.took(event, at))

    def waits(self, wait: Wait, at: float) -> None:
        """See EngineObserver."""
        self._record(at, lambda recorder: recorder.waits(wait, at), batch=1)

    def stepped(self, plan: StepPlan, output: StepOutput | None, started: float, ended: float) -> None:
        """See EngineObserver."""
        self._record(ended, lambda recorder: recorder.stepped(plan, output, started, ended))

    def progressed(self, progress: Seq[Progress], at: float) -> None:
        """See EngineObserver."""
        self._record(at, lambda recorder: recorder.progressed(progress, at))

    def ordered(self, ops: Seq[DraftOp], at: float) -> None:
        """See EngineObserver."""
        self._record(at, lambda recorder: recorder.ordered(ops, at))

    def close(self, at: float) -> None:
        """See EngineObserver. The file is complete when this returns."""
        if self._recorder is not None:
            self._end(self._recorder, at, "the target stopped")
        self._file.close()

    def _record(self, at: float, record: Callable[[Recorder], None], batch: int = BATCH) -> None:
        """Let the recorder take note, and hand over to the file what has gathered."""
        recorder = self._recorder
        if recorder is None:
            return
        try:
            record(recorder)
            if recorder.pending >= batch:
                self._file.put(recorder.take())
            if self._file.failure:
                log.warning("the trace ends here: %s", self._file.failure)
                self._end(recorder, at, self._file.failure)
        except Exception:
            log.exception("the trace ends here because of a fault of its own")
            self._recorder = None

    def _end(self, recorder: Recorder, at: float, why: str) -> None:
        self._recorder = None
        recorder.close(at, why)
        self._file.put(recorder.take())
        self._file.finish()
