"""Why a load benchmark cannot go on, and what it needs to be installed."""

from importlib.util import find_spec

from workers.contract.errors import ConfigurationError, OutriderError


class BenchError(OutriderError):
    """The endpoint cannot be reached or refuses to be measured."""


def require_installed(module: str, purpose: str) -> None:
    """Raise ConfigurationError where a package of the ``bench`` extra is missing, with the command that installs it."""
    if find_spec(module) is None:
        raise ConfigurationError(f"{purpose} needs {module}, which is not installed: pip install 'outrider[bench]'")
