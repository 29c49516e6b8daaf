"""Certificates for servers on this machine, and authorities that sign them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

Signed = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def certificate(by: Signed | None, *, days: tuple[int, int] = (-1, 30), host: str = "127.0.0.1") -> Signed:
    """A certificate, or an authority's own where nobody signs it.

    :param days: from and until when it is valid, from now
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server" if by else f"authority {id(key)}")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by[1].subject if by else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days[0]))
        .not_valid_after(now + timedelta(days[1]))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    address = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
    signed = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return key, signed.sign(by[0] if by else key, hashes.SHA256())


def save(folder: Path, name: str, made: Signed) -> str:
    """Write a certificate and its key; the certificate's path."""
    (folder / f"{name}.crt").write_bytes(made[1].public_bytes(serialization.Encoding.PEM))
    key = folder / f"{name}.key"
    key.touch(mode=0o600)
    key.write_bytes(
        made[0].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(folder / f"{name}.crt")
