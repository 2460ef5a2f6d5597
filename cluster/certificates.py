"""Certificates for a cluster's inner connections: an authority of its own, and one certificate for each role.

For development, and for a few machines that are looked after by hand: who has a cert-manager or a vault has keys that
never lie in a folder.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from workers.contract.errors import ConfigurationError
from workers.rpc.roles import PeerRole

AUTHORITY_DAYS = 3650
CLOCK_SKEW = timedelta(minutes=5)
"""How far a machine's clock may be behind the one that made a certificate."""


class Authority:
    """Signs for one cluster. Its key, ``ca.key``, belongs on none of the cluster's machines."""

    def __init__(self, folder: Path) -> None:
        """Take the authority that is in ``folder``, or make one there; its key is readable by its owner only.

        Raises:
            ConfigurationError: The folder cannot be written, or holds an authority's certificate or key alone.
        """
        self._folder = folder
        self.certificate_path = folder / "ca.crt"
        key_path = folder / "ca.key"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.certificate_path.exists() != key_path.exists():
                raise ConfigurationError(
                    f"{folder} has only one of ca.crt and ca.key: add the other, or choose an empty folder"
                )
            if not key_path.exists():
                self._make(key_path)
            self._certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
            key = load_pem_private_key(key_path.read_bytes(), password=None)
        except OSError as error:
            raise ConfigurationError(f"cannot use {error.filename}: {error.strerror}") from None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"ca.crt or ca.key in {folder} cannot be read: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self._certificate.public_key():
            raise ConfigurationError(f"ca.key in {folder} is not the key of ca.crt: choose an empty folder")
        self._key = key

    def sign(self, name: str, roles: Iterable[PeerRole], days: int) -> tuple[Path, Path]:
        """Write a new key and a certificate for the DNS names of ``roles``; return their paths, ``name``.crt and .key.

        The certificate holds for ``days``. Processes that use files of that name take the new ones up by themselves.

        Raises:
            ConfigurationError: The files cannot be written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(role.dns_name) for role in roles]
        certificate = (
            _begin(name, self._certificate.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                # Every process dials one neighbour and is dialled by the other.
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        paths = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        try:
            _write_private(paths[1], key)
            paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        except OSError as error:
            raise ConfigurationError(f"cannot write {error.filename}: {error.strerror}") from None
        return paths

    def _make(self, key_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("outrider authority")
        certificate = (
            _begin("outrider authority", subject, key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_private(key_path, key)
        self.certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _begin(name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a key that nobody but the owner can read, not for a moment, whatever was there before."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    new.replace(path)
