"""What a step's rows did, as a reader of a trace wants to know it."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from workers.contract.draft import DraftSource
from workers.contract.step import Row, StepOutput, StepPlan, verify

_SOURCES = {source: source.name.lower() for source in DraftSource}


class RowKind(StrEnum):
    """Why a row was computed."""

    PREFILL = "prefill"
    """Several tokens whose ids were known: a prompt, or a text that had to give up its KV blocks."""
    DECODE = "decode"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row and how much of its draft was right."""

    row: Row
    kind: RowKind
    draft: int
    """Draft tokens."""
    accepted: int
    """Those that equal the target's choice; what stands behind a stop token counts too."""

    def describe(self) -> dict[str, object]:
        """Return what a slice shows of the row."""
        positions = len(self.row.tokens)
        match self.kind:
            case RowKind.PREFILL:
                return {"from": self.row.start, "positions": positions}
            case RowKind.DECODE:
                return {}
            case RowKind.VERIFY:
                source = _SOURCES[self.row.draft_source]
                more = {"positions": positions} if positions - self.draft > 1 else {}
                return {"draft": self.draft, "accepted": self.accepted, "source": source, **more}


def results(plan: StepPlan, output: StepOutput | None) -> list[RowResult]:
    """Return the plan's rows with their verdicts; without an output nothing was accepted."""
    sampled = output.sampled if output is not None else [[]] * len(plan.rows)
    return [_result(row, chosen) for row, chosen in zip(plan.rows, sampled, strict=True)]


def _result(row: Row, sampled: list[int]) -> RowResult:
    """Judge a row. A draft behind several known tokens makes it a verification."""
    if draft := row.draft:
        accepted = len(verify(draft, sampled)) - 1 if sampled else 0
        return RowResult(row, RowKind.VERIFY, len(draft), accepted)
    decodes = len(row.tokens) == 1 and row.num_samples == 1
    return RowResult(row, RowKind.DECODE if decodes else RowKind.PREFILL, 0, 0)


def summary(rows: list[RowResult]) -> dict[str, object]:
    """Return what a step's slice shows: rows of each kind, positions, and drafts by whether they were right."""
    kinds = Counter(str(result.kind) for result in rows)
    return {
        "rows": len(rows),
        "positions": sum(len(result.row.tokens) for result in rows),
        **kinds,
        "draft_tokens": sum(result.draft for result in rows),
        "accepted": sum(result.accepted for result in rows),
    }


def title(rows: list[RowResult]) -> str:
    """Return the name of a step's slice, such as "prefill + verify"."""
    present = {result.kind for result in rows}
    return " + ".join(kind for kind in RowKind if kind in present)
