"""What is said where a real server lets nobody in: limits, libraries, closed databases, TLS."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.postgres import pgtools, postgres
from ansible.module_utils.runbook.errors import RunbookError
from certificates import certificate, save
from conftest import disposable, free_port, run_module
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster
    from conftest import Database


def refusal(server: Database | Cluster, **changes: Any) -> str:
    """Connect in vain; what is said, behind the target's name."""
    target = postgres.Target("127.0.0.1", server.port, "postgres", "postgres", None)
    with (
        pytest.raises(RunbookError) as refused,
        postgres.Session(replace(target, **changes), lock_timeout_ms=1000, statement_timeout_ms=1000),
    ):
        pass
    assert refused.value.context["connection"] in ("away", "full", "refused", "tls")
    return str(refused.value.message)


def test_who_is_not_let_in(database: Database) -> None:
    name = database.name
    try:
        database.run(
            "CREATE ROLE c_idle",
            "CREATE ROLE c_full LOGIN CONNECTION LIMIT 0",
            "CREATE ROLE c_plain LOGIN",
            "CREATE ROLE c_library LOGIN",
            "ALTER ROLE c_library SET local_preload_libraries = 'nothere'",
            f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        )
        for changes, words in (
            ({"user": "c_nobody"}, "there is no role of that name"),
            ({"user": "c_idle"}, "may not log in"),
            ({"user": "c_full"}, "that role has reached its connection limit"),
            ({"user": "c_library"}, "cannot load a library"),
            ({"user": "c_plain", "database": name}, "may not connect to that database"),
            ({"database": "c_nothing"}, "there is no database of that name"),
            ({"database": "template0"}, "lets nobody in"),
            ({"host": "nothing.invalid"}, "there is no host of that name"),
            ({"host": "/nowhere"}, "it has no such socket"),
            ({"port": free_port()}, "no server answers there"),
            ({"extra": (("options", "-c nothing_such=1"),)}, "refuses a setting"),
        ):
            assert words in refusal(database, **changes)
        database.run(f"ALTER DATABASE {name} SET session_preload_libraries = 'nothere'")
        assert "cannot load a library" in refusal(database, database=name)
    finally:
        admin = replace(database, name="postgres")
        admin.run(f"ALTER DATABASE {name} RESET ALL", *(f"DROP ROLE c_{each}" for each in (
            "idle", "full", "plain", "library")))  # fmt: skip


def test_a_full_server(cluster: Cluster) -> None:
    with ExitStack() as stack:
        with suppress(psycopg2.OperationalError):
            while True:
                one = psycopg2.connect(host="127.0.0.1", port=cluster.port, user=cluster.superuser, dbname="postgres")
                stack.callback(one.close)
        assert "no free connection" in refusal(cluster)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"J\0\0\0\n8.0.36"]
)
def test_another_server_on_that_port(answer: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(100)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        target = postgres.Target("127.0.0.1", listener.getsockname()[1], "d", "u", None)
        with pytest.raises(RunbookError, match="no PostgreSQL server"):
            postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=1000)


# TLS ------------------------------------------------------------------------------------------------------------------


def tls_bindir() -> Path | None:
    """A server that was built with OpenSSL."""
    for place in pgtools.bindirs():
        if (place / "postgres").exists() and b"libssl" in (place / "postgres").read_bytes():
            return place
    return None


@pytest.fixture(scope="module")
def tls_cluster() -> Iterator[Cluster]:
    bindir = tls_bindir()
    if bindir is None:
        pytest.skip("no PostgreSQL server that was built with TLS is installed")
    with disposable(bindir, fsync="off") as made:
        yield made


