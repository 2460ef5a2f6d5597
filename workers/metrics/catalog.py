"""Every metric of Outrider, with its help and its unit: the one place where names are made.

All carry the label ``model``: the name under which the target is served, and for drafters their own model's.
Processes expose them on ports of their own; an ingress also reports, beside its own, the sums of the targets' counters
(those in ``cluster/metrics/load.py``) under the very same names. So a Prometheus scrapes either every process or one
ingress, and the same queries serve both.
"""

from workers.metrics.spec import CounterSpec, GaugeSpec, HistogramSpec, MetricSpec

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_STEP = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_FLIGHT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_COUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0)
_TOKENS = tuple(2.0**n for n in range(18))
_PER_SEQUENCE = tuple(float(k) for k in range(17))

# One ingress: requests as clients see them.
REQUESTS = CounterSpec("requests", "Choices that ended, by how they ended.", ("model", "finish_reason"))
REJECTIONS = CounterSpec("admission_rejections", "Requests refused at the door.", ("model", "reason"))
TTFT = HistogramSpec("ttft_seconds", "From a request's arrival to its first token.", unit="seconds", buckets=_LATENCY)
QUEUE = HistogramSpec(
    "queue_seconds", "How long a choice waited at its target for a place.", unit="seconds", buckets=_LATENCY
)
ITL = HistogramSpec("itl_seconds", "Time per token after the first.", unit="seconds", buckets=_PER_TOKEN)
E2E = HistogramSpec("e2e_seconds", "From a request's arrival to its last token.", unit="seconds", buckets=_LATENCY)
PROMPT_TOKENS_EACH = HistogramSpec("request_prompt_tokens", "Tokens of a choice's prompt.", buckets=_TOKENS)
GENERATED_TOKENS_EACH = HistogramSpec("request_generation_tokens", "Tokens of a choice.", buckets=_TOKENS)
TARGETS_CONNECTED = GaugeSpec("targets_connected", "Targets that an ingress can reach and that take requests.")
MIGRATIONS = CounterSpec("migrations", "Requests that went on at a target after theirs was lost.")
MIGRATIONS_OTHER_NUMERICS = CounterSpec("migrations_other_numerics", "Those that went on in another numerics class.")
REQUESTS_LOST = CounterSpec("requests_lost", "Requests that no target could go on with.")

# A target: what it has to do, and how its time passes.
REQUESTS_RUNNING = GaugeSpec("requests_running", "Requests that targets are working on.")
REQUESTS_WAITING = GaugeSpec("requests_waiting", "Requests that wait at targets for a place or for KV blocks.")
KV_CACHE_USAGE = GaugeSpec("kv_cache_usage_ratio", "KV blocks in use, 0 to 1; of the fullest target.", unit="ratio")
TARGET_STEPS = CounterSpec("target_steps", "Model steps of targets.")
TARGET_STEPS_FAILED = CounterSpec("target_steps_failed", "Model steps that raised an error; run again in parts.")
TARGET_STEPS_BY_WAY = CounterSpec(
    "target_steps_by_way", "Model steps, by the way in which drafters were asked.", ("model", "way")
)
TARGET_BUSY = CounterSpec("target_busy_seconds", "Time that targets spent in model steps.", unit="seconds")
TARGET_IDLE = CounterSpec("target_idle_seconds", "Time in which targets had nothing to run.", unit="seconds")
TARGET_BUBBLE = CounterSpec(
    "target_bubble_seconds", "Time in which targets held steps back for draft blocks on their way.", unit="seconds"
)
GENERATED_TOKENS = CounterSpec("generated_tokens", "Tokens emitted by targets.", unit="tokens")
PROMPT_TOKENS = CounterSpec("prompt_tokens", "Prompt tokens of requests.", unit="tokens")
PROMPT_TOKENS_CACHED = CounterSpec("prompt_tokens_cached", "Prompt tokens found in prefix caches.")
PREEMPTIONS = CounterSpec("preemptions", "Requests set back because the KV cache was full.")
GOODPUT_PLAIN = GaugeSpec("expected_goodput_plain", "Tokens per second that schedulers expect without drafters.")
GOODPUT_DRAFTED = GaugeSpec(
    "expected_goodput_drafted", "The same with drafters, which are asked where it is more by 1 %."
)

