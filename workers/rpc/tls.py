"""Mutual TLS between the processes of a cluster: who has no certificate of its authority is neither dialled nor served.

Processes come and go at addresses that no certificate can foresee, so a peer is not known by its address: every
certificate of the cluster carries the DNS name ``outrider``, and peers ask for that. Files are read again when they
change, so that certificates can be renewed while processes run.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import grpc
from pydantic import Field

from workers.contract.errors import ConfigurationError
from workers.settings import Settings

log = logging.getLogger(__name__)


class TlsSettings(Settings):
    """Files in PEM. All processes of a cluster may share one certificate, or have one each."""

    certificate: Path
    """Certificate chain; its subject alternative names must hold the DNS name ``outrider``."""
    key: Path = Field(repr=False)
    """The certificate's private key."""
    authority: Path
    """Certificate of the authority that signs for the whole cluster, and for nobody else."""


def server_credentials(tls: TlsSettings | None) -> grpc.ServerCredentials | None:
    """Return what a server shows and asks for; None without settings: plain text.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    if tls is None:
        return None
    files = _Files(tls)
    # The stub does not know that a fetcher may return None, which says that nothing has changed.
    renewed = cast(Callable[[], grpc.ServerCertificateConfiguration], files.renewed)
    return grpc.dynamic_ssl_server_credentials(files.server(), renewed, require_client_authentication=True)


def channel_credentials(tls: TlsSettings | None) -> Callable[[], grpc.ChannelCredentials] | None:
    """Return what makes the credentials of a new channel; None without settings: plain text.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    if tls is None:
        return None
    files = _Files(tls)
    files.read()
    return files.channel


class _Files:
    """The three files, read again when one of them has changed."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._known: tuple[bytes, bytes, bytes] | None = None

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Return certificate, key and authority; ConfigurationError where one cannot be read."""
        paths = (self._tls.certificate, self._tls.key, self._tls.authority)
        found = []
        for path in paths:
            try:
                found.append(path.read_bytes())
            except OSError as error:
                raise ConfigurationError(f"cannot read the TLS file {path}: {error.strerror}") from None
        return found[0], found[1], found[2]

    def server(self) -> grpc.ServerCertificateConfiguration:
        """Return what a server shows now."""
        self._known = self.read()
        certificate, key, authority = self._known
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what a server is to show from now on; None where nothing has changed. Called for each handshake."""
        try:
            return self.server() if self.read() != self._known else None
        except ConfigurationError as error:
            log.warning("the certificate in use stays: %s", error)
            return None

    def channel(self) -> grpc.ChannelCredentials:
        """Return what a client shows and asks for now."""
        certificate, key, authority = self.read()
        return grpc.ssl_channel_credentials(authority, key, certificate)
