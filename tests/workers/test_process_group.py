"""What a rank makes of silence: between steps it waits, within a step it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 1.0
RANK = """
import os, sys, time
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
import torch, torch.distributed as dist
from workers.input_batch import HEADER
from workers.process_group import ProcessGroup
rank, meeting, mode, timeout = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
group = ProcessGroup.connect(rank, 2, f"file://{meeting}", timeout_s=timeout)
if rank == 1:
    begun = time.monotonic()
    try:
        print("received", group.receive_step())
    except RuntimeError as error:
        print("raised", error)
    print("after", time.monotonic() - begun)
else:
    time.sleep(2.5 * timeout)
    if mode == "shutdown":
        group.send_shutdown()
    elif mode == "half a step":
        dist.broadcast(torch.ones(HEADER, dtype=torch.int32), 0, group=group._idle)
        time.sleep(5 * timeout)
    os._exit(0)
"""


def follow(folder: Path, mode: str) -> tuple[str, float]:
    """Return what rank 1 says when rank 0 is idle for longer than the timeout and then does ``mode``."""
    arguments = [str(folder / "meeting"), mode, str(TIMEOUT_S)]
    command = [sys.executable, "-c", RANK]
    with subprocess.Popen([*command, "0", *arguments]):
        follower = subprocess.run([*command, "1", *arguments], capture_output=True, text=True, timeout=120)
    said, after = follower.stdout.rsplit("after", 1)
    return said, float(after)


def test_an_idle_group_waits_for_longer_than_a_step_may_take(tmp_path: Path):
    said, after = follow(tmp_path, "shutdown")
    assert said.startswith("received None")
    assert after > 1.5 * TIMEOUT_S


def test_a_rank_zero_that_stops_within_a_step_is_noticed(tmp_path: Path):
    said, after = follow(tmp_path, "half a step")
    assert said.startswith("raised")
    assert "Timed out" in said
    assert after > 3 * TIMEOUT_S


SUMS = """
import os, sys
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
import torch
from workers.process_group import ProcessGroup
rank, size, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
group = ProcessGroup.connect(rank, size, f"file://{meeting}")
generator = torch.Generator().manual_seed(0)
parts = (torch.randn(size, 50, 7, generator=generator) * 10 ** torch.arange(size)[:, None, None]).bfloat16()
whole = group.sum(parts[rank].clone(), in_order=True)
torch.testing.assert_close(whole.float(), parts.float().sum(0), atol=0, rtol=2**-8)
for rows in (1, 2, 3, 13, 49):
    assert torch.equal(group.sum(parts[rank, :rows].clone(), in_order=True), whole[:rows])
assert torch.equal(group.join(parts[rank]), torch.cat(list(parts), -1))
group.close()
"""


@pytest.mark.parametrize("size", [2, 3])
def test_a_sum_over_ranks_does_not_depend_on_what_is_summed_beside_it(size, tmp_path: Path):
    command = [sys.executable, "-c", SUMS]
    ranks = [subprocess.Popen([*command, str(rank), str(size), str(tmp_path / "meeting")]) for rank in range(size)]
    assert [rank.wait(120) for rank in ranks] == [0] * size
