"""Certificates for servers on this machine, and authorities that sign them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Signed = tuple[Key, x509.Certificate]
PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def certificate(
    by: Signed | None,
    *,
    days: tuple[float, float] = (-1, 30),
    host: str = "127.0.0.1",
    names: Sequence[str] | None = None,
    common_name: str = "",
    authority: bool | None = None,
    purpose: str = "",
    key: Key | None = None,
) -> Signed:
    """A certificate, or an authority's own where nobody signs it.

    :param days: from and until when it is valid, from now
    :param names: of its subject alternative name, where they are not the host; empty for none
    :param authority: whether it may sign others, where that is not said by nobody having signed it
    :param purpose: one of :data:`PURPOSES`, as its extended key usage
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    called = common_name or ("server" if by else f"authority {id(key)}")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by[1].subject if by else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days[0]))
        .not_valid_after(now + timedelta(days[1]))
        .add_extension(
            x509.BasicConstraints(ca=by is None if authority is None else authority, path_length=None), critical=True
        )
    )
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(each)) if each[0].isdigit() or ":" in each else x509.DNSName(each)
        for each in ([host] if names is None else names)
    ]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if purpose:
        builder = builder.add_extension(x509.ExtendedKeyUsage([PURPOSES[purpose]]), critical=False)
    return key, builder.sign(by[0] if by else key, hashes.SHA256())


def save(folder: Path, name: str, made: Signed, *intermediates: Signed) -> str:
    """Write a certificate with its chain, and its key; the certificate's path."""
    chain = b"".join(each[1].public_bytes(serialization.Encoding.PEM) for each in (made, *intermediates))
    (folder / f"{name}.crt").write_bytes(chain)
    key = folder / f"{name}.key"
    key.touch(mode=0o600)
    key.write_bytes(
        made[0].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(folder / f"{name}.crt")
