"""The outbox: everything once, in order, in few messages, and never without bound."""

import asyncio

from cluster.links.generation.outbox import Outbox, coalesce
from workers.rpc.stubs import generation_pb2 as pb


async def test_what_comes_during_a_write_goes_out_together():
    box: Outbox[int] = Outbox(10)
    batches = box.batches()
    box.put(1)
    assert await anext(batches) == [1]
    for item in (2, 3, 4):
        assert box.put(item)
    assert await anext(batches) == [2, 3, 4]
    waiting = asyncio.ensure_future(anext(batches, None))
    await asyncio.sleep(0)
    box.close()
    assert await waiting is None


async def test_a_full_box_takes_no_more_until_it_is_emptied():
    box: Outbox[str] = Outbox(5, len)
    assert box.put("four")
    assert box.put("over")
    assert not box.put("x")
    assert await anext(box.batches()) == ["four", "over"]
    assert box.put("y")


async def test_a_closed_box_takes_nothing_and_gives_nothing():
    box: Outbox[int] = Outbox(5)
    box.put(1)
    box.close()
    assert not box.put(2)
    assert [batch async for batch in box.batches()] == []


def test_messages_are_merged_up_to_a_size_and_not_changed():
    messages = [pb.GenerateRequest(cancels=[f"{i}" * 10]) for i in range(10)]
    merged = list(coalesce(messages, max_bytes=40))
    assert [len(message.cancels) for message in merged] == [3, 3, 3, 1]
    assert [c for message in merged for c in message.cancels] == [m.cancels[0] for m in messages]
    assert all(len(message.cancels) == 1 for message in messages)
    assert list(coalesce([], max_bytes=1)) == []
    assert len(list(coalesce(messages[:2], max_bytes=1))) == 2


def test_of_two_loads_in_one_message_the_latest_counts():
    messages = [
        pb.GenerateResponse(load=pb.TargetLoad(steps=i, accepted_per_position=[2 * i, i]), drafters={"small": i})
        for i in (1, 2)
    ]
    (merged,) = coalesce([messages[0], pb.GenerateResponse(tokens=[pb.Tokens(request_id="r")]), messages[1]])
    assert (merged.load.steps, list(merged.load.accepted_per_position)) == (2, [4, 2])
    assert dict(merged.drafters) == {"small": 2}
    assert [tokens.request_id for tokens in merged.tokens] == ["r"]
