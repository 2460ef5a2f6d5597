"""The benchmark of metrics measures what it says: real counting, on a step that verifies everybody's draft."""

from cluster.bench.metrics_cost import capture, cpu_us, parts
from cluster.scheduler.settings import SchedulerSettings


def test_every_part_counts_something_and_takes_some_time():
    settings = SchedulerSettings(max_running=4, max_tokens_per_step=4096)
    step = capture(4, settings)
    assert len(step.plan.rows) == 4 and all(row.draft for row in step.plan.rows)
    before = step.planner.load()
    costs = {name: cpu_us(work, 3) for name, work in parts(step, settings).items()}
    after = step.planner.load()
    assert all(cost > 0 for cost in costs.values())
    assert after.steps == before.steps + 4, "once to warm up, three times for the clock"
    assert after.num_drafts == before.num_drafts + 4 * 4
    assert after.draft_blocks_received == before.draft_blocks_received + 4 * 4
    assert sum(after.fallback_rounds) == sum(before.fallback_rounds) + 4 * 4
