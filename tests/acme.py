"""An authority that speaks ACME, and a server that has its certificate renewed: pebble and nginx, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from certificates import certificate, save
from conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 60


def program(name: str, package: str) -> str:
    """Where a program is; the test is skipped where it is not installed."""
    found = shutil.which(name, path=f"/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin:{Path.home()}/go/bin")
    if found is None:
        pytest.skip(
            f"{name} is not installed, so that no certificate was renewed; on Debian: apt-get install {package}"
        )
    return found


@contextmanager
def process(*words: str, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program until the end of the block."""
    with log.open("ab") as out:
        started = subprocess.Popen(words, stdout=out, stderr=out, env={"PATH": "/usr/bin:/bin"} | environ)
        try:
            yield started
        finally:
            started.terminate()
            started.wait(PATIENCE_S)


@dataclass(frozen=True)
class Authority:
    """A running pebble."""

    directory: str
    #: File with the authority that its own HTTPS is trusted by.
    ca_cert: Path
    management: str

    def root(self) -> bytes:
        """The root certificate that it issues under; it makes a new one at each start."""
        context = ssl.create_default_context(cafile=str(self.ca_cert))
        url = f"{self.management}/roots/0"
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:  # noqa: S310 - https
            return bytes(answer.read())


@contextmanager
def authority(folder: Path, http_port: int) -> Iterator[Authority]:
    """A pebble that fetches its challenges from ``http_port``, whatever the name is."""
    pebble, dns = program("pebble", "pebble"), program("pebble-challtestsrv", "pebble")
    root = certificate(None, days=(-1, 400))
    ca_cert = save(folder, "acme-root", root)
    own = save(folder, "acme", certificate(root, days=(-1, 30), names=["127.0.0.1"]))
    port, management, dns_port, dns_management = (free_port() for _ in range(4))
    config = folder / "pebble.json"
    config.write_text(
        json.dumps(
            {
                "pebble": {
                    "listenAddress": f"127.0.0.1:{port}", "managementListenAddress": f"127.0.0.1:{management}",
                    "certificate": own, "privateKey": own.removesuffix(".crt") + ".key",
                    "httpPort": http_port, "tlsPort": free_port(), "ocspResponderURL": "",
                    "externalAccountBindingRequired": False,
                }
            }
        )
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(
            process(
                dns, "-dns01", f"127.0.0.1:{dns_port}", "-management", f"127.0.0.1:{dns_management}",
                "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", log=folder / "dns.log",
            )
        )  # fmt: skip
        stack.enter_context(
            process(
                pebble, "-config", str(config), "-dnsserver", f"127.0.0.1:{dns_port}", log=folder / "pebble.log",
                # At full speed; a client has to bear a nonce that is refused, which happens one time in twenty.
                PEBBLE_VA_NOSLEEP="1",
            )
        )  # fmt: skip
        made = Authority(f"https://127.0.0.1:{port}/dir", Path(ca_cert), f"https://127.0.0.1:{management}")
        wait_until(lambda: bool(made.root()), folder / "pebble.log")
        yield made


@dataclass(frozen=True)
class Server:
    """An nginx with a certificate in ``tls/current``, and a folder for challenges."""

    folder: Path
    nginx: str
    http_port: int
    https_port: int

    @property
    def directory(self) -> Path:
        """Where its certificate is."""
        return self.folder / "tls"

    def served(self) -> str:
        """The certificate that it shows, in PEM format."""
        return ssl.get_server_certificate(("127.0.0.1", self.https_port), timeout=10)

    def reload(self) -> None:
        """Let it read its files."""
        subprocess.run(self.command("-s", "reload"), check=True, capture_output=True)

    def command(self, *words: str) -> list[str]:
        """Nginx with its configuration."""
        return [self.nginx, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr", *words]


@contextmanager
def server(folder: Path, http_port: int) -> Iterator[Server]:
    """Run nginx; ``tls/current`` has to be there."""
    made = Server(folder, program("nginx", "nginx-light"), http_port, free_port())
    temporary = "".join(
        f"    {kind}_temp_path {folder}/temporary-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "webroot").mkdir()
    (folder / "nginx.conf").write_text(f"""\
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
{temporary}    server {{ listen 127.0.0.1:{made.http_port}; root {folder}/webroot; }}
    server {{
        listen 127.0.0.1:{made.https_port} ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {made.directory}/current/fullchain.pem;
        ssl_certificate_key {made.directory}/current/privkey.pem;
    }}
}}
""")
    with process(*made.command(), log=folder / "nginx.log"):
        wait_until(lambda: bool(made.served()), folder / "nginx.log")
        yield made


def wait_until(is_so: Callable[[], bool], log: Path) -> None:
    """Ask until it is so; a server that does not answer yet is asked again."""
    end = time.monotonic() + PATIENCE_S
    while True:
        with suppress(OSError):
            if is_so():
                return
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
