"""The address that HTTP listens on: bound here, or refused in a sentence."""

import socket

from workers.contract.errors import ConfigurationError


def bind_http(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a bound socket; with ``shared`` other processes may share the address, if they agree to it as well.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another with --host and --port"
        ) from None
    return bound
