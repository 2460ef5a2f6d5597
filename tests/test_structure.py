"""The promises that the tree's layout makes, beyond what ruff, mypy and import-linter check."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cluster", "workers")
STUBS = ROOT / "workers" / "rpc" / "stubs"
MAX_LINES = 300

PURE = (
    "workers/contract/*.py",
    "workers/metrics/catalog.py",
    "workers/metrics/spec.py",
    "workers/metrics/buckets.py",
    "workers/kv/block_pool.py",
    "workers/kv/block_hash.py",
    "cluster/links/generation/affinity.py",
    "cluster/links/prefix_memory.py",
    "cluster/links/drafting/accepted.py",
    "cluster/links/drafting/breaker.py",
    "cluster/links/drafting/cause.py",
    "cluster/links/drafting/choice.py",
    "cluster/links/drafting/deadline.py",
    "cluster/links/drafting/mirror.py",
    "cluster/links/drafting/orders.py",
    "cluster/links/drafting/placement.py",
    "cluster/links/drafting/suspicion.py",
    "workers/drafting/ngram.py",
    "workers/drafting/outcome_cache.py",
    "cluster/scheduler/**/*.py",
)
HEAVY = ("torch", "numpy", "transformers", "ray", "grpc")

UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {("torch", "load"), ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load")}


def sources() -> list[Path]:
    """Every hand-written Python file of the two packages."""
    found = [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]
    return [p for p in found if not p.is_relative_to(STUBS)]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def unsafe_uses(tree: ast.AST) -> Iterator[str]:
    """Names of deserialisers in a module that run what they read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [(module, alias.name) for alias in node.names]
            if module.split(".")[0] in UNSAFE_MODULES or UNSAFE_CALLS.intersection(names):
                yield module
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {".".join(call) for call in UNSAFE_CALLS}:
            yield ast.unparse(node)


def test_no_file_is_too_long() -> None:
    lengths = {p.relative_to(ROOT): len(p.read_text().splitlines()) for p in sources()}
    assert {str(p): n for p, n in lengths.items() if n > MAX_LINES} == {}


def test_package_init_files_import_nothing() -> None:
    full = [str(p.relative_to(ROOT)) for p in sources() if p.name == "__init__.py" and p.read_text().strip()]
    assert full == []


def test_every_folder_with_code_is_a_package() -> None:
    assert {str(p.parent) for p in sources() if not (p.parent / "__init__.py").exists()} == set()


def test_the_proto_folder_is_no_package() -> None:
    """An ``__init__.py`` here would shadow proto-plus, which Ray imports as ``proto``."""
    assert list((ROOT / "proto").rglob("__init__.py")) == []


def test_nothing_reads_what_can_run_code() -> None:
    uses = {str(p.relative_to(ROOT)): list(unsafe_uses(ast.parse(p.read_text()))) for p in sources()}
    assert {path: names for path, names in uses.items() if names} == {}


@pytest.mark.parametrize("code", ["import pickle", "from torch import load", "yaml.load(x)"])
def test_the_search_for_unsafe_uses_finds_them(code: str) -> None:
    assert list(unsafe_uses(ast.parse(code)))


def test_pure_modules_import_nothing_heavy() -> None:
    """In a fresh interpreter, so that no other test has imported it already."""
    modules = [module_name(p) for pattern in PURE for p in sorted(ROOT.glob(pattern))]
    missing = [pattern for pattern in PURE if not list(ROOT.glob(pattern))]
    assert missing == []
    script = (
        f"import importlib, sys\nfor name in {modules!r}:\n"
        f"    importlib.import_module(name)\n"
        f"    heavy = set({HEAVY!r}) & set(sys.modules)\n"
        f"    if heavy: sys.exit(f'{{name}} imports {{sorted(heavy)}}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_other_distribution_owns_our_packages() -> None:
    """`cluster` and `workers` are plain words: another distribution of that name would be mixed into ours."""
    owners = importlib.metadata.packages_distributions()
    assert {p: sorted(set(owners[p])) for p in PACKAGES if p in owners} == {p: ["outrider"] for p in PACKAGES}


def documents() -> list[Path]:
    """Everything that is written for people."""
    rooms = ("cluster", "workers", "proto", "deploy", "helm", "tests")
    return [*ROOT.glob("*.md"), *(path for room in rooms for path in (ROOT / room).rglob("*.md"))]


def dead_references(text: str, folder: Path) -> list[str]:
    """What a document in ``folder`` names and is not there: paths in code spans, and targets of relative links."""
    named = re.findall(r"`((?:cluster|workers|deploy|tests|helm|proto)/[\w./*-]*)", text)
    linked = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", text)
    return [name for name in named if not any(ROOT.glob(name.rstrip("/")))] + [
        name for name in linked if not (folder / name).exists()
    ]


def test_documents_name_only_what_is_there() -> None:
    dead = {str(path.relative_to(ROOT)): dead_references(path.read_text(), path.parent) for path in documents()}
    assert {name: references for name, references in dead.items() if references} == {}


def test_what_is_gone_is_noticed_in_a_document() -> None:
    text = "`cluster/engine.py: Engine`, `cluster/gone.py`, [here](README.md#try-it), [there](gone.md)"
    assert dead_references(text, ROOT) == ["cluster/gone.py", "gone.md"]
