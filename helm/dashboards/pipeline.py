"""How drafting and verification mesh: where targets' time goes, and how quickly drafts come."""

from helm.dashboards.layout import Board, Panel, Query, Row
from helm.dashboards.promql import gauge, mean, quantile, rate, ratio
from workers.metrics import catalog as c

BY_DRAFTER = "drafter"

PIPELINE = Board(
    "pipeline",
    "Pipeline",
    "How drafting and verification mesh: where targets' time goes, and how quickly drafts come.",
    (
        Row(
            "Where targets' time goes",
            (
                Panel(
                    "Time of all targets",
                    "Seconds per second, over all targets. bubble: steps held back for drafts; "
                    "what is missing to the number of targets is scheduling.",
                    "short",
                    (
                        Query(rate(c.TARGET_BUSY), "in steps"),
                        Query(rate(c.TARGET_BUBBLE), "bubble"),
                        Query(rate(c.TARGET_IDLE), "idle"),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Step length",
                    "Of a model step.",
                    "s",
                    tuple(Query(quantile(q, c.VERIFY_STEP), f"p{q * 100:.0f}") for q in (0.5, 0.95)),
                ),
                Panel(
                    "What a step holds",
                    "Means: sequences, and positions (prompt chunks and drafts included).",
                    "short",
                    (
                        Query(mean(c.VERIFY_BATCH_SEQUENCES), "sequences"),
                        Query(mean(c.VERIFY_BATCH_TOKENS), "positions"),
                    ),
                ),
            ),
        ),
        Row(
            "How drafters are asked",
            (
                Panel(
                    "Steps by way",
                    "plain: nobody is asked. The others: see cluster/ARCHITECTURE.md, The scheduler.",
                    "cps",
                    (Query(rate(c.TARGET_STEPS_BY_WAY, "way"), "{{way}}"),),
                    stacked=True,
                ),
                Panel(
                    "Hits of the outcome cache",
                    "Verdicts that drafters had prepared for, of those that they were asked to.",
                    "percentunit",
                    (Query(ratio(rate(c.VERDICTS_HIT), rate(c.VERDICTS_PREPARED)), "hits"),),
                ),
                Panel(
                    "Draft blocks",
                    "Asked for and received; prepared ones come unasked.",
                    "cps",
                    (Query(rate(c.DRAFT_BLOCKS_ASKED), "asked"), Query(rate(c.DRAFT_BLOCKS_RECEIVED), "received")),
                ),
                Panel(
                    "Outcomes dropped",
                    "That came late, were wrong, or were prepared in vain.",
                    "cps",
                    (Query(rate(c.DRAFT_OUTCOMES_STALE), "outcomes"),),
                ),
            ),
        ),
        Row(
            "How quickly drafts come",
            (
                Panel(
                    "On the way",
                    "From an order to its block, without the drafter's own time, by drafter (p50, p95).",
                    "s",
                    (
                        Query(quantile(0.5, c.DRAFT_RTT, BY_DRAFTER), "{{drafter}} p50"),
                        Query(quantile(0.95, c.DRAFT_RTT, BY_DRAFTER), "{{drafter}} p95"),
                    ),
                ),
                Panel(
                    "At the drafter",
                    "The drafter's own time for a block (p50, p95). It grows with its sequences.",
                    "s",
                    (
                        Query(quantile(0.5, c.DRAFT_COMPUTE, BY_DRAFTER), "{{drafter}} p50"),
                        Query(quantile(0.95, c.DRAFT_COMPUTE, BY_DRAFTER), "{{drafter}} p95"),
                    ),
                ),
                Panel(
                    "Round trip that schedulers see",
                    "Of late, of the farthest target; without the drafter's own time.",
                    "s",
                    (Query(gauge(c.DRAFT_ROUND_TRIP, "max"), "round trip"),),
                ),
            ),
        ),
    ),
)
