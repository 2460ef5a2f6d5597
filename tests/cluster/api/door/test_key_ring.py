"""The file of API keys: what it may hold, and what happens when it changes."""

import os
import time

import pytest

from cluster.api.door.key_ring import LOOK_AGAIN_S, KeyRing, digest_of, key_line, new_key, read_keys
from workers.contract.errors import ConfigurationError

ANN, BOB = "ann-key", "bob-key"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(
        f"# people\n\nann {digest_of(ANN)}  # since May\nbob {digest_of(BOB).upper()}\nann {digest_of('2nd')}\n"
    )
    return path


def test_holders_are_found_by_any_of_their_keys(file):
    ring = KeyRing(file)
    assert [ring.holder(key) for key in (ANN, BOB, "2nd")] == ["ann", "bob", "ann"]
    assert ring.holder("other") is None
    assert ring.holder(digest_of(ANN)) is None, "a digest is no key"
    assert ring.holder("\udc80") is None


def test_a_change_counts_after_a_moment(file):
    clock = Clock()
    ring = KeyRing(file, clock)
    file.write_text(key_line("carl", "new") + "\n")
    assert (ring.holder("new"), ring.holder(ANN)) == (None, "ann")
    clock.now += LOOK_AGAIN_S
    assert (ring.holder("new"), ring.holder(ANN)) == ("carl", None)


@pytest.mark.parametrize("damage", ["", "ann not-a-digest\n", None])
def test_a_change_that_cannot_be_read_leaves_the_old_keys_valid(file, damage, caplog):
    clock = Clock()
    ring = KeyRing(file, clock)
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    clock.now += LOOK_AGAIN_S
    assert ring.holder(ANN) == "ann"
    assert "stay as they were" in caplog.text
    file.write_text(key_line("carl", "new"))
    os.utime(file, ns=(time.time_ns() + 10**9,) * 2)
    clock.now += LOOK_AGAIN_S
    assert ring.holder("new") == "carl"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no API keys"),
        ("# only words\n", "no API keys"),
        (f"ann {digest_of(ANN)}\nbob secret\n", "line 2"),
        (f"{digest_of(ANN)}\n", "line 1"),
        (f"a b {digest_of(ANN)}\n", "line 1"),
        ("x" * 2**20 + "\n\n", "more than"),
    ],
)
def test_what_is_no_key_file_is_refused_without_showing_its_secrets(tmp_path, text, sentence):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence) as refusal:
        read_keys(path)
    assert "secret" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        KeyRing(tmp_path / "none")


def test_keys_are_long_and_unlike():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) > 43 for key in keys)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a#b", "x" * 65, "é"])
def test_names_that_no_line_can_have_are_refused(name):
    with pytest.raises(ConfigurationError, match="letters"):
        key_line(name, "k")
