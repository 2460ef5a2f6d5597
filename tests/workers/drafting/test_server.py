"""A drafter's process by itself: it ends where it can draft no more, for whoever watches it to start it anew."""

import asyncio
import sys
import threading

import pytest

from tests.workers.drafting.test_service import SETTINGS, Client
from workers.contract.errors import DrafterBrokenError
from workers.contract.identity import ModelIdentity
from workers.drafting import batching
from workers.drafting import server as server_module
from workers.drafting.batching import MAX_FAILED_STEPS
from workers.drafting.drafter import Advance
from workers.drafting.server import DrafterServer, main, serve_until_told


class LostDevice:
    """A drafter whose every step fails, as on a GPU whose context is lost."""

    identity = ModelIdentity("lost", 0, "")
    runs_ahead = False

    def advance(self, wanting):
        raise RuntimeError("device-side assert")

    def forget(self, state):
        pass


class HungDevice(LostDevice):
    """A drafter whose step never ends, as on a GPU whose driver hangs."""

    def __init__(self):
        self.freed = threading.Event()

    def advance(self, wanting):
        self.freed.wait()
        return Advance()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(server_module, "HEALTH_POLL_S", 0.05)


async def test_a_drafter_whose_steps_all_fail_ends_and_says_why(capsys, caplog):
    serving = asyncio.create_task(
        serve_until_told(DrafterServer(SETTINGS, make=lambda _: LostDevice()), "127.0.0.1", 0)
    )
    words = ""
    while not words:
        await asyncio.sleep(0.01)
        words = capsys.readouterr().out
    client = Client(words.removeprefix("ready ").strip())
    await client.greet()
    for seq_id in range(MAX_FAILED_STEPS):
        assert not serving.done()
        await client.open(seq_id, [1, 2])
        assert list((await client.read("busy")).busy) == [seq_id]
    with pytest.raises(DrafterBrokenError, match="keep failing"):
        await asyncio.wait_for(serving, 10)
    assert "keep failing" in caplog.text
    await client.fault()
    await client.channel.close()


async def test_a_drafter_whose_step_hangs_ends_too(capsys, monkeypatch):
    monkeypatch.setattr(batching, "STEP_DEADLINE_S", 0.2)
    hung = HungDevice()
    serving = asyncio.create_task(serve_until_told(DrafterServer(SETTINGS, make=lambda _: hung), "127.0.0.1", 0))
    words = ""
    while not words:
        await asyncio.sleep(0.01)
        words = capsys.readouterr().out
    client = Client(words.removeprefix("ready ").strip())
    await client.greet()
    await asyncio.sleep(0.4)
    assert not serving.done()  # nothing to do is no step that hangs
    await client.open(1, [1, 2])
    try:
        with pytest.raises(DrafterBrokenError, match="has not ended within"):
            await asyncio.wait_for(serving, 10)
    finally:
        hung.freed.set()
    await client.channel.close()


def test_the_process_then_exits_with_an_error(monkeypatch, capsys):
    monkeypatch.setattr(DrafterServer, "trouble", property(lambda server: "it is broken"))
    monkeypatch.setattr(sys, "argv", ["server", "--settings", SETTINGS.model_dump_json()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code not in (None, 0)
    assert capsys.readouterr().out.startswith("ready ")
