"""Pin everything that an image installs: ``python deploy/lock.py`` (needs uv: pip install uv).

Writes requirements.lock, with the hash of every file, and requirements.cuda.lock, which has PyTorch and the CUDA
libraries that its wheels ask for. On CPUs PyTorch comes from PyTorch's own index, which requirements.cpu.lock names.
"""

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
TORCH = "2.13.0"
# llguidance has wheels for glibc 2.31 and newer only.
PYTHON, PLATFORM = "3.11", "x86_64-manylinux_2_31"
WITH_TORCH = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
HEADER = "# Made by deploy/lock.py; {what}\n"


def main() -> None:
    """Resolve pyproject.toml and write the three files."""
    entries = resolve()
    torch = [entry for entry in entries if WITH_TORCH.match(entry)]
    others = [entry for entry in entries if entry not in torch]
    write("requirements.lock", "what Outrider needs, PyTorch aside.", others)
    write("requirements.cuda.lock", "PyTorch with CUDA.", torch)
    write(
        "requirements.cpu.lock",
        "PyTorch without CUDA.",
        ["--index-url https://download.pytorch.org/whl/cpu\n", f"torch=={TORCH}+cpu\n"],
    )


def resolve() -> list[str]:
    """Return the pinned packages, each with its hashes, as pip reads them."""
    command = ["uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--python-version", PYTHON, "--python-platform", PLATFORM, "--constraint", "-"]
    made = subprocess.run(
        [*command, str(HERE.parent / "pyproject.toml")],
        input=f"torch=={TORCH}\n",
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return re.findall(r"^\S.*?\n(?=\S|\Z)", made, re.MULTILINE | re.DOTALL)


def write(name: str, what: str, entries: list[str]) -> None:
    """Write one lock file."""
    (HERE / name).write_text(HEADER.format(what=what) + "".join(entries), encoding="utf-8")
    print(f"{name}: {sum('==' in entry for entry in entries)} packages")


if __name__ == "__main__":
    main()
