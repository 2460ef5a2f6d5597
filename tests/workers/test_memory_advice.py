import pytest

from workers.memory_advice import GIB, checkpoint_bytes, no_block_fits, weights_do_not_fit


@pytest.mark.parametrize(
    ("weights", "free", "total", "ranks", "says"),
    [
        (
            141,
            79,
            80,
            1,
            "m does not fit: its weights take 141.0 GiB, and this GPU has 79.0 GiB of 80.0 GiB free; "
            "divide it among 3 GPUs or more",
        ),
        (
            141,
            79,
            80,
            2,
            "weights take 70.5 GiB on each of 2 GPUs, and this GPU has 79.0 GiB of 80.0 GiB free; "
            "divide it among 3 GPUs or more",
        ),
        (400, 79, 80, 2, "divide it among 6 GPUs or more"),
        (15, 10, 80, 1, "other processes hold 70.0 GiB: end them"),
        (75, 30, 80, 1, "divide it among 2 GPUs or more"),
    ],
)
def test_weights_that_do_not_fit_are_told_with_what_would_help(weights, free, total, ranks, says):
    assert says in weights_do_not_fit("m", weights * GIB, free * GIB, total * GIB, ranks)


@pytest.mark.parametrize(("measured", "says"), [(False, "raise kv_cache_bytes"), (True, "one with more memory")])
def test_no_room_for_a_block(measured, says):
    message = no_block_fits(1000, 1536, 4, measured)
    assert message.startswith("1000 bytes hold no KV block: one block of 4 tokens takes 1536 bytes; ")
    assert says in message


def test_a_checkpoint_is_as_large_as_its_safetensors(tmp_path):
    for name, size in (("a.safetensors", 10), ("b.safetensors", 5), ("tokenizer.json", 100)):
        (tmp_path / name).write_bytes(bytes(size))
    assert checkpoint_bytes(tmp_path) == 15
