"""Generate the gRPC stubs into workers/rpc/stubs; with --check, only say whether the committed are stale.

protoc writes imports for a package `outrider.v1` that does not exist at run time: they are rewritten to
`workers.rpc.stubs`.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
STUBS = ROOT / "workers" / "rpc" / "stubs"
PACKAGE = "workers.rpc.stubs"


def rewrite_imports(text: str) -> str:
    """Point protoc's imports of outrider.v1 at the package that holds the stubs."""
    text = re.sub(r"from outrider\.v1 import (\w+_pb2)", rf"from {PACKAGE} import \1", text)
    return re.sub(r"import outrider\.v1\.(\w+_pb2(?:_grpc)?) as", rf"import {PACKAGE}.\1 as", text)


def generate() -> dict[str, str]:
    """Return the stub files' names and contents as the .proto files now demand."""
    with tempfile.TemporaryDirectory() as out:
        sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
        args = ["protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}"]
        plugins = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        args += [f"--plugin={plugin}={Path(sys.executable).parent / plugin}" for plugin in plugins]
        args += [f"--mypy_out={out}", f"--mypy_grpc_out={out}", *sources]
        if protoc.main(args) != 0:
            raise SystemExit("protoc failed; its message stands above")
        files = sorted(p for p in Path(out, "outrider", "v1").iterdir() if p.suffix in {".py", ".pyi"})
        return {p.name: rewrite_imports(p.read_text()) for p in files}


def main() -> None:
    """Write the stubs, or compare them with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a stub is stale")
    check = parser.parse_args().check
    stale = []
    for name, text in generate().items():
        path = STUBS / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    if check and stale:
        sys.exit(f"stale stubs: {', '.join(stale)}; run `make stubs` and commit the result")
    print("stubs are fresh" if check or not stale else f"wrote {', '.join(stale)}")


if __name__ == "__main__":
    main()
