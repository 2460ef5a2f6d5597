"""Is a certificate what a process of ours needs? Asked before its use: TLS only says that a handshake failed."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from workers.contract.errors import ConfigurationError
from workers.rpc.roles import PeerRole


def check_certificate(path: Path, certificate: bytes, key: bytes, authority: bytes, role: PeerRole) -> None:
    """Raise ConfigurationError that names what is wrong with the certificate at ``path`` for a process of ``role``.

    Who signed it is left to TLS: chains may have authorities in between.
    """
    try:
        found = x509.load_pem_x509_certificates(certificate)[0]
        x509.load_pem_x509_certificates(authority)
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path}, its key or its authority is no PEM file of the kind, or the key is encrypted: {error}"
        ) from None
    if private.public_key() != found.public_key():
        raise ConfigurationError(f"the key that was given for {path} is another certificate's")
    if found.not_valid_after_utc < datetime.now(UTC):
        raise ConfigurationError(
            f"{path} ended on {found.not_valid_after_utc:%Y-%m-%d}: `outrider certs` makes new ones"
        )
    names = _dns_names(found)
    if role.dns_name not in names:
        raise ConfigurationError(
            f"{path} is for {', '.join(names) or 'no DNS name'}: a process that is the {role} needs one for "
            f"{role.dns_name}, as `outrider certs` makes it"
        )


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)
