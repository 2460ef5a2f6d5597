"""Each process by itself: drafters one by one, what targets do, what each process takes."""

from helm.dashboards.layout import Board, Panel, Query, Row
from helm.dashboards.promql import OF_RELEASE, WINDOW, gauge, quantile, rate, ratio
from workers.metrics import catalog as c

ALL = OF_RELEASE
OURS = f'role=~"target|drafter|ingress",{OF_RELEASE}'


def _process(expr: str) -> tuple[Query, ...]:
    return (Query(expr, "{{role}} {{instance}}"),)


FLEET = Board(
    "fleet",
    "Fleet",
    "Each process by itself: drafters one by one, what targets do, what each process takes.",
    (
        Row(
            "Drafters, as targets see them",
            (
                Panel(
                    "Links that stand",
                    "Targets that a drafter is connected to.",
                    "short",
                    (Query(gauge(c.DRAFTER_UP, "sum", "drafter"), "{{drafter}}"),),
                ),
                Panel(
                    "Sequences",
                    "Of all targets at each drafter: where drafters are equal, so are these.",
                    "short",
                    (Query(gauge(c.DRAFTER_SEQUENCES, "sum", "drafter"), "{{drafter}}"),),
                ),
                Panel(
                    "What a drafter brings",
                    "Accepted tokens per second and sequence, of late. New sequences go where it is high.",
                    "short",
                    (Query(gauge(c.DRAFTER_ACCEPTED_RATE, "avg", "drafter"), "{{drafter}}"),),
                ),
            ),
        ),
        Row(
            "Drafters, as they see themselves",
            (
                Panel(
                    "Busy",
                    "Share of the time in forward steps. Running ahead fills what is left, so a high share is "
                    "no reason to worry by itself.",
                    "percentunit",
                    (Query(rate(c.DRAFTER_BUSY, "instance", ALL), "{{instance}}"),),
                ),
                Panel(
                    "Waiting for a block",
                    "Sequences at a time; what the autoscaling of drafters goes by.",
                    "short",
                    (Query(gauge(c.DRAFTER_QUEUED, "sum", "instance", ALL), "{{instance}}"),),
                ),
                Panel(
                    "Places taken",
                    "Open sequences of those that a drafter takes; beyond, it answers Busy.",
                    "percentunit",
                    (
                        Query(
                            ratio(
                                gauge(c.DRAFTER_OPEN, "sum", "instance", ALL),
                                gauge(c.DRAFTER_CAPACITY, "sum", "instance", ALL),
                            ),
                            "{{instance}}",
                        ),
                    ),
                ),
                Panel(
                    "Step length",
                    "Of a drafter's step (p95).",
                    "s",
                    (Query(quantile(0.95, c.DRAFTER_STEP, "instance", ALL), "{{instance}}"),),
                ),
            ),
        ),
        Row(
            "What drafters send",
            (
                Panel(
                    "Tokens",
                    "In blocks, of each drafter.",
                    "short",
                    (Query(rate(c.DRAFTER_DRAFTED, "instance", ALL), "{{instance}}"),),
                ),
                Panel(
                    "Blocks",
                    "asked: answers to orders. prepared: for verdicts that might come.",
                    "cps",
                    (Query(rate(c.DRAFTER_BLOCKS, "kind", ALL), "{{kind}}"),),
                    stacked=True,
                ),
                Panel(
                    "Refused",
                    "busy, unknown: what targets were answered; Busy, counted by drafters.",
                    "cps",
                    (
                        Query(rate(c.DRAFT_REFUSALS, "reason"), "{{reason}}"),
                        Query(rate(c.DRAFTER_REFUSED, "", ALL), "Busy, by drafters"),
                    ),
                ),
            ),
        ),
        Row(
            "Coming and going",
            (
                Panel(
                    "Links lost",
                    "removed: a drafter left in an orderly way. All others are faults of drafters or of "
                    "the network, which requests do not notice.",
                    "cps",
                    (Query(rate(c.DRAFTER_DISCONNECTS, "reason"), "{{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Doubted",
                    "overdue: orders without an answer by the deadline, which follows what the drafter usually takes. "
                    "on probation: drafters that have failed and are let in again bit by bit.",
                    "short",
                    (
                        Query(rate(c.DRAFT_ORDERS_OVERDUE), "overdue, per second"),
                        Query(gauge(c.DRAFTER_PROBATION, "sum"), "on probation"),
                    ),
                ),
                Panel(
                    "Deadline",
                    "How long an answer of each drafter may take before it is doubted.",
                    "s",
                    (Query(gauge(c.DRAFTER_DEADLINE, "max", "drafter"), "{{drafter}}"),),
                ),
                Panel("Links made", "To drafters, by all targets.", "cps", (Query(rate(c.DRAFTER_CONNECTS), "links"),)),
                Panel(
                    "Sequences given to drafters",
                    "moved: after another drafter, or the same, had lost them.",
                    "cps",
                    (
                        Query(rate(c.DRAFT_SEQUENCES_OPENED), "opened"),
                        Query(rate(c.DRAFT_SEQUENCES_REOPENED), "of them moved"),
                        Query(rate(c.DRAFT_REPLIES_STALE), "replies that came too late"),
                    ),
                ),
            ),
        ),
        Row(
            "Targets and processes",
            (
                Panel(
                    "Tokens by target",
                    "They differ by load and by who knows which prompts.",
                    "short",
                    (Query(rate(c.GENERATED_TOKENS, "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Steps by target",
                    "Model steps; 0 where there is nothing to do, or the target hangs.",
                    "cps",
                    (Query(rate(c.TARGET_STEPS, "instance"), "{{instance}}"),),
                ),
                Panel(
                    "CPU",
                    "Cores that each process keeps busy.",
                    "short",
                    _process(f"sum by (role, instance) (rate(process_cpu_seconds_total{{{OURS}}}[{WINDOW}]))"),
                ),
                Panel(
                    "Memory",
                    "Resident, of each process.",
                    "bytes",
                    _process(f"sum by (role, instance) (process_resident_memory_bytes{{{OURS}}})"),
                ),
            ),
        ),
    ),
)
