"""What the drafts of a whole test run came to, as a table."""

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from tests.truth.deployment import Counts, Speculation


@dataclass
class Ledger:
    """Counts by drafter, protocol and number of requests at once."""

    rows: list[tuple[Speculation, str, int, Counts]] = field(default_factory=list)

    def add(self, speculation: Speculation, protocol: str, concurrency: int, counts: Counts) -> None:
        self.rows.append((speculation, protocol, concurrency, counts))

    def accepted(self) -> int:
        """Accepted draft tokens in all."""
        return sum(counts.accepted for *_, counts in self.rows)

    def rejected(self) -> int:
        """Drafts that were cut short in all, counted low."""
        return sum(counts.rejected_drafts(who.draft_length) for who, *_, counts in self.rows)

    def show(self) -> None:
        columns = ("drafter", "protocol", "at once", "drafts", "draft tokens", "accepted", "cut short, at least")
        table = Table(*columns, title="Same text with every drafter")
        for who, protocol, concurrency, counts in self.rows:
            figures = (concurrency, counts.drafts, counts.draft_tokens, counts.accepted)
            cut_short = counts.rejected_drafts(who.draft_length)
            table.add_row(who.name, protocol, *map(str, figures), str(cut_short))
        Console(width=120).print(table)
