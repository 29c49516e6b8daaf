"""The pooler check against a real PgBouncer, in transaction, statement and session mode."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.postgres import pooler
from ansible.module_utils.runbook.drivers.postgres.pgtools import unprivileged
from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
from ansible.module_utils.runbook.errors import RunbookError
from conftest import Database, free_port, run_module

if TYPE_CHECKING:
    from collections.abc import Iterator

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None, reason="NOT TESTED: pgbouncer is not installed (apt-get install pgbouncer)"
)


class Bouncer:
    """A PgBouncer before one database."""

    def __init__(self, folder: Path, database: Database, **settings: object) -> None:
        self.port = free_port()
        self.database = database
        users = folder / "users.txt"
        users.write_text(f'"{database.user}" ""\n')
        chosen: dict[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": users,
            "ignore_startup_parameters": "extra_float_digits",
        }
        lines = [
            "[databases]",
            f"{database.name} = host={database.host} port={database.port} dbname={database.name}",
            "[pgbouncer]",
            *(f"{key} = {value}" for key, value in (chosen | settings).items()),
        ]
        config = folder / "pgbouncer.ini"
        config.write_text("\n".join(lines) + "\n")
        folder.chmod(0o755)
        assert PGBOUNCER is not None
        self.log = folder / "pgbouncer.log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [*unprivileged(Path(PGBOUNCER)), PGBOUNCER, str(config)], stdout=out, stderr=out
            )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)

    def connect(self) -> Any:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname=self.database.name, user=self.database.user
        )
        connection.autocommit = True
        return connection

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self.port, self.database.name, self.database.user, None, "disable")


@pytest.fixture
def bouncers(database: Database, tmp_path: Path) -> Iterator[Any]:
    """Makes poolers; all are stopped afterwards."""
    made: list[Bouncer] = []

    def make(**settings: object) -> Bouncer:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Bouncer(folder, database, **settings))
        return made[-1]

    yield make
    for bouncer in made:
        bouncer.stop()


def test_a_direct_connection_is_its_own_session(database: Database) -> None:
    connection = database.connect()

    def never() -> Any:
        raise AssertionError("a direct connection needs no second client")

    assert not pooler.is_pooled(connection)
    pooler.require_session(connection, never, "here")
    connection.close()


@needs_pgbouncer
@pytest.mark.parametrize("settings", [{}, {"server_round_robin": 1}, {"default_pool_size": 1}])
def test_a_transaction_pooler_is_refused_with_the_fix(bouncers: Any, settings: dict[str, Any]) -> None:
    bouncer = bouncers(pool_mode="transaction", **settings)
    # A pool that has more than one server session, all idle.
    clients = [bouncer.connect() for _ in range(1 if "default_pool_size" in settings else 4)]
    for client in clients:
        client.autocommit = False
        client.cursor().execute("SELECT 1")
    for client in clients:
        client.rollback()
    connection = bouncer.connect()
    assert pooler.is_pooled(connection)
    with pytest.raises(RunbookError, match=r"transaction mode.*pool_mode=session"):
        pooler.require_session(connection, bouncer.connect, str(bouncer.target))
    for client in [*clients, connection]:
        client.close()


@needs_pgbouncer
def test_a_statement_pooler_is_refused(bouncers: Any) -> None:
    bouncer = bouncers(pool_mode="statement")
    connection = bouncer.connect()
    with pytest.raises(RunbookError, match="transaction mode"):
        pooler.require_session(connection, bouncer.connect, str(bouncer.target))
    connection.close()


@needs_pgbouncer
def test_a_session_pooler_will_do(bouncers: Any) -> None:
    bouncer = bouncers(pool_mode="session", default_pool_size=2)
    connection = bouncer.connect()
    assert pooler.is_pooled(connection)
    pooler.require_session(connection, bouncer.connect, str(bouncer.target))
    connection.close()


@needs_pgbouncer
def test_a_session_pooler_without_a_second_session_is_refused_in_bounded_time(
    bouncers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler, "PROBE_TIMEOUT_S", 0.5)
    bouncer = bouncers(pool_mode="session", default_pool_size=1)
    connection = bouncer.connect()
    with pytest.raises(RunbookError, match=r"no second session within 0\.5 s.*pool size"):
        pooler.require_session(connection, bouncer.connect, str(bouncer.target))
    connection.close()


@needs_pgbouncer
def test_a_refused_pooler_hands_no_setting_of_ours_to_the_application(bouncers: Any) -> None:
    bouncer = bouncers(pool_mode="transaction", default_pool_size=1)
    with pytest.raises(RunbookError, match="transaction mode"):
        Session(bouncer.target, lock_timeout_ms=1000, statement_timeout_ms=1000)
    application = bouncer.connect()
    with application.cursor() as cursor:
        cursor.execute("SELECT current_setting('search_path'), current_setting('lock_timeout')")
        assert cursor.fetchone() == ('"$user", public', "0")
    application.close()


@needs_pgbouncer
def test_a_session_behind_a_session_pooler_has_its_settings(bouncers: Any) -> None:
    bouncer = bouncers(pool_mode="session", default_pool_size=2)
    with Session(bouncer.target, lock_timeout_ms=1000, statement_timeout_ms=2000) as session:
        assert session.query("SHOW lock_timeout") == [{"lock_timeout": "1s"}]
        assert session.query("SHOW search_path") == [{"search_path": "pg_catalog"}]


@needs_pgbouncer
def test_vacuum_refuses_a_transaction_pooler_and_goes_through_a_session_pooler(
    bouncers: Any, database: Database
) -> None:
    database.run("CREATE TABLE t AS SELECT 1 AS i", "CREATE TABLE u AS SELECT 1 AS i")
    login = database.login
    refused = run_module("pg_vacuum", login | {"login_port": bouncers(pool_mode="transaction").port})
    assert refused.failed
    assert "transaction mode" in refused.result["msg"]
    assert database.one("SELECT count(*) FROM pg_stat_user_tables WHERE last_vacuum IS NOT NULL") == 0
    done = run_module("pg_vacuum", login | {"login_port": bouncers(pool_mode="session", default_pool_size=3).port})
    assert not done.failed, done.result["msg"]
    states = {entry["table"]: entry["state"] for entry in done.result["tables"]}
    # A table of the catalogue may need it as well.
    assert states["public.t"] == states["public.u"] == "done"
    assert set(states.values()) == {"done"}
    assert "warnings" not in done.result
