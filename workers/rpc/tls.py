"""Mutual TLS between the processes of a cluster: who has no certificate of its authority is neither dialled nor served.

Processes come and go at addresses that no certificate can foresee, so a peer is known by its role (see `roles`): its
certificate carries a DNS name that stands for it. Files are read again when they change, so that certificates can be
renewed while processes run.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import grpc
from pydantic import Field

from workers.contract.errors import ConfigurationError
from workers.rpc.certificate import check_certificate
from workers.rpc.roles import PeerRole
from workers.settings import Settings

log = logging.getLogger(__name__)

ROLE = "{role}"
"""What stands for the role in a path."""


class TlsSettings(Settings):
    """Files in PEM, on every machine. ``{role}`` in a path stands for the role of the process that reads it.

    A process holds the certificate of its role alone, so that whoever breaks into a drafter gets no other's. One that
    names all roles serves as well, where all processes trust each other anyway.
    """

    certificate: Path
    """Certificate chain, such as ``/etc/outrider/tls/{role}.crt``. Its subject alternative names must hold the DNS name
    of the role: ``ingress.outrider``, ``target.outrider`` or ``drafter.outrider``."""
    key: Path = Field(repr=False)
    """The certificate's private key."""
    authority: Path
    """Certificate of the authority that signs for the whole cluster, and for nobody else."""

    def of(self, role: PeerRole) -> "TlsSettings":
        """Return the settings with the role put in."""
        certificate, key = (Path(str(path).replace(ROLE, role)) for path in (self.certificate, self.key))
        return TlsSettings(certificate=certificate, key=key, authority=self.authority)


def server_credentials(tls: TlsSettings | None, role: PeerRole) -> grpc.ServerCredentials | None:
    """Return what a server of a role shows and asks for; None without settings: plain text.

    Raises:
        ConfigurationError: A file cannot be read, or is not what the role needs.
    """
    if tls is None:
        return None
    files = _Files(tls, role)
    # The stub does not know that a fetcher may return None, which says that nothing has changed.
    renewed = cast(Callable[[], grpc.ServerCertificateConfiguration], files.renewed)
    return grpc.dynamic_ssl_server_credentials(files.server(), renewed, require_client_authentication=True)


def channel_credentials(tls: TlsSettings | None, role: PeerRole) -> Callable[[], grpc.ChannelCredentials] | None:
    """Return what makes the credentials of a new channel of a process of a role; None without settings: plain text.

    Raises:
        ConfigurationError: A file cannot be read, or is not what the role needs.
    """
    if tls is None:
        return None
    files = _Files(tls, role)
    files.read()
    return files.channel


class _Files:
    """The three files, read again when one of them has changed."""

    def __init__(self, tls: TlsSettings, role: PeerRole) -> None:
        self._tls = tls.of(role)
        self._role = role
        self._known: tuple[bytes, bytes, bytes] | None = None

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Return certificate, key and authority; ConfigurationError where they are not what the role needs."""
        paths = (self._tls.certificate, self._tls.key, self._tls.authority)
        found = []
        for path in paths:
            try:
                found.append(path.read_bytes())
            except OSError as error:
                raise ConfigurationError(f"cannot read the TLS file {path}: {error.strerror}") from None
        certificate, key, authority = found
        if (certificate, key, authority) != self._known:
            check_certificate(self._tls.certificate, certificate, key, authority, self._role)
        return certificate, key, authority

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
        certificate, key, authority = self._known = self.read()
        return grpc.ssl_channel_credentials(authority, key, certificate)
