"""How good drafts are, how long they are, and what becomes of them."""

from helm.dashboards.layout import Board, Panel, Query, Row
from helm.dashboards.promql import gauge, mean, quantile, rate, ratio
from workers.metrics import catalog as c

PER_POSITION = f"{rate(c.SPEC_ACCEPTED_PER_POSITION, 'position')} / on() group_left() ({rate(c.SPEC_ROUNDS)} > 0)"
BY_SOURCE = ratio(rate(c.SPEC_ACCEPTED_TOKENS_BY_SOURCE, "source"), rate(c.SPEC_DRAFT_TOKENS_BY_SOURCE, "source"))

SPECULATION = Board(
    "speculation",
    "Speculation",
    "How good drafts are, how long they are, and what becomes of them.",
    (
        Row(
            "How good drafts are",
            (
                Panel(
                    "Acceptance rate",
                    "Accepted draft tokens of those verified, by who guessed: drafters, or the "
                    "target's look-up in the text itself.",
                    "percentunit",
                    (
                        Query(ratio(rate(c.SPEC_ACCEPTED_TOKENS), rate(c.SPEC_DRAFT_TOKENS)), "all"),
                        Query(BY_SOURCE, "{{source}}"),
                    ),
                ),
                Panel(
                    "Tokens per verification",
                    "Bonus token included: 1 is plain decoding.",
                    "short",
                    (Query(f"1 + {ratio(rate(c.SPEC_ACCEPTED_TOKENS), rate(c.SPEC_ROUNDS))}", "tokens"),),
                ),
                Panel(
                    "Accepted by position",
                    "Of all verified drafts, how many were right up to this position.",
                    "percentunit",
                    (Query(PER_POSITION, "{{position}}"),),
                ),
            ),
        ),
        Row(
            "How long they are",
            (
                Panel(
                    "Draft length (K)",
                    "Mean over all rounds, plain ones (K = 0) included, and that of the longest twentieth.",
                    "short",
                    (
                        Query(mean(c.SPEC_DRAFT_LENGTH), "mean"),
                        Query(quantile(0.95, c.SPEC_DRAFT_LENGTH), "p95"),
                    ),
                ),
                Panel(
                    "Draft tokens",
                    "Received from drafters, verified, accepted.",
                    "short",
                    (
                        Query(rate(c.DRAFT_TOKENS_RECEIVED), "received"),
                        Query(rate(c.SPEC_DRAFT_TOKENS), "verified"),
                        Query(rate(c.SPEC_ACCEPTED_TOKENS), "accepted"),
                    ),
                ),
                Panel(
                    "Output that drafts brought",
                    "Share of all emitted tokens.",
                    "percentunit",
                    (Query(ratio(rate(c.SPEC_ACCEPTED_TOKENS), rate(c.GENERATED_TOKENS)), "share"),),
                ),
            ),
        ),
        Row(
            "What becomes of them",
            (
                Panel(
                    "Wasted draft tokens",
                    "rejected: verified and wrong. mispredicted: the text took another turn "
                    "first, as most of what is prepared ahead does. late: past before they came. surplus: others "
                    "took their place. ended: their request was over.",
                    "short",
                    (Query(rate(c.SPEC_WASTED_DRAFT_TOKENS, "reason"), "{{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Rounds without a drafter's draft",
                    "no_drafter: none connected. not_asked: it does not pay. late: "
                    "on its way. unfit: what came does not fit. not_worth_verifying: its place costs more.",
                    "cps",
                    (Query(rate(c.FALLBACK_ROUNDS, "reason"), "{{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "What the scheduler expects",
                    "Tokens per second of the running sequences without and with "
                    "drafters; they are asked where the latter is more.",
                    "short",
                    (Query(gauge(c.GOODPUT_PLAIN), "plain"), Query(gauge(c.GOODPUT_DRAFTED), "with drafters")),
                ),
            ),
        ),
    ),
)
