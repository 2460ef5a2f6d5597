"""Why a load benchmark cannot go on, and what it needs to be installed."""

import shlex
import sys
from importlib.util import find_spec

from workers.contract.errors import ConfigurationError, OutriderError


class BenchError(OutriderError):
    """The endpoint cannot be reached or refuses to be measured."""


def installed(module: str) -> bool:
    """Return whether a package is there to be imported."""
    return find_spec(module) is not None


def require_installed(module: str, purpose: str) -> None:
    """Raise ConfigurationError where a package of the ``bench`` extra is missing, with the command that installs it."""
    if not installed(module):
        raise ConfigurationError(f"{purpose} needs {module}, which is not installed: {installing(module)}")


def installing(module: str) -> str:
    """Return the command that installs a package where this program runs."""
    return f"{shlex.quote(sys.executable)} -m pip install {module}"
