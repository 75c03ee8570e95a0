"""Certificates of an authority that nobody knows but who is told, made by the `openssl` command."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificates"]


@dataclass(frozen=True, slots=True)
class Certificates:
    """A CA and a certificate for 127.0.0.1 and localhost.

    Attributes:
        ca_folder: has `ca.crt` and nothing else, as container tools want a folder of certificates.
        certificate: of the server.
        key: of the server.
    """

    ca_folder: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, *hosts: str) -> Certificates:
        """Make them in a folder; they are valid for two days. Blocks.

        Args:
            folder: where.
            hosts: names that the server's certificate is valid for besides.

        Raises:
            FileNotFoundError: there is no openssl.
            subprocess.CalledProcessError: it failed.
        """
        (folder / "ca").mkdir()
        base = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        # RFC 5280 wants an authority to say that it may sign; Python looks at that from 3.13 on.
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        ca = ["-keyout", "ca.key", "-out", "ca/ca.crt", "-subj", "/CN=criimage tests CA", *usage]
        names = [
            "-addext",
            ",".join(("subjectAltName=IP:127.0.0.1", *(f"DNS:{host}" for host in ("localhost", *hosts)))),
            "-addext",
            "basicConstraints=critical,CA:false",
        ]
        server = ["-CA", "ca/ca.crt", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.crt"]
        for arguments in (ca, [*server, "-subj", "/CN=127.0.0.1", *names]):
            command = [*base, "-days", "2", *arguments]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603 - nothing of others
        return cls(folder / "ca", folder / "server.crt", folder / "server.key")

    def server_context(self) -> ssl.SSLContext:
        """Return what a server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context
