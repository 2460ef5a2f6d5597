"""Throw-away authorities and certificates, made by the ``openssl`` command."""

import shutil
import subprocess
from pathlib import Path

import pytest

from workers.rpc.roles import PeerRole
from workers.rpc.tls import TlsSettings

EVERY_ROLE = " ".join(role.dns_name for role in PeerRole)


class Authority:
    """Signs certificates into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl command to make certificates with")
        folder.mkdir()
        self.folder = folder
        self.certificate, self._key = folder / "ca.crt", folder / "ca.key"
        openssl("req", "-x509", *NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-subj", "/CN=ca", *DAYS)

    def sign(self, name: str, dns: str = EVERY_ROLE, days: int = 2) -> TlsSettings:
        """Return the settings of a process with a certificate for some DNS names; signing again renews it."""
        certificate, key, request = (self.folder / f"{name}.{suffix}" for suffix in ("crt", "key", "csr"))
        extensions = self.folder / "extensions"
        names = ",".join(f"DNS:{name}" for name in dns.split())
        extensions.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
        openssl("req", *NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signing = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions)
        openssl("x509", "-req", "-in", request, "-out", certificate, *signing, "-days", days)
        return TlsSettings(certificate=certificate, key=key, authority=self.certificate)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
DAYS = ("-days", "2")


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
