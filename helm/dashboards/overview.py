"""The first look: what users get, how busy the cluster is, and what goes wrong."""

from helm.dashboards.layout import Board, Panel, Query, Row
from helm.dashboards.promql import gauge, mean, quantile, rate, ratio
from workers.metrics import catalog as c
from workers.metrics.spec import HistogramSpec

LATENCIES = (0.5, 0.95, 0.99)


def _quantiles(spec: HistogramSpec) -> tuple[Query, ...]:
    return tuple(Query(quantile(share, spec), f"p{share * 100:.0f}") for share in LATENCIES)


OVERVIEW = Board(
    "overview",
    "Overview",
    "What users get, how busy the cluster is, and what goes wrong.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Tokens per second",
                    "Emitted by all targets.",
                    "short",
                    (Query(rate(c.GENERATED_TOKENS), "tokens/s"),),
                    single=True,
                ),
                Panel(
                    "Requests per second",
                    "That ended, in whatever way.",
                    "reqps",
                    (Query(rate(c.REQUESTS), "requests/s"),),
                    single=True,
                ),
                Panel(
                    "First token, p95",
                    "From a request's arrival to its first token.",
                    "s",
                    (Query(quantile(0.95, c.TTFT), "p95"),),
                    single=True,
                ),
                Panel(
                    "Waiting",
                    "Requests that wait for a place at a target.",
                    "short",
                    (Query(gauge(c.REQUESTS_WAITING), "waiting"),),
                    single=True,
                ),
                Panel(
                    "Targets",
                    "That the worst connected front process reaches.",
                    "short",
                    (Query(gauge(c.TARGETS_CONNECTED, "min"), "targets"),),
                    single=True,
                ),
                Panel(
                    "Drafters",
                    "That the best connected target can ask.",
                    "short",
                    (Query(gauge(c.DRAFTERS_CONNECTED, "max"), "drafters"),),
                    single=True,
                ),
            ),
        ),
        Row(
            "What users get",
            (
                Panel(
                    "Time to first token",
                    "Queueing and the prompt. Where it grows with `Waiting`, targets are too few.",
                    "s",
                    _quantiles(c.TTFT),
                ),
                Panel(
                    "Time in the queue",
                    "Of that, how long a choice waited at its target for a place; the mean.",
                    "s",
                    (Query(mean(c.QUEUE), "mean"),),
                ),
                Panel(
                    "Time per token",
                    "After the first. Tokens that come together share the time since those before.",
                    "s",
                    _quantiles(c.ITL),
                ),
                Panel("Time of a whole answer", "From a request's arrival to its last token.", "s", _quantiles(c.E2E)),
                Panel("Length of prompts", "Tokens of a choice's prompt.", "none", _quantiles(c.PROMPT_TOKENS_EACH)),
                Panel("Length of answers", "Tokens of a choice.", "none", _quantiles(c.GENERATED_TOKENS_EACH)),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Requests by how they ended",
                    "`error` is what users call an outage; `cancelled` is clients leaving.",
                    "reqps",
                    (Query(rate(c.REQUESTS, "finish_reason"), "{{finish_reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Refused at the door",
                    "`overloaded`: queues were full (429). Others are mistakes in requests.",
                    "reqps",
                    (Query(rate(c.REJECTIONS, "reason"), "{{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Tokens",
                    "Emitted, and read as prompts; the cached ones cost nothing.",
                    "short",
                    (
                        Query(rate(c.GENERATED_TOKENS), "emitted"),
                        Query(rate(c.PROMPT_TOKENS), "prompt"),
                        Query(rate(c.PROMPT_TOKENS_CACHED), "prompt, cached"),
                    ),
                ),
            ),
        ),
        Row(
            "Capacity",
            (
                Panel(
                    "Requests at targets",
                    "Those that run share each step; those that wait have no place yet.",
                    "short",
                    (Query(gauge(c.REQUESTS_RUNNING), "running"), Query(gauge(c.REQUESTS_WAITING), "waiting")),
                ),
                Panel(
                    "KV cache in use",
                    "Of each target. Near 100 % requests are set back and computed again.",
                    "percentunit",
                    (Query(gauge(c.KV_CACHE_USAGE, "max", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Requests set back",
                    "Preemptions, because KV blocks ran out. Their text stays the same.",
                    "cps",
                    (Query(rate(c.PREEMPTIONS), "preemptions"),),
                ),
                Panel(
                    "Requests that lost their target",
                    "They went on at another; users saw a pause, at most.",
                    "cps",
                    (Query(rate(c.MIGRATIONS), "went on elsewhere"),),
                ),
            ),
        ),
        Row(
            "What speculation is worth",
            (
                Panel(
                    "Tokens per verification",
                    "Bonus token included: 1 is plain decoding.",
                    "short",
                    (Query(f"1 + {ratio(rate(c.SPEC_ACCEPTED_TOKENS), rate(c.SPEC_ROUNDS))}", "tokens"),),
                ),
                Panel(
                    "Output that drafts brought",
                    "Share of all emitted tokens.",
                    "percentunit",
                    (Query(ratio(rate(c.SPEC_ACCEPTED_TOKENS), rate(c.GENERATED_TOKENS)), "share"),),
                ),
                Panel(
                    "Rounds without a drafter's draft",
                    "By why; see the dashboard on speculation.",
                    "cps",
                    (Query(rate(c.FALLBACK_ROUNDS, "reason"), "{{reason}}"),),
                    stacked=True,
                ),
            ),
        ),
    ),
)
