"""The command under changing load: drafters come and go, and no stream can tell."""

import concurrent.futures

import pytest
import yaml

from tests.cluster.served import ServedCommand, eventually
from tests.support.tiny_models import make_tiny

CONFIG = {
    "scheduler": {"policy": "fixed", "draft_wait_ms": 200, "max_draft_tokens_per_step": 256, "lookup": False},
    "target": {"runner": {"threads": 1, "kv_cache_bytes": 32 * 2**20}},
    "drafters": {
        "runner": {"threads": 1, "kv_cache_bytes": 32 * 2**20},
        "autoscaling": {
            "max_replicas": 2,
            "queued_per_replica": 1.5,
            "upscale_delay_s": 1,
            "downscale_delay_s": 2,
        },
    },
}
PROMPTS = [f"{i} apples and {i + 1} pears, " * 3 for i in range(12)]


@pytest.mark.faults
def test_drafters_follow_the_load_and_leave_without_a_trace(tmp_path):
    tiny = make_tiny(tmp_path / "tiny", scale=4.0)
    CONFIG["drafters"]["model"] = str(tiny)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    command = ServedCommand(str(config), "--target", str(tiny), log=tmp_path / "serve.log")
    try:
        command.wait_ready()
        texts = [command.chat(prompt, max_tokens=48)["choices"] for prompt in PROMPTS]
        assert len(command.processes(":Drafter")) == 1

        def load(width: int) -> None:
            with concurrent.futures.ThreadPoolExecutor(width) as pool:
                again = list(pool.map(lambda prompt: command.chat(prompt, max_tokens=48)["choices"], PROMPTS))
            assert again == texts, "no text changes, whoever drafts"

        def grown() -> bool:
            load(len(PROMPTS))
            return len(command.processes(":Drafter")) == 2

        def shrunk() -> bool:
            load(1)
            return len(command.processes(":Drafter")) == 1

        eventually(grown, 120)
        eventually(lambda: (load(len(PROMPTS)) or command.metric("outrider_drafters_connected")) == 2, 60)
        eventually(shrunk, 120)
        assert command.metric("outrider_drafters_connected") == 1
        log = command.log.read_text()
        assert "lost" not in log and "Traceback" not in log
    finally:
        command.stop()
        command.kill()
