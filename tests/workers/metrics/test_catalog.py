"""The catalogue itself: names that Prometheus's conventions allow, and that each exist once and are used."""

import re
from collections import Counter
from pathlib import Path

import pytest

from workers.metrics import catalog
from workers.metrics.spec import CounterSpec, GaugeSpec, HistogramSpec

ROOT = Path(__file__).resolve().parents[3]
BASE_UNITS = ("seconds", "tokens", "ratio", "bytes")


def constants() -> dict[str, object]:
    return {name: value for name, value in vars(catalog).items() if value in catalog.ALL and name.isupper()}


def test_every_metric_is_in_the_list_once():
    assert len(constants()) == len(catalog.ALL) > 50
    assert [name for name, count in Counter(spec.name for spec in catalog.ALL).items() if count > 1] == []


@pytest.mark.parametrize("spec", catalog.ALL, ids=lambda spec: spec.name)
def test_names_units_and_help_follow_the_conventions(spec):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", spec.name)
    assert not spec.name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
    assert re.fullmatch(r"[A-Z1].*\.", spec.help), "help is a sentence"
    assert spec.labels[0] == "model"
    assert spec.unit in ("", *BASE_UNITS)
    assert not spec.unit or spec.name.endswith(f"_{spec.unit}")
    if spec.name.endswith(("_seconds", "_ratio", "_bytes")):
        assert spec.unit, "a name that ends in a unit has it"


def test_buckets_rise():
    histograms = [spec for spec in catalog.ALL if isinstance(spec, HistogramSpec)]
    assert histograms
    for spec in histograms:
        assert list(spec.buckets) == sorted(set(spec.buckets)), spec.name


def test_every_metric_is_exposed_somewhere_and_named_nowhere_else():
    sources = [p for package in ("cluster", "workers") for p in (ROOT / package).rglob("*.py")]
    texts = {p: p.read_text() for p in sources if p.name != "catalog.py"}
    everything = "\n".join(texts.values())
    assert [name for name in constants() if f"catalog.{name}" not in everything] == []
    made_elsewhere = re.compile(r"\b(Counter|Gauge|Histogram|CounterMetricFamily|GaugeMetricFamily)\(\s*f?[\"']")
    assert [str(p) for p, text in texts.items() if made_elsewhere.search(text)] == []


def test_kinds_are_told_apart():
    assert isinstance(catalog.GENERATED_TOKENS, CounterSpec)
    assert isinstance(catalog.KV_CACHE_USAGE, GaugeSpec)
    assert catalog.GENERATED_TOKENS.full_name == "outrider_generated_tokens"
