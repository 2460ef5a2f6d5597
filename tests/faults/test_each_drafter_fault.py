"""A fault of each kind on a drafter whose drafts are being accepted: no request fails, no text changes."""

import asyncio

import pytest

from cluster.scheduler.settings import Policy, SchedulerSettings
from tests.faults.drafter_faults import FAULTS
from tests.faults.stage import plain_texts, staged
from tests.faults.suffering import suffer
from workers.settings import DrafterSettings

SCHEDULER = SchedulerSettings(policy=Policy.FIXED, draft_length=4, draft_wait_ms=20.0, lookup=False)


@pytest.mark.timeout(900)
async def test_a_fault_of_each_kind(runner, requests, short_pauses):
    texts = await plain_texts(runner, requests)
    async with staged(runner, [DrafterSettings(ngram_min=1)] * 2, SCHEDULER) as stage:
        for number, fault in enumerate(FAULTS):
            before = stage.causes()
            try:
                async with asyncio.timeout(120), stage.under_load(requests, texts) as load:
                    await suffer(stage, fault, stage.actors[number % 2])
            except TimeoutError as error:
                raise AssertionError(f"{fault.name}: not noticed, or not got over: {stage.causes()}") from error
            assert (load.failed, load.changed) == ([], []), fault.name
            assert fault.causes or stage.causes() == before, f"{fault.name}: nothing to leave a drafter for"
        assert load.finished >= 8 * len(FAULTS)
