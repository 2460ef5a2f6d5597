"""The alert rules under promtool: each fires on what it is meant for, stays silent otherwise, and says what to do."""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART
from tests.support.prometheus import tool
from workers.metrics import catalog

RULES = CHART / "rules" / "outrider.rules.yaml"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
STEPS = 120
"""Samples of every series, one a minute."""


@dataclass(frozen=True)
class Case:
    """Series by which an alert fires after an hour, and series by which it does not."""

    fires: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str] = field(default_factory=lambda: {"model": "m"})


def steady(per_minute: float) -> str:
    return f"0+{per_minute}x{STEPS}"


def always(value: float) -> str:
    return f"{value}x{STEPS}"


def m(name: str, **labels: str) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in {"model": "m", **labels}.items())
    return f"{name}{{{inside}}}"


WAITING, KV, CONNECTED = "outrider_requests_waiting", "outrider_kv_cache_usage_ratio", "outrider_drafters_connected"
ACCEPTED, DRAFTED = (f"outrider_spec_{kind}_tokens_by_source_total" for kind in ("accepted", "draft"))
BUBBLE, BUSY = "outrider_target_bubble_seconds_total", "outrider_target_busy_seconds_total"
REQUESTS, REJECTIONS = "outrider_requests_total", "outrider_admission_rejections_total"
TARGETS, MIGRATIONS = "outrider_targets_connected", "outrider_migrations_total"
FAST, SLOW = m("outrider_ttft_seconds_bucket", le="1"), m("outrider_ttft_seconds_bucket", le="30")

CASES = {
    "OutriderNoTarget": Case(
        {m("outrider_targets_connected", instance="a"): always(0)},
        {
            m("outrider_targets_connected", instance="a"): always(0),
            m("outrider_targets_connected", instance="b"): "1x120",
        },
    ),
    "OutriderUnseen": Case(
        {m("outrider_targets_connected", instance="a"): "1x20 stale"},
        {m("outrider_targets_connected", instance="a"): always(0)},
        {},
    ),
    "OutriderProcessDown": Case(
        {'up{role="drafter",instance="a"}': "1x30 0x90"},
        {
            'up{role="drafter",instance="a"}': always(1),
            'up{instance="b"}': always(0),
            'up{role="target",instance="c"}': always(0),  # still loads its model
            'up{role="drafter",instance="d"}': "1x53 0x60",  # its replica is gone, its pod goes when it has been idle
        },
        {"role": "drafter", "instance": "a"},
    ),
    "OutriderRequestsLost": Case(
        {m("outrider_requests_lost_total"): "0x55 1x60"}, {m("outrider_requests_lost_total"): "0x20 1x100"}
    ),
    "OutriderStepsFail": Case(
        {m("outrider_target_steps_failed_total", instance="a"): steady(1)},
        {m("outrider_target_steps_failed_total", instance="a"): always(3)},
        {"model": "m", "instance": "a"},
    ),
    "OutriderMigrationStorm": Case(
        {
            m("outrider_migrations_total", instance="a"): steady(2),
            m("outrider_migrations_total", instance="b"): steady(2),
        },
        {m("outrider_migrations_total", instance="a"): steady(1)},
    ),
    "OutriderNumericsMixed": Case(
        {m("outrider_migrations_other_numerics_total"): steady(1)},
        {m("outrider_migrations_other_numerics_total"): always(7)},
    ),
    "OutriderRejecting": Case(
        {m(REQUESTS, finish_reason="stop"): steady(90), m(REJECTIONS, reason="overloaded"): steady(10)},
        {m(REQUESTS, finish_reason="stop"): steady(90), m(REJECTIONS, reason="invalid"): steady(10)},
    ),
    "OutriderQueueStays": Case(
        {m(WAITING, instance="a"): always(6), m(WAITING, instance="b"): always(6)},
        {m(WAITING, instance="a"): "0x57 50x60"},
    ),
    "OutriderSlowFirstToken": Case(
        {FAST: steady(50), SLOW: steady(100), m("outrider_ttft_seconds_bucket", le="+Inf"): steady(100)},
        {FAST: steady(99), SLOW: steady(100), m("outrider_ttft_seconds_bucket", le="+Inf"): steady(100)},
    ),
    "OutriderKVCacheNearlyFull": Case(
        {m(KV, instance="a"): always(0.97)},
        {m(KV, instance="a"): "0.97x54 0.5 0.97x60"},
        {"model": "m", "instance": "a"},
    ),
    "OutriderNoDrafters": Case(
        {m(CONNECTED, instance="a"): "2x30 0x90"},
        {m(CONNECTED, instance="a"): always(0)},  # none were ever wanted
    ),
    "OutriderDrafterLinksFail": Case(
        {m("outrider_drafter_disconnects_total", reason="lost"): steady(5)},
        {m("outrider_drafter_disconnects_total", reason="removed"): steady(50)},
        {"model": "m", "reason": "lost"},
    ),
    "OutriderDrafterMisbehaves": Case(
        {m("outrider_drafter_disconnects_total", reason="lying"): "0x55 1x60"},
        {m("outrider_drafter_disconnects_total", reason="lost"): steady(1)},
        {"model": "m", "reason": "lying"},
    ),
    "OutriderLowAcceptance": Case(
        {m(ACCEPTED, source="drafter"): steady(100), m(DRAFTED, source="drafter"): steady(1000)},
        {
            m(ACCEPTED, source="drafter"): steady(500),
            m(DRAFTED, source="drafter"): steady(1000),
            m(ACCEPTED, source="lookup"): steady(1),
            m(DRAFTED, source="lookup"): steady(1000),
        },
    ),
    "OutriderTargetBubbleHigh": Case(
        {m(BUBBLE): steady(25), m(BUSY): steady(30)}, {m(BUBBLE): steady(10), m(BUSY): steady(30)}
    ),
}


