"""Events of the JSON trace format that ui.perfetto.dev and chrome://tracing read.

Times are whole microseconds: slices that touch in seconds still touch, and never overlap by a rounding.
"""

from typing import Any

TraceEvent = dict[str, Any]
"""One JSON object; ``ph`` says what it is."""


def span(name: str, category: str, track: tuple[int, int], start: int, end: int, **args: object) -> TraceEvent:
    """Return a slice that is complete: ``track`` is its (pid, tid)."""
    return _event("X", name, track, start, cat=category, dur=end - start, args=args)


def begin(name: str, category: str, track: tuple[int, int], at: int, **args: object) -> TraceEvent:
    """Return the begin of a slice; what comes on the track before its `end` lies inside it."""
    return _event("B", name, track, at, cat=category, args=args)


def end(track: tuple[int, int], at: int, **args: object) -> TraceEvent:
    """Return the end of the slice that was begun last on a track."""
    return {"ph": "E", "pid": track[0], "tid": track[1], "ts": at, "args": args}


def instant(name: str, track: tuple[int, int], at: int, **args: object) -> TraceEvent:
    """Return a mark at one moment of a track."""
    return _event("i", name, track, at, s="t", args=args)


def counter(name: str, track: tuple[int, int], at: int, value: float) -> TraceEvent:
    """Return the value that a counter has from now on."""
    return _event("C", name, track, at, args={"value": value})


def async_begin(name: str, category: str, track: tuple[int, int], at: int, number: int, **args: object) -> TraceEvent:
    """Return the begin of something that may overlap with its like; ``number`` tells it from them."""
    return _event("b", name, track, at, cat=category, id=hex(number), args=args)


def async_end(name: str, category: str, track: tuple[int, int], at: int, number: int, **args: object) -> TraceEvent:
    """Return the end of what `async_begin` began with the same name, category and number."""
    return _event("e", name, track, at, cat=category, id=hex(number), args=args)


def names(track: tuple[int, int], process: str, thread: str) -> list[TraceEvent]:
    """Return the events that give a track its title, and the process that it is listed under."""
    pid, tid = track
    return [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": tid, "ts": 0, "args": {"name": process}},
        {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": tid, "ts": 0, "args": {"sort_index": pid}},
        {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "ts": 0, "args": {"name": thread}},
    ]


def _event(phase: str, name: str, track: tuple[int, int], at: int, **fields: object) -> TraceEvent:
    return {"ph": phase, "name": name, "pid": track[0], "tid": track[1], "ts": at, **fields}
