"""The example that the repository ships is one that the command accepts."""

from pathlib import Path

import yaml

from cluster.config_loader import load_config, parse_config

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "serve.example.yaml"


def test_the_example_is_accepted_and_means_what_it_says() -> None:
    config = load_config(EXAMPLE)
    assert (config.target.tp, config.target.runner_settings().model) == (2, "/models/large-instruct")
    assert (config.drafters.replicas, config.drafters.drafter_settings().model) == (4, "/models/small-instruct")
    assert config.http.api.served_model_names == ("large-instruct",)
    assert (config.scheduler.max_requests_per_tenant, config.scheduler.priority_step_s) == (128, 10)
    assert (config.scheduler.prefill_slowdown, config.scheduler.prefill_step_ms) == (4, 50)
    assert config.ray.address == "auto"


def test_the_trace_that_it_leaves_off_can_be_turned_on() -> None:
    lines = EXAMPLE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("  # trace:"))
    on = [line.replace("# ", "", 1) if start <= i < start + 3 else line for i, line in enumerate(lines)]
    config = parse_config(yaml.safe_load("\n".join(on)))
    assert load_config(EXAMPLE).target.trace is None
    assert config.target.trace is not None
    assert (config.target.trace.file, config.target.trace.max_bytes) == (Path("/tmp/outrider-trace.json"), 256 * 2**20)
    assert config.target.runner.dtype == "bfloat16"
