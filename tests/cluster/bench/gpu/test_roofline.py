from types import SimpleNamespace

import pytest
import torch

from cluster.bench.gpu import __main__ as script
from cluster.bench.gpu.roofline import Device, floor_of, measure_device, time_call
from cluster.bench.gpu.shapes import SHAPES, TARGET_CASES, Case, that_fit

CPU = torch.device("cpu")
ROOFS = Device(copy_bytes_per_s=4e12, matmul_flops=8e14)


@pytest.mark.parametrize(("name", "billions"), [("1b", 1.24), ("8b", 7.50), ("32b", 31.98)])
def test_shapes_have_the_parameters_of_the_models_that_they_are_named_after(name, billions):
    # The published counts, without what is no matrix of a step: embeddings that are not the head, norms, biases.
    shape = SHAPES[name]
    assert (shape.layer_weights + shape.head_weights) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "gib", "left_out"),
    [("8b", 79, []), ("8b", 22, [256]), ("8b", 14, None), ("32b", 79, [256]), ("32b", 139, [])],
)
def test_steps_are_timed_whose_contexts_fit_beside_the_weights(name, gib, left_out):
    """On an H100, an L4, a V100 and an H200, of whose memory a little is kept free."""
    fitting = that_fit(SHAPES[name], TARGET_CASES, int(0.92 * gib * 2**30))
    missing = [case.rows for case in TARGET_CASES if case not in fitting]
    assert missing == ([case.rows for case in TARGET_CASES] if left_out is None else left_out)


def test_a_gpu_s_memory_decides_and_a_model_without_room_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "that_fit", lambda shape, cases, room: cases if room > 50e9 else ())
    memory = SimpleNamespace(total_memory=79 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert script.cases_of("32b", torch.device("cuda")) == TARGET_CASES
    memory.total_memory //= 2
    assert script.cases_of("32b", torch.device("cuda")) == ()
    monkeypatch.setattr(script, "cases_of", lambda model, device: ())
    with pytest.raises(SystemExit, match="could not be timed"):
        script.main(["--device", "cpu", "--models", "tiny", "--output", str(tmp_path / "gpu.json")])
    assert "no room on this GPU: tiny" in capsys.readouterr().out


def test_one_row_is_limited_by_reading_the_weights():
    floor = floor_of(SHAPES["8b"], Case(1, 1, context=512), ROOFS)
    assert floor.limit == "memory"
    assert floor.seconds == pytest.approx((7.504e9 + 512 * 65536) * 2 / 4e12, rel=1e-3)


def test_many_rows_are_limited_by_multiplying():
    floor = floor_of(SHAPES["8b"], Case(256, 5), ROOFS)
    assert floor.limit == "compute"
    assert floor.seconds == pytest.approx(2 * 7.504e9 * 1280 / 8e14, rel=0.05)


def test_attention_counts_once_for_every_query_head():
    shape = SHAPES["8b"]
    short, long = (floor_of(shape, Case(1, 1, context), ROOFS).compute_s for context in (1000, 2000))
    two_products = 4 * 32 * 128 * 1000 * 32  # of every head, in all layers
    assert (long - short) * ROOFS.matmul_flops == pytest.approx(two_products)


def test_roofs_are_those_of_the_device():
    found = measure_device(CPU, torch.float32, copy_bytes=1 << 20, matmul_size=32)
    assert found.copy_bytes_per_s > 0
    assert found.matmul_flops > 0


def test_calls_that_warm_up_are_not_counted():
    calls = []
    time_call(lambda: calls.append(1), CPU, repeats=3, warm_up=2)
    assert len(calls) == 5
