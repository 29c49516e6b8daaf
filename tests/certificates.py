"""Certificates for servers on this machine, and authorities that sign them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

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
    organization: str = "",
    crl_url: str = "",
    timestamps: int | None = None,
) -> Signed:
    """A certificate, or an authority's own where nobody signs it.

    :param days: from and until when it is valid, from now
    :param names: of its subject alternative name, where they are not the host; empty for none
    :param authority: whether it may sign others, where that is not said by nobody having signed it
    :param organization: of its subject
    :param crl_url: where its revocation list is
    :param timestamps: how many it holds of transparency logs, as a public authority's; None for a private one's
    :param purpose: one of :data:`PURPOSES`, as its extended key usage
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    called = common_name or ("server" if by else f"authority {id(key)}")
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, called)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    name = x509.Name(attributes)
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
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    if timestamps is not None:
        domain_validated = x509.PolicyInformation(x509.ObjectIdentifier("2.23.140.1.2.1"), None)
        builder = builder.add_extension(x509.CertificatePolicies([domain_validated]), critical=False)
        builder = builder.add_extension(_transparency(timestamps), critical=False)
    return key, builder.sign(by[0] if by else key, hashes.SHA256())


def _transparency(timestamps: int) -> x509.UnrecognizedExtension:
    """A list of timestamps (RFC 6962, 3.3), each of a log that nobody knows."""
    one = b"\0" + bytes(32) + bytes(8) + b"\0\0" + b"\4\3" + b"\0\4" + bytes(4)
    each = len(one).to_bytes(2, "big") + one
    listed = len(each * timestamps).to_bytes(2, "big") + each * timestamps
    length = bytes([len(listed)]) if len(listed) < 128 else bytes([0x81, len(listed)])
    return x509.UnrecognizedExtension(ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS, b"\4" + length + listed)


def revocation_list(by: Signed, *serials: int, days: float = 7) -> bytes:
    """A list that an authority signs; it ends in so many days."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by[1].subject)
        .last_update(now - timedelta(days=8))
        .next_update(now + timedelta(days=days))
    )
    for serial in serials:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(now - timedelta(days=1))
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(by[0], hashes.SHA256()).public_bytes(serialization.Encoding.DER)


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
