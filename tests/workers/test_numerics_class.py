from importlib.metadata import version
from pathlib import Path

import torch

import workers
from workers.numerics import ARITHMETIC, numerics_class, source_digest


def test_versions_of_libraries_and_of_our_arithmetic_are_part_of_it():
    name = numerics_class("abc", torch.bfloat16, torch.device("cpu"), "gather", 1)
    digest = source_digest(Path(workers.__file__).parent)
    for part in (torch.__version__, f"transformers-{version('transformers')}", digest[:8]):
        assert part in name
    assert name == numerics_class("abc", torch.bfloat16, torch.device("cpu"), "gather", 1)


def test_any_change_of_the_arithmetic_is_another_one_and_no_other_change(tmp_path):
    for room in (*ARITHMETIC, "rpc"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("x = 1\n")
    before = source_digest(tmp_path)
    (tmp_path / "rpc" / "a.py").write_text("x = 2\n")
    assert source_digest(tmp_path) == before
    for room in ARITHMETIC:
        (tmp_path / room / "a.py").write_text(f"x = 2  # {room}\n")
        assert source_digest(tmp_path) != before
        before = source_digest(tmp_path)


def test_the_rooms_are_there():
    for room in ARITHMETIC:
        assert list((Path(workers.__file__).parent / room).glob("*.py"))
