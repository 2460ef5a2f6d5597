"""A cheap digest of a checkpoint: equal for equal weights, different for different ones in practice."""

import hashlib
from pathlib import Path

_SAMPLES = 64
_SAMPLE_BYTES = 4096


def weights_digest(folder: Path) -> str:
    """Return 32 hex digits that name the weights in ``folder``, in milliseconds for any size.

    Hashes config.json and, of every safetensors file, its size, its header (names, shapes, dtypes,
    offsets) and 64 samples of 4 KiB spread evenly over it. That tells models, fine-tunes and conversions
    apart, since training moves all weights; it is no protection against somebody who alters bytes
    between the samples. File names and times do not count.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(size, header_bytes)))
            for i in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]
