// From two readings of cumulative counters to what happens now. Knows nothing of the page.

const COUNTERS = [
  "steps", "generated_tokens", "verifications", "draft_tokens", "accepted_tokens",
  "busy_seconds", "draft_wait_seconds", "idle_seconds",
];

/** What all targets did since their start: counters summed, and the steps by way. */
export function sinceStart(targets) {
  return summed(targets.map((target) => target.since_start));
}

/** What they did between two readings; null where nothing lies between. Seconds of all targets are added up. */
export function between(earlier, later) {
  const known = new Map(earlier.map((target) => [target.id, target]));
  const parts = [];
  for (const target of later) {
    const before = known.get(target.id);
    const seconds = before ? target.load_at - before.load_at : 0;
    if (seconds > 0) parts.push({ ...difference(target.since_start, before.since_start), ...time(target, before, seconds) });
  }
  return parts.length ? { ...summed(parts), targets: parts.length } : null;
}

/** What people compare; tokens per second only of what lies between two readings. */
export function figures(sum) {
  return {
    tokensPerSecond: (sum.generated_tokens * sum.targets) / sum.seconds,
    tokensPerVerification: sum.generated_tokens / sum.verifications,
    acceptance: sum.accepted_tokens / sum.draft_tokens,
  };
}

/** The way of most steps, and its share of them; null where there was no step. */
export function mainWay(sum) {
  const entries = Object.entries(sum.steps_by_way).sort((a, b) => b[1] - a[1]);
  const total = entries.reduce((all, [, count]) => all + count, 0);
  return total > 0 ? { way: entries[0][0], share: entries[0][1] / total } : null;
}

function difference(after, before) {
  const made = Object.fromEntries(COUNTERS.map((name) => [name, Math.max(0, after[name] - before[name])]));
  const ways = Object.entries(after.steps_by_way);
  made.steps_by_way = Object.fromEntries(ways.map(([way, n]) => [way, Math.max(0, n - (before.steps_by_way[way] ?? 0))]));
  return made;
}

/** Shares of a target's time. Idle time is counted when it ends, so what is left of a resting target's is idle. */
function time(after, before, seconds) {
  const gained = difference(after.since_start, before.since_start);
  const busy = Math.min(seconds, gained.busy_seconds);
  const held = Math.min(seconds - busy, gained.draft_wait_seconds);
  const left = seconds - busy - held;
  const idle = after.running + after.waiting === 0 ? left : Math.min(left, gained.idle_seconds);
  return { seconds, busy, held, idle, other: left - idle };
}

function summed(parts) {
  const total = { steps_by_way: {} };
  for (const part of parts) {
    for (const [name, value] of Object.entries(part)) {
      if (typeof value === "number") total[name] = (total[name] ?? 0) + value;
    }
    for (const [way, count] of Object.entries(part.steps_by_way)) {
      total.steps_by_way[way] = (total.steps_by_way[way] ?? 0) + count;
    }
  }
  return total;
}
