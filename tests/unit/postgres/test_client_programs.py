"""Which of PostgreSQL's client programs are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.backup import backup, restore
from ansible.module_utils.runbook.drivers.postgres import pgtools
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from pathlib import Path


def programs(folder: Path, version: str, *, tls: bool) -> Path:
    """A folder with programs that say their version, and whether they were built with TLS."""
    says = "no such file" if tls else 'sslmode value "x" invalid when SSL support is not compiled in'
    folder.mkdir()
    for name in (*backup.PROGRAMS, "pg_restore"):
        words = f'[ "$1" = --version ] && echo "{name} (PostgreSQL) {version}" && exit'
        (folder / name).write_text(f"#!/bin/sh\n{words}\necho '{says}' >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    return folder


def test_programs_without_tls_do_not_reach_a_server_that_wants_it(tmp_path, monkeypatch):
    plain, able = programs(tmp_path / "plain", "16.4", tls=False), programs(tmp_path / "able", "17.2", tls=True)
    monkeypatch.setattr(pgtools, "bindirs", lambda: [plain, able])
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert backup.find_client(None, 160_004, ssl_mode="prefer").bindir == plain
    assert backup.find_client(None, 160_004, ssl_mode="verify-full").bindir == able
    assert restore.find_clients(None, ssl_mode="require") == {str(able): 17}
    for look in (
        lambda: backup.find_client(str(plain), 160_004, ssl_mode="require"),
        lambda: restore.find_clients(str(plain), ssl_mode="require"),
    ):
        with pytest.raises(RunbookError, match="plain were built without TLS, and ssl_mode is require"):
            look()


def test_programs_with_tls_that_are_older_than_the_server_do_not_hide_those_without(tmp_path, monkeypatch):
    plain, old = programs(tmp_path / "plain", "18.1", tls=False), programs(tmp_path / "old", "15.2", tls=True)
    monkeypatch.setattr(pgtools, "bindirs", lambda: [old, plain])
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(RunbookError, match="plain were built without TLS"):
        backup.find_client(None, 160_004, ssl_mode="require")
