"""The rules as the chart installs them: each release's look at its own processes, and at nobody else's."""

import subprocess

import yaml

from tests.helm.chart import any_helm, needs_helm, of_kind
from tests.helm.monitoring.test_alerts import ALERTS, CASES, both_ways, check_rules
from tests.support.prometheus import tool

pytestmark = needs_helm
OWN = {"namespace": "prod", "release": "out"}


def installed(folder):
    """Return a file with the rules of release ``out`` in namespace ``prod``."""
    objects = any_helm().objects({"metrics": {"rules": {"enabled": True}}}, namespace="prod")
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(of_kind(objects, "PrometheusRule")["spec"]))
    return path


def of_release(test, labels):
    """Return a test whose series are those of a release."""
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    series = [{**each, "series": each["series"].replace("{", f"{{{inside},", 1)} for each in test["input_series"]]
    return {**test, "input_series": series}


def expecting(test, labels):
    """Return a test whose alerts carry labels as well."""
    (evaluated,) = test["alert_rule_test"]
    alerts = [{**alert, "exp_labels": alert["exp_labels"] | labels} for alert in evaluated["exp_alerts"]]
    return {**test, "alert_rule_test": [{**evaluated, "exp_alerts": alerts}]}


def test_promtool_accepts_them(tmp_path):
    check = subprocess.run(
        [tool("promtool"), "check", "rules", str(installed(tmp_path))], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert f"{len(ALERTS)} rules found" in check.stdout


def test_they_fire_for_their_own_release_and_say_which_it_is(tmp_path):
    tests = [test for name in ALERTS for test in both_ways(name, CASES[name])]
    check_rules(tmp_path, installed(tmp_path), [expecting(of_release(test, OWN), OWN) for test in tests])


def test_another_release_of_the_same_model_neither_hides_nor_raises_anything(tmp_path):
    tests = []
    for name in ALERTS:
        fires, quiet = both_ways(name, CASES[name])
        own = expecting(of_release(fires, OWN), OWN)
        for other in ({**OWN, "namespace": "test"}, {**OWN, "release": "second"}):
            beside = of_release(quiet, other)["input_series"]
            tests.append({**own, "input_series": own["input_series"] + beside})
    check_rules(tmp_path, installed(tmp_path), tests)
