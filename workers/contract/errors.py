"""The errors that cross a boundary: each names what is wrong and how to mend it."""


class OutriderError(Exception):
    """Base of every error that Outrider raises on purpose."""


class InvalidParameterError(OutriderError, ValueError):
    """A request parameter that cannot be served; the API answers it with a 400 naming ``param``."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.message = message


class ModelRefusedError(OutriderError):
    """A checkpoint that would load but compute something silently wrong, or not load at all."""


class ConfigurationError(OutriderError):
    """Settings that contradict each other or the machine."""


class OverloadedError(OutriderError):
    """No room for another request now; ``retry_after_s`` says when to come back."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class GrammarError(OutriderError):
    """A grammar that cannot be followed any further; it ends its own request."""


class UnavailableError(OutriderError):
    """Nobody is there to serve the request (starting, draining or lost)."""


class TargetBrokenError(OutriderError):
    """The model can compute nothing any more: its device, or another rank, is lost. Its process has to end."""


class DrafterBrokenError(OutriderError):
    """The drafter can draft nothing any more: its steps keep failing, or one hangs. Its process has to end."""


class ProtocolError(OutriderError):
    """A peer sent a message that breaks the protocol; its stream is closed."""
