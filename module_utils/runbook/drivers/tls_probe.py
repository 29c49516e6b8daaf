"""Asks a PostgreSQL server for its certificate, and OpenSSL what is wrong with it.

libpq verifies a certificate and says only that it failed; OpenSSL knows whether it has expired, is not valid yet, or
comes from an unknown authority. So the handshake is repeated here, up to that point and not further.
"""

from __future__ import annotations

import socket
import ssl
import struct

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
