"""The script on a CPU with a tiny model: whoever has a GPU for some minutes must not meet a typing error."""

import json

import pytest
import torch

from cluster.bench.gpu import __main__ as script
from cluster.bench.gpu.__main__ import main
from cluster.bench.gpu.compare import main as compare
from cluster.bench.gpu.steps import VARIANTS, Variant


def test_it_times_every_variant_and_its_report_can_be_compared(tmp_path, capsys):
    report = tmp_path / "gpu.json"
    main(["--device", "cpu", "--models", "tiny", "--output", str(report)])
    rows = json.loads(report.read_text())["timings"]
    assert [(row["variant"], row["case"]) for row in rows] == [
        (variant.name, case) for variant in VARIANTS for case in ("1 x 1", "3 x 5", "2 x 1, 3 in one go")
    ]
    for row in rows:
        assert row["measured_us"] > 0
        assert row["ratio"] == pytest.approx(row["measured_us"] / row["floor_us"], rel=0.01)
    printed = capsys.readouterr().out
    assert printed.index("expected gather") < printed.index("tiny 1 x 1 gather:")
    assert compare([str(report), str(report)]) == 0


def test_a_variant_that_fails_does_not_cost_the_others(tmp_path, capsys, monkeypatch):
    broken = Variant("broken", {"attention": "varlen"}, 1)
    monkeypatch.setattr(script, "VARIANTS", (broken, VARIANTS[0]))
    report = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match="could not be timed"):
        main(["--device", "cpu", "--models", "tiny", "--output", str(report)])
    assert {row["variant"] for row in json.loads(report.read_text())["timings"]} == {VARIANTS[0].name}
    assert "tiny broken failed" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "--device cpu --models tiny" in capsys.readouterr().err


def report(**ratios):
    rows = [{"model": "8b", "variant": "triton", "case": case, "ratio": ratio} for case, ratio in ratios.items()]
    return {"timings": rows}


@pytest.mark.parametrize(
    ("after", "code", "says"),
    [
        ({"one": 1.2, "two": 1.5}, 0, "no ratio of 2 has grown by more than 5%"),
        ({"one": 1.25, "two": 1.0}, 0, "no ratio"),
        ({"one": 1.3, "two": 1.5}, 1, "8b triton one: 1.20 times its floor before, 1.30 now"),
        ({"one": 1.2}, 1, "8b triton two: not timed any more"),
    ],
)
def test_reports_are_compared_by_their_ratios(tmp_path, capsys, after, code, says):
    files = tmp_path / "before.json", tmp_path / "after.json"
    for file, ratios in zip(files, ({"one": 1.2, "two": 1.5}, after), strict=True):
        file.write_text(json.dumps(report(**ratios)))
    assert compare([str(file) for file in files]) == code
    assert says in capsys.readouterr().out


def test_what_is_no_report_is_refused(tmp_path, capsys):
    file = tmp_path / "x.json"
    file.write_text("{}")
    with pytest.raises(SystemExit):
        compare([str(file), str(file)])
    assert "not a report of cluster.bench.gpu" in capsys.readouterr().err
