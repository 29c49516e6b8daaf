"""How long certificates last, asked of a server that speaks as much of PostgreSQL's protocol as TLS needs."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.postgres import tls_probe
from ansible.module_utils.runbook.errors import RunbookError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

END = dt.datetime(2036, 5, 6, 7, 8, 9, tzinfo=dt.UTC)


def certificate(folder: Path, *, ends: dt.datetime) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - dt.timedelta(days=9000))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{ends:%Y}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def serve() -> Iterator[Callable[[Path | None], int]]:
    """Start a server with a certificate, or one that speaks no TLS; its port."""
    opened: list[socket.socket] = []

    def start(pem: Path | None) -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)

        def answer() -> None:
            with listening.accept()[0] as client:
                client.recv(8)
                client.sendall(b"S" if pem else b"N")
                if pem:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(pem)
                    try:
                        context.wrap_socket(client, server_side=True).close()
                    except OSError:
                        return

        threading.Thread(target=answer, daemon=True).start()
        return int(listening.getsockname()[1])

    yield start
    for each in opened:
        each.close()


def ask(port: int, root: Path) -> dt.datetime:
    return tls_probe.server_end("127.0.0.1", port, root, check_hostname=True, timeout_s=10)


def test_the_end_of_a_server_and_of_its_authority(tmp_path, serve):
    pem = certificate(tmp_path, ends=END)
    assert tls_probe.authority_ends(pem) == [END]
    assert ask(serve(pem), pem) == END


@pytest.mark.parametrize(
    ("served", "trusted", "says"),
    [(2020, 2020, "has expired"), (2036, 2037, "is not accepted"), (None, 2036, "speaks no TLS")],
)
def test_what_is_not_accepted_has_its_sentence(served, trusted, says, tmp_path, serve):
    made = {year: certificate(tmp_path, ends=END.replace(year=year)) for year in {served, trusted} if year}
    with pytest.raises(RunbookError, match=says):
        ask(serve(made.get(served)), made[trusted])


def test_files_that_hold_no_certificate(tmp_path):
    with pytest.raises(RunbookError, match="cannot be read"):
        tls_probe.authority_ends(tmp_path / "gone.pem")
    (tmp_path / "other.pem").write_text("hello")
    with pytest.raises(RunbookError, match="no certificate in PEM format"):
        tls_probe.authority_ends(tmp_path / "other.pem")


def test_which_file_is_looked_at():
    assert tls_probe.root_file("disable", None) is None
    assert str(tls_probe.root_file("require", "/a.pem")) == "/a.pem"
    assert tls_probe.root_file("verify-full", "system") is None
    assert str(tls_probe.root_file("verify-full", None)).endswith("/.postgresql/root.crt")
