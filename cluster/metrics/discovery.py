"""Where the processes of one application can be scraped, in the form that Prometheus's HTTP discovery reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One process with metrics of its own."""

    role: str
    """``target``, ``drafter`` or ``ingress``."""
    address: str
    """``host:port``; its path is ``/metrics``."""


def http_sd(targets: Iterable[ScrapeTarget]) -> list[dict[str, Any]]:
    """Return the answer to a request of ``http_sd_configs``; each role's processes get the label ``role``."""
    by_role: dict[str, list[str]] = {}
    for target in targets:
        by_role.setdefault(target.role, []).append(target.address)
    return [{"targets": sorted(found), "labels": {"role": role}} for role, found in sorted(by_role.items())]