def test_every_alert_has_a_case_and_the_other_way_round():
    assert CASES.keys() == ALERTS.keys()


@pytest.mark.parametrize("rule", ALERTS.values(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule):
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len(rule["annotations"]["summary"]) < 120
    assert rule["annotations"]["runbook"].endswith(".")
    assert "for" in rule or re.search(r"\[\d+[mh]", rule["expr"]), "one bad scrape is no alert"


def test_alerts_ask_for_metrics_that_exist():
    known = {spec.full_name for spec in catalog.ALL}
    for rule in ALERTS.values():
        for name in re.findall(r"outrider_[a-z0-9_]+", rule["expr"]):
            assert name in known or re.sub(r"_(total|bucket|count|sum)$", "", name) in known, name


def test_promtool_accepts_the_rules():
    check = subprocess.run([tool("promtool"), "check", "rules", str(RULES)], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    assert f"{len(ALERTS)} rules found" in check.stdout


def test_every_alert_fires_and_stays_silent_when_it_should(tmp_path):
    check_rules(tmp_path, RULES, [test for name in ALERTS for test in both_ways(name, CASES[name])])


def check_rules(folder: Path, rules: Path, tests: list[dict]) -> None:
    """Have promtool run tests of rules."""
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}
    (folder / "alerts.test.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    run = subprocess.run(
        [tool("promtool"), "test", "rules", "alerts.test.yaml"], cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def both_ways(name: str, case: Case) -> list[dict]:
    rule = ALERTS[name]
    labels = case.labels | rule["labels"]
    fired = {"exp_labels": labels, "exp_annotations": {k: filled(v, labels) for k, v in rule["annotations"].items()}}
    return [one(name, case.fires, [fired]), one(name, case.quiet, [])]


def one(name: str, series: dict[str, str], expected: list[dict]) -> dict:
    return {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [{"eval_time": "60m", "alertname": name, "exp_alerts": expected}],
    }


def filled(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], template)
