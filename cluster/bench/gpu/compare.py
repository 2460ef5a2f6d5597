"""Has a step become slower? ``python -m cluster.bench.gpu.compare BEFORE AFTER`` compares two reports by their ratios.

A ratio is measured time over the floor that the same run found, so that reports of different devices, or of one
device at another clock, can be compared; times cannot. Exits with 1 where a ratio has grown by more than the
tolerance, or where a step that was timed before is missing.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Key = tuple[str, str, str]
"""Model, variant, step."""


def ratios_of(report: Mapping[str, Any]) -> dict[Key, float]:
    """Return the ratios of a report.

    Raises:
        ValueError: it is none of ``python -m cluster.bench.gpu``.
    """
    try:
        return {(row["model"], row["variant"], row["case"]): float(row["ratio"]) for row in report["timings"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a report of cluster.bench.gpu: {error!r} is missing") from error


def regressions(before: Mapping[Key, float], after: Mapping[Key, float], tolerance: float) -> list[str]:
    """Return a sentence for each step that has become slower, or is gone."""
    found = []
    for key, old in before.items():
        name = " ".join(key)
        new = after.get(key)
        if new is None:
            found.append(f"{name}: not timed any more")
        elif new > old * (1 + tolerance):
            found.append(f"{name}: {old:.2f} times its floor before, {new:.2f} now")
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Compare two files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.05, help="by how much a ratio may grow, as a share")
    arguments = parser.parse_args(words)
    try:
        before, after = (ratios_of(json.loads(path.read_text())) for path in (arguments.before, arguments.after))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    found = regressions(before, after, arguments.tolerance)
    print("\n".join(found) or f"no ratio of {len(before)} has grown by more than {arguments.tolerance:.0%}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
