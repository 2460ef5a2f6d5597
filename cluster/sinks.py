"""Who gets a request's tokens, and handing them out: one call per sink and step."""

import logging
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as Seq

from workers.contract.request import Progress

log = logging.getLogger(__name__)

ProgressSink = Callable[[list[Progress]], None]
"""Takes one step's progress of all requests that share the sink; called in the engine thread, must not block."""


class Sinks:
    """The sink of every request that is inside; may be used from any thread."""

    def __init__(self, leave: Callable[[str], None], cancel: Callable[[str], None]) -> None:
        """``leave`` is told of requests that have ended; ``cancel`` drops those whose sink has failed."""
        self._leave = leave
        self._cancel = cancel
        self._sinks: dict[str, ProgressSink] = {}

    def add(self, request_id: str, sink: ProgressSink) -> None:
        """Let a request's progress go to ``sink`` until it has ended."""
        self._sinks[request_id] = sink

    def remove(self, request_id: str) -> bool:
        """Forget a request; False where it was not known, because it has just ended perhaps."""
        return self._sinks.pop(request_id, None) is not None

    def requests(self) -> list[str]:
        """Return the ids of all that are inside."""
        return list(self._sinks)

    def deliver(self, progress: Seq[Progress]) -> None:
        """Hand out a step's progress; what is nobody's any more is dropped."""
        by_sink: dict[ProgressSink, list[Progress]] = defaultdict(list)
        for item in progress:
            sink = self._sinks.get(item.request_id)
            if sink is None:
                continue
            by_sink[sink].append(item)
            if item.finish_reason is not None and self.remove(item.request_id):
                self._leave(item.request_id)
        for sink, items in by_sink.items():
            try:
                sink(items)
            except Exception:
                log.exception("a progress sink failed; its requests are cancelled")
                for item in items:
                    self._cancel(item.request_id)
