"""The example that the repository ships is one that the command accepts."""

from pathlib import Path

from cluster.config_loader import load_config

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "serve.example.yaml"


def test_the_example_is_accepted_and_means_what_it_says() -> None:
    config = load_config(EXAMPLE)
    assert (config.target.tp, config.target.runner_settings().model) == (2, "/models/large-instruct")
    assert (config.drafters.replicas, config.drafters.drafter_settings().model) == (4, "/models/small-instruct")
    assert config.http.api.served_model_names == ("large-instruct",)
    assert (config.scheduler.max_requests_per_tenant, config.scheduler.priority_step_s) == (128, 10)
    assert (config.scheduler.prefill_slowdown, config.scheduler.prefill_step_ms) == (4, 50)
    assert config.ray.address == "auto"