def test_each_fault_of_a_certificate_has_its_sentence(tls_cluster: Cluster, tmp_path: Path, s3: Any) -> None:
    cluster, authority = tls_cluster, certificate(None)
    trusted, other = save(tmp_path, "ca", authority), save(tmp_path, "other", certificate(None))
    hba = (cluster.data / "pg_hba.conf").read_text()
    assert "speaks no TLS" in refusal(cluster, ssl_mode="require")
    try:
        for made, mode, ca_cert, words in (
            (certificate(authority, days=(-30, -1)), "verify-ca", trusted, "has expired"),
            (certificate(authority, days=(1, 30)), "verify-ca", trusted, "is not valid yet"),
            (certificate(authority, host="db.example.com"), "verify-full", trusted, "is for another host name"),
            (certificate(None), "verify-full", trusted, "signed by itself"),
            (certificate(authority), "verify-full", other, "an authority that ca_cert does not hold"),
            (certificate(authority), "verify-full", str(tmp_path / "gone.crt"), "is not there"),
            (certificate(authority), "verify-full", str(tmp_path / "ca.key"), "holds no certificate"),
        ):
            save(cluster.data, "server", made)
            cluster.stop()
            cluster.start(max_connections=60, ssl="on")
            assert words in refusal(cluster, ssl_mode=mode, ca_cert=ca_cert)
        (cluster.data / "pg_hba.conf").write_text("hostssl all all all trust\n")
        cluster.stop()
        cluster.start(max_connections=60, ssl="on")
        assert "no unencrypted connection" in refusal(cluster, ssl_mode="disable")
        # A program without TLS, beside a module with it.
        plain = next(place for place in pgtools.bindirs() if (place / "pg_dump").exists() and not _has_tls(place))
        login = {"login_host": "127.0.0.1", "login_port": cluster.port, "login_user": "postgres",
                 "login_db": "postgres", "ssl_mode": "require", "bindir": str(plain)}  # fmt: skip
        bucket = s3.bucket()
        for check in (True, False):
            backup = run_module("pg_backup", login | s3.options(bucket) | {"environment": "sandbox"}, check=check)
            assert f"{plain} were built without TLS, and ssl_mode is require" in backup.result["msg"]
        assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)
        (cluster.data / "pg_hba.conf").write_text("hostssl all all all trust clientcert=verify-ca\n")
        save(cluster.data, "root", authority)
        cluster.stop()
        cluster.start(max_connections=60, ssl="on", ssl_ca_file="root.crt")
        assert "wants a client certificate" in refusal(cluster, ssl_mode="require")
        mine = (("sslcert", other), ("sslkey", str(tmp_path / "other.key")))
        assert "does not trust the client certificate" in refusal(cluster, ssl_mode="require", extra=mine)
    finally:
        (cluster.data / "pg_hba.conf").write_text(hba)
        cluster.stop()
        cluster.start(max_connections=60)


def _has_tls(bindir: Path) -> bool:
    """Whether the client programs of a folder speak TLS: their libpq knows OpenSSL."""
    libraries = [*bindir.parent.glob("lib/libpq.so*"), *Path("/usr/lib").glob("*/libpq.so*")]
    beside = [library for library in libraries if library.is_relative_to(bindir.parent)]
    return any(b"libssl" in library.read_bytes() for library in beside or libraries)


def test_a_percent_sign_in_a_name_is_a_part_of_the_name(database: Database) -> None:
    """Beside values the driver reads it as the place of one."""
    database.run('CREATE TABLE "50% done" ("a %s" int)')
    target = postgres.Target(database.host, database.port, database.name, database.user, None)
    name, column = sql.Identifier("50% done"), sql.Identifier("a %s")
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=1000) as session:
        put = sql.SQL("INSERT INTO public.{} ({}) VALUES (%s), ({})").format(name, column, sql.Placeholder())
        assert session.execute(put, (4, 5)) == 2
        count = sql.SQL("SELECT {} AS said, count(*) FILTER (WHERE {} > %(least)s) AS rows FROM public.{}")
        found = session.query(count.format(sql.Literal("100%"), column, name), {"least": 4})
        assert found == [{"said": "100%", "rows": 1}]
        assert session.executed_queries == ['INSERT INTO public."50% done" ("a %s") VALUES (%s), (%s)']
