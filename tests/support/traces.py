"""Read a trace as its viewers do, and say what is wrong with one."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Track = tuple[int, int]


def load(path: Path) -> list[Event]:
    """Return the events of a trace that was closed, or of one that was cut off at any byte."""
    text = path.read_text()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        whole = text[: text.rindex("\n")].rstrip().removesuffix(",")
        return json.loads(whole + "]")


def faults(events: list[Event]) -> list[str]:
    """Return what a viewer would stumble over; events of one track may come in any order of time."""
    found = [f"lacks {key}: {e}" for e in events for key in ("ph", "pid", "tid", "ts", "args") if key not in e]
    found += [f"time: {e}" for e in events if not (type(e["ts"]) is int and e["ts"] >= 0 and e.get("dur", 0) >= 0)]
    found += [f"phase: {e}" for e in events if e["ph"] not in set("XBEibeCM")]
    named = {(e["pid"], e["tid"]) for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    found += [f"no name: {e}" for e in events if (e["pid"], e["tid"]) not in named]
    for track, own in by_track(events).items():
        found += [f"{track}: {fault}" for fault in _nesting_faults(own)]
    return found + _pairing_faults(events)


def by_track(events: list[Event]) -> dict[Track, list[Event]]:
    tracks: dict[Track, list[Event]] = defaultdict(list)
    for event in events:
        tracks[event["pid"], event["tid"]].append(event)
    return tracks


def slices(events: list[Event], category: str) -> list[Event]:
    return [e for e in events if e["ph"] == "X" and e["cat"] == category]


def _nesting_faults(events: list[Event]) -> list[str]:
    """Slices of one track lie side by side or inside one another, and B and E pair like brackets."""
    complete = [(e["ts"], e["ts"] + e["dur"], e["name"]) for e in events if e["ph"] == "X"]
    stack: list[Event] = []
    faults = []
    for event in events:  # in the order of the file: B and E of a track are written in order
        if event["ph"] == "B":
            stack.append(event)
        elif event["ph"] == "E":
            if not stack:
                faults.append(f"an end without a begin: {event}")
            else:
                start = stack.pop()
                complete.append((start["ts"], event["ts"], start["name"]))
    faults += [f"a begin without an end: {event}" for event in stack]
    faults += [f"ends before it begins: {item}" for item in complete if item[1] < item[0]]
    open_slices: list[tuple[int, int, str]] = []
    for item in sorted(complete, key=lambda item: (item[0], -item[1])):
        while open_slices and open_slices[-1][1] <= item[0]:
            open_slices.pop()
        if open_slices and item[1] > open_slices[-1][1]:
            faults.append(f"{item} runs out of {open_slices[-1]}")
        open_slices.append(item)
    return faults


def _pairing_faults(events: list[Event]) -> list[str]:
    open_ones: dict[tuple[Any, ...], Event] = {}
    seen = set()
    faults = []
    for event in events:
        if event["ph"] not in "be":
            continue
        key = (event["pid"], event["cat"], event["id"], event["name"])
        if event["ph"] == "b":
            if key in seen:
                faults.append(f"used twice: {event}")
            seen.add(key)
            open_ones[key] = event
        elif (start := open_ones.pop(key, None)) is None:
            faults.append(f"an async end without a begin: {event}")
        elif event["ts"] < start["ts"]:
            faults.append(f"ends before it begins: {event}")
    return faults + [f"an async begin without an end: {event}" for event in open_ones.values()]