# A target: speculation.
SPEC_ROUNDS = CounterSpec("spec_rounds", "Verified drafts, one per sequence and step.")
SPEC_DRAFT_TOKENS = CounterSpec("spec_draft_tokens", "Draft tokens verified.", unit="tokens")
SPEC_ACCEPTED_TOKENS = CounterSpec("spec_accepted_tokens", "Draft tokens accepted.", unit="tokens")
SPEC_ACCEPTED_PER_POSITION = CounterSpec(
    "spec_accepted_per_position", "Draft tokens accepted, by position in the draft.", ("model", "position")
)
SPEC_DRAFT_TOKENS_BY_SOURCE = CounterSpec(
    "spec_draft_tokens_by_source", "Draft tokens verified, by guesser.", ("model", "source")
)
SPEC_ACCEPTED_TOKENS_BY_SOURCE = CounterSpec(
    "spec_accepted_tokens_by_source", "Draft tokens accepted, by guesser.", ("model", "source")
)
SPEC_DRAFT_LENGTH = HistogramSpec(
    "spec_draft_length",
    "Draft tokens (K) with which sequences were verified; 0 is plain decoding.",
    buckets=_PER_SEQUENCE,
)
SPEC_WASTED_DRAFT_TOKENS = CounterSpec(
    "spec_wasted_draft_tokens", "Tokens from drafters that came to nothing, by why.", ("model", "reason"), "tokens"
)
FALLBACK_ROUNDS = CounterSpec(
    "fallback_rounds", "Rounds of decoding sequences without a drafter's draft, by why.", ("model", "reason")
)
DRAFT_BLOCKS_ASKED = CounterSpec("draft_blocks_asked", "Draft blocks that drafters were asked for.")
DRAFT_BLOCKS_RECEIVED = CounterSpec("draft_blocks_received", "Draft blocks that came from drafters.")
DRAFT_TOKENS_RECEIVED = CounterSpec("draft_tokens_received", "Tokens in blocks that came from drafters.")
DRAFT_OUTCOMES_STALE = CounterSpec(
    "draft_outcomes_stale", "Draft outcomes that came late, were wrong, or were prepared in vain."
)
VERDICTS_PREPARED = CounterSpec("verdicts_prepared", "Verdicts that drafters were asked to prepare for.")
VERDICTS_HIT = CounterSpec("verdicts_hit", "Those that found the next draft at hand: hits of the outcome cache.")
DRAFT_ROUND_TRIP = GaugeSpec(
    "draft_round_trip_seconds",
    "What draft blocks took of late besides the drafter's own time; of the farthest target.",
    unit="seconds",
)
DRAFTERS_CONNECTED = GaugeSpec("drafters_connected", "Drafters that a target can ask; of the best connected target.")

# A target's own port only: how large and how long its steps are, and its drafters one by one.
VERIFY_STEP = HistogramSpec("verify_step_seconds", "Length of a model step.", unit="seconds", buckets=_STEP)
VERIFY_BATCH_SEQUENCES = HistogramSpec("verify_batch_sequences", "Sequences in a model step.", buckets=_COUNTS)
VERIFY_BATCH_TOKENS = HistogramSpec(
    "verify_batch_tokens", "Positions computed in a model step.", unit="tokens", buckets=_COUNTS
)
DRAFTER_UP = GaugeSpec("drafter_up", "1 while the link to a drafter on the list stands.", ("model", "drafter"))
DRAFTER_PROBATION = GaugeSpec(
    "drafter_on_probation",
    "1 from a drafter's failure until it has answered a few orders in time.",
    ("model", "drafter"),
)
DRAFTER_DEADLINE = GaugeSpec(
    "drafter_answer_deadline_seconds",
    "How long an answer may take before the drafter is doubted, by how long they have taken.",
    ("model", "drafter"),
    "seconds",
)
DRAFT_ORDERS_OVERDUE = CounterSpec("draft_orders_overdue", "Orders to drafters without an answer by their deadline.")
DRAFTER_SEQUENCES = GaugeSpec("drafter_inflight", "Sequences of this target at a drafter.", ("model", "drafter"))
DRAFTER_ACCEPTED_RATE = GaugeSpec(
    "drafter_accepted_tokens_per_second",
    "Accepted tokens per second and sequence that a drafter has brought of late.",
    ("model", "drafter"),
)
DRAFT_RTT = HistogramSpec(
    "draft_rtt_seconds",
    "From a draft order to its block, without the drafter's own time.",
    ("model", "drafter"),
    "seconds",
    _FLIGHT,
)
DRAFT_COMPUTE = HistogramSpec(
    "draft_compute_seconds",
    "The drafter's own time for a block, as it reports it.",
    ("model", "drafter"),
    "seconds",
    _FLIGHT,
)
DRAFTER_CONNECTS = CounterSpec("drafter_connects", "Links to drafters that were made.")
DRAFTER_DISCONNECTS = CounterSpec(
    "drafter_disconnects", "Links to drafters that ended or could not be made, by why.", ("model", "reason")
)
DRAFT_REFUSALS = CounterSpec("draft_refusals", "Sequences that drafters did not take, by why.", ("model", "reason"))
DRAFT_SEQUENCES_OPENED = CounterSpec("draft_sequences_opened", "Sequences given to drafters.")
DRAFT_SEQUENCES_REOPENED = CounterSpec(
    "draft_sequences_reopened", "Those given to a drafter after another, or the same, had lost them."
)
DRAFT_REPLIES_STALE = CounterSpec(
    "draft_replies_stale", "Replies about sequences that had ended or moved to another drafter."
)

# A drafter.
DRAFTER_OPEN = GaugeSpec("drafter_open_sequences", "Sequences open at a drafter, of all its targets.")
DRAFTER_QUEUED = GaugeSpec("drafter_queued_sequences", "Sequences that wait for a block.")
DRAFTER_CAPACITY = GaugeSpec("drafter_max_sequences", "Sequences that a drafter takes; more are answered Busy.")
DRAFTER_DRAFTED = CounterSpec("drafter_drafted_tokens", "Tokens in the blocks that a drafter has sent.", unit="tokens")
DRAFTER_BLOCKS = CounterSpec("drafter_blocks", "Draft blocks sent, by what for.", ("model", "kind"))
DRAFTER_BUSY = CounterSpec("drafter_busy_seconds", "Time that a drafter spent in forward steps.", unit="seconds")
DRAFTER_REFUSED = CounterSpec("drafter_refused_sequences", "Sequences answered Busy.")
DRAFTER_STEP = HistogramSpec("drafter_step_seconds", "Length of a drafter's step.", unit="seconds", buckets=_FLIGHT)

ALL: tuple[MetricSpec, ...] = tuple(value for value in list(globals().values()) if isinstance(value, MetricSpec))
"""Every metric."""
