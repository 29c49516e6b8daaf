"""Asks a PostgreSQL server for its certificate, and OpenSSL what is wrong with it.

libpq verifies a certificate and says only that it failed; OpenSSL knows whether it has expired, is not valid yet, or
comes from an unknown authority. So the handshake is repeated here, up to that point and not further. It also tells how
long certificates last, which libpq does not say either.
"""

from __future__ import annotations

import socket
import ssl
import struct
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status

#: PostgreSQL's protocol, SSLRequest: its length, and the code in the place of a version.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


def verdict(host: str, port: int, ca_cert: str | None, *, timeout_s: float) -> str:
    """OpenSSL's words for what is wrong with the server's certificate; empty where they cannot be had.

    :param ca_cert: file with the authorities; None or ``system`` for those of this machine
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_cert in (None, "system") else ca_cert)
        context.check_hostname = False
        if host.startswith("/"):
            return ""
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) != b"S":
                return ""
            with context.wrap_socket(connection, server_hostname=host):
                return ""
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except (OSError, ValueError):
        return ""


def root_file(ssl_mode: str, ca_cert: str | None) -> Path | None:
    """The file with the authorities that libpq trusts; None where it checks no certificate, or asks this machine's."""
    if ca_cert:
        return None if ca_cert == "system" else Path(ca_cert)
    return Path("~/.postgresql/root.crt").expanduser() if ssl_mode in ("verify-ca", "verify-full") else None


def libpq_root() -> str | None:
    """The file of authorities that libpq takes where nobody names one; None where this user has none."""
    path = root_file("verify-full", None)
    return str(path) if path is not None and path.exists() else None


def authority_ends(path: Path) -> list[datetime]:
    """When each authority's certificate in a file ends.

    :raises RunbookError: the file cannot be read, or holds none
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise RunbookError(
            f"ca_cert: {path} cannot be read ({reason}); put the authorities' certificates there."
        ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise RunbookError(f"ca_cert: {path} holds no certificate in PEM format; download it again.") from None
    return [_end(each) for each in context.get_ca_certs()]


def server_end(host: str, port: int, root: Path, *, check_hostname: bool, timeout_s: float) -> datetime:
    """When the server's own certificate ends.

    :raises RunbookError: it speaks no TLS, its certificate is not accepted, or it cannot be asked (``unknown``)
    """
    try:
        context = ssl.create_default_context(cafile=str(root))
        context.check_hostname = check_hostname
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) != b"S":
                raise RunbookError(f"ssl_mode: {host}:{port} speaks no TLS; set ssl = on there.")
            with context.wrap_socket(connection, server_hostname=host) as encrypted:
                return _end(encrypted.getpeercert())
    except ssl.SSLCertVerificationError as error:
        raise RunbookError(
            f"ca_cert: the certificate of {host}:{port} is not accepted ({error.verify_message}); renew it, or correct "
            "login_host or ca_cert."
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunbookError(
            f"The certificate of {host}:{port} was not shown ({reason}); see the lines beside this one.",
            status=Status.UNKNOWN,
        ) from None


def _end(certificate: object) -> datetime:
    text = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(text, str):
        raise RunbookError("The end of a certificate could not be read.", status=Status.UNKNOWN)
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
