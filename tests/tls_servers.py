"""Real TLS servers on this machine, each with the certificate, the protocol and the bad habits that a test wants."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def context(path: str, *, oldest: str = "TLSv1_2", newest: str = "TLSv1_3") -> ssl.SSLContext:
    """A server's settings; ``path`` is the certificate's, with the key beside it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version, made.maximum_version = ssl.TLSVersion[oldest], ssl.TLSVersion[newest]
    made.load_cert_chain(path, path.removesuffix(".crt") + ".key")
    return made


def _line(client: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        received = client.recv(1)
        if not received:
            raise ConnectionResetError
        line += received
    return line


def _start(client: socket.socket, habit: str) -> None:
    """What comes before TLS in a protocol; a habit that begins with ``no`` offers none."""
    if habit in ("postgresql", "no postgresql"):
        assert client.recv(8) == SSL_REQUEST
        client.sendall(b"S" if habit == "postgresql" else b"N")
    elif habit in ("smtp", "no smtp"):
        client.sendall(b"220-mail.example.test\r\n220 ready\r\n")
        assert _line(client).startswith(b"EHLO ")
        client.sendall(
            b"250-mail.example.test\r\n" + (b"250-STARTTLS\r\n" if habit == "smtp" else b"") + b"250 HELP\r\n"
        )
        assert _line(client) == b"STARTTLS\r\n"
        client.sendall(b"220 go on\r\n")
    elif habit in ("imap", "no imap"):
        client.sendall(b"* OK ready\r\n")
        tag, command = _line(client).split()
        if command == b"CAPABILITY":  # OpenSSL's client asks first
            client.sendall(b"* CAPABILITY IMAP4rev2 STARTTLS\r\n" + tag + b" OK done\r\n")
            tag, command = _line(client).split()
        assert command == b"STARTTLS"
        client.sendall(b"* another word\r\n" + tag + (b" OK go on\r\n" if habit == "imap" else b" BAD no\r\n"))


@contextmanager
def serving(
    settings: ssl.SSLContext | None, *, host: str = "127.0.0.1", port: int = 0, habit: str = "", pause_s: float = 0
) -> Iterator[int]:
    """A server until the end of the block; its port.

    :param settings: None: it answers in plain text
    :param habit: ``postgresql``, ``smtp``, ``imap``; ``silent`` accepts and says nothing; ``hangs up`` at once
    :param pause_s: how long it thinks before each handshake
    """
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    over = threading.Event()

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError, AssertionError):
            client.settimeout(60)
            if habit == "silent":
                over.wait(60)
            elif habit != "hangs up":
                _start(client, habit)
                over.wait(pause_s)
                if settings is None:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                else:
                    with settings.wrap_socket(client, server_side=True) as encrypted:
                        encrypted.recv(1)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
