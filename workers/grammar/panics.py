"""Panics of llguidance, which is Rust: errors of the one request that it works for."""

from collections.abc import Iterator
from contextlib import contextmanager

from workers.contract.errors import GrammarError


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise GrammarError where the code inside panics.

    A panic arrives as a BaseException, which passes whoever isolates one request from the others. Its class can only
    be told by name: each Rust library makes its own, and none exports it.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise GrammarError(f"llguidance panicked: {error}") from error
