"""The kernel moves rows on as PyTorch does, and touches nothing else."""

import pytest
import torch

pytest.importorskip("triton", reason="no triton: pip install -e '.[test]' brings it on Linux")

from workers.input_batch import StepTensors
from workers.steps.decode_rows import DecodeRows

pytestmark = pytest.mark.kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BLOCK_SIZE, PAGES, TRASH = 4, 6, 999
DTYPES = pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)


def step_of(rows, padding, dtype):
    """Return a step in buffers that begin anywhere, whose table is a part of a wider one."""
    torch.manual_seed(rows)
    whole = torch.randint(0, 8, (3 * (rows + padding) + 1,)).to(DEVICE, dtype)
    ids, positions, slots = whole[1:].view(3, -1)
    lengths = torch.randint(1, 9, (rows + padding,), dtype=torch.int32).to(DEVICE)
    table = torch.randint(0, 500, (rows + padding, PAGES + 3), dtype=torch.int32).to(DEVICE)[:, :PAGES]
    none = ids[:0]
    return StepTensors(ids[None], positions[None], none, slots, none, lengths, table, none)


def advanced(monkeypatch, kernel, step, last, tokens):
    """Return what stands in a step after each move."""
    monkeypatch.setattr("workers.steps.decode_rows.has_kernels", lambda _: kernel)
    rows = DecodeRows(step, last, BLOCK_SIZE, TRASH)
    seen = []
    for some in tokens:
        rows.advance(some)
        seen.append([x.clone() for x in (step.input_ids, step.positions, step.slot_mapping, step.seq_lens)])
    return seen


@DTYPES
@pytest.mark.parametrize(("rows", "padding"), [(1, 0), (5, 3), (128, 1), (300, 20)])
def test_rows_stand_where_pytorch_puts_them(rows, padding, dtype, monkeypatch):
    torch.manual_seed(0)
    last = torch.randint(0, BLOCK_SIZE * PAGES, (rows,)).tolist()
    counts = [rows, rows, -(-rows // 2), -(-rows // 2), 1, 1, 1]
    ranked = torch.randint(0, 128_000, (len(counts), rows, 5)).to(DEVICE)
    tokens = [block[:count, 0] for block, count in zip(ranked, counts, strict=True)]
    expected = advanced(monkeypatch, False, step_of(rows, padding, dtype), last, tokens)
    found = advanced(monkeypatch, True, step_of(rows, padding, dtype), last, tokens)
    for ours, theirs in zip(found, expected, strict=True):
        for name, one, other in zip(("ids", "positions", "slots", "lengths"), ours, theirs, strict=True):
            assert torch.equal(one, other), name


@DTYPES
def test_a_row_that_has_stopped_writes_to_trash_and_others_keep_their_ids(dtype, monkeypatch):
    step = step_of(3, 1, dtype)
    step.input_ids.copy_(torch.tensor([[10, 11, 12, 13]]))
    step.positions.copy_(torch.tensor([[7, 7, 2, 5]]))
    step.slot_mapping.copy_(torch.tensor([1, 2, 3, 4]))
    step.seq_lens.copy_(torch.tensor([8, 8, 3, 6]))
    page, other = step.block_table[0, 2].item(), step.block_table[2, 0].item()
    monkeypatch.setattr(torch.Tensor, "gather", lambda *_: pytest.fail("not by the kernel"))
    ids, positions, slots, lengths = advanced(monkeypatch, True, step, [9, 7, 3], [torch.tensor([70, 71]).to(DEVICE)])[
        0
    ]
    assert ids.tolist() == [[70, 71, 12, 13]]
    assert positions.tolist() == [[8, 7, 3, 5]]
    assert slots.tolist() == [page * BLOCK_SIZE, TRASH * BLOCK_SIZE, other * BLOCK_SIZE + 3, 4]
    assert lengths.tolist() == [9, 8, 4, 6]
