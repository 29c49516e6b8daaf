"""nginx, Prometheus and Alertmanager for a test, as the sandbox starts them."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pytest
from ansible.module_utils.runbook.drivers.sandbox.services import Prometheus, Service
from certificates import certificate, save

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_S = TypeVar("_S", bound=Service)


@contextmanager
def running(service: _S) -> Iterator[_S]:
    """Run it for the block; the test is skipped where it is not installed."""
    if service.missing():
        pytest.skip(service.missing())
    started = service.start()
    try:
        yield started
    finally:
        started.stop()


@dataclass(frozen=True)
class GuardedPrometheus(Prometheus):
    """Asks for a user and a password, with a certificate of an authority of its own, as its web.config.file says."""

    #: Its authority; :meth:`made` writes it.
    ca_cert: str = ""

    #: Of Prometheus' own documentation, since a hash takes a library that nothing else here needs.
    user = "runbook"
    password = "test"
    hashed = "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay"

    @classmethod
    def made(cls, folder: Path) -> GuardedPrometheus:
        """With its certificates."""
        folder.mkdir(mode=0o700)
        authority = certificate(None)
        save(folder, "server", certificate(authority))
        return cls(folder, ca_cert=save(folder, "authority", authority))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def files(self) -> dict[str, str]:
        guarded = {
            "basic_auth_users": {self.user: self.hashed},
            "tls_server_config": {"cert_file": "server.crt", "key_file": "server.key"},
        }
        return super().files() | {"web.yml": json.dumps(guarded)}

    def words(self, program: str) -> list[str]:
        return [*super().words(program), f"--web.config.file={self.folder / 'web.yml'}"]

    def answers(self) -> bool:
        # Without a password it says no, and so that it is there.
        trusted = ssl.create_default_context(cafile=self.ca_cert)
        try:
            urllib.request.urlopen(self.url + self.ready, timeout=5, context=trusted)  # noqa: S310 - https, from here
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True
