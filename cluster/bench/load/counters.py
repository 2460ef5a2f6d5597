"""What an endpoint's own counters say of drafts: Outrider's ``/metrics``, before and after a run."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_COUNTERS = {
    "outrider_generated_tokens_total": "generated",
    "outrider_spec_rounds_total": "drafts",
    "outrider_spec_draft_tokens_total": "drafted",
    "outrider_spec_accepted_tokens_total": "accepted",
}


@dataclass(frozen=True, slots=True)
class Counters:
    """Cumulative counters, or what they have gained."""

    generated: int = 0
    """Tokens emitted by the targets."""
    drafts: int = 0
    """Verified drafts, one per sequence and step."""
    drafted: int = 0
    """Draft tokens verified."""
    accepted: int = 0
    """Draft tokens accepted."""

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            self.generated + other.generated,
            self.drafts + other.drafts,
            self.drafted + other.drafted,
            self.accepted + other.accepted,
        )

    def since(self, earlier: "Counters") -> "Counters":
        """Return what was gained; a counter that fell was restarted, and gained at least what it has."""

        def gain(now: int, before: int) -> int:
            return now - before if now >= before else now

        return Counters(
            gain(self.generated, earlier.generated),
            gain(self.drafts, earlier.drafts),
            gain(self.drafted, earlier.drafted),
            gain(self.accepted, earlier.accepted),
        )


def parse_counters(text: str) -> Counters | None:
    """Return the counters in Prometheus's text format, summed over labels; None where it has none of ours."""
    found: dict[str, int] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if (field := _COUNTERS.get(sample.name)) is not None:
                    found[field] = found.get(field, 0) + int(sample.value)
    except ValueError:
        return None
    return Counters(**found) if found else None
