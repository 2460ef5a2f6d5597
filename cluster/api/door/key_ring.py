"""API keys: who holds one, read from a file that holds digests only and may change while we serve.

One key a line: a name and the key's SHA-256 in hexadecimal. The name is the tenant whom requests with that key are
served for; several keys may have the same one. ``#`` begins a comment. ``outrider keys new NAME`` writes such a line.
"""

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.contract.errors import ConfigurationError

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 2.0
"""How long a change of the file may go unnoticed."""
MAX_FILE_BYTES = 2**20
PREFIX = "sk-outrider-"
_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.@-]{0,63})\s+(?P<digest>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """One line of the file."""

    name: str
    digest: str
    """SHA-256 of the key, in lower-case hexadecimal."""


def new_key() -> str:
    """Return a key that nobody can guess: 256 random bits, so that a plain digest protects it."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return what the file holds of a key."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def key_line(name: str, key: str) -> str:
    """Return the line that a key file has for a key; ConfigurationError where the name cannot be one."""
    line = f"{name} {digest_of(key)}"
    if _LINE.fullmatch(line) is None:
        raise ConfigurationError(
            f"{name!r} cannot name a key's holder: use 1 to 64 letters, digits and . _ @ -, a letter or digit first"
        )
    return line


def read_keys(path: Path) -> list[KeyHolder]:
    """Return the lines of a key file.

    Raises:
        ConfigurationError: it cannot be read, is empty, or a line is none; the line's number is told, not its text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        lines = raw.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the API keys in {path}: {error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError(f"the API keys in {path} are more than {MAX_FILE_BYTES} bytes")
    holders = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            raise ConfigurationError(
                f"{path}, line {number}: expected a name and the SHA-256 of a key in hexadecimal; "
                "`outrider keys new NAME` makes such a line"
            )
        holders.append(KeyHolder(found["name"], found["digest"].lower()))
    if not holders:
        raise ConfigurationError(f"there are no API keys in {path}; make one with `outrider keys new NAME`")
    return holders


class KeyRing:
    """The keys of one file, read again when it has changed. A change that cannot be read leaves the old keys valid."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file; ConfigurationError where that cannot be done now."""
        self._path = path
        self._clock = clock
        self._holders = read_keys(path)
        self._version = _version(path)
        self._looked_at = clock()

    def holder(self, key: str) -> str | None:
        """Return the name of a key's holder, None where nobody holds it.

        Every digest is compared, in constant time each, so that the time taken tells nothing about keys.
        """
        self._refresh()
        digest = digest_of(key)
        found = None
        for holder in self._holders:
            if secrets.compare_digest(holder.digest, digest):
                found = holder.name
        return found

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_AGAIN_S:
            return
        self._looked_at = now
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._holders = read_keys(self._path)
            log.info("read %d API keys again from %s", len(self._holders), self._path)
        except ConfigurationError as error:
            log.error("the API keys stay as they were: %s", error)


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
