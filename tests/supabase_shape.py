"""A plain PostgreSQL made into the shape of a Supabase project: its roles, owners, schemas, rights and triggers.

The SQL lies in ``tests/supabase/``, written from the platform's public documentation. What the platform's extension
supautils lets its user ``postgres`` do is emulated where a grant can; else ``Shape.run_as_platform`` does it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.pgtools import Cluster, bindirs
from conftest import Database, disposable

from tools import postgres_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

SQL = Path(__file__).parent / "supabase"
#: The versions that Supabase offers.
MAJORS = (15, 17)
#: What initdb's user is called there.
PLATFORM = "supabase_admin"
#: What its owner may be: a user that is no superuser.
OWNER = "postgres"

_numbers = itertools.count()


def server_of(major: int) -> Path:
    """Folder with a server of that version, fetched where this machine has none; the test is skipped if that fails."""
    chosen = os.environ.get("PG_BINDIR")
    for folder in [*([Path(chosen)] if chosen else []), *bindirs()]:
        if all((folder / program).exists() for program in ("postgres", "initdb", "pg_ctl")) and _major(folder) == major:
            return folder
    try:
        return postgres_servers.server(major)
    except postgres_servers.UnavailableError as why:
        pytest.skip(f"no server of PostgreSQL {major} is on this machine, and {why}")


def _major(folder: Path) -> int:
    # The server's own word: client programs may lie elsewhere.
    said = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Shape:
    """A server like Supabase's."""

    cluster: Cluster
    major: int

    @property
    def platform(self) -> Database:
        """The server's superuser, which nobody outside of the platform is."""
        return Database("127.0.0.1", self.cluster.port, "postgres", PLATFORM)

    def run_as_platform(self, database: Database, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the platform does, or as supautils lets the owner do."""
        return replace(database, user=PLATFORM).run(*statements)

    @contextlib.contextmanager
    def supautils(self) -> Iterator[None]:
        """The owner may make policies on the platform's tables, as the platform's extension lets it."""
        self.platform.run("GRANT supabase_storage_admin, supabase_realtime_admin TO postgres")
        try:
            yield
        finally:
            self.platform.run("REVOKE supabase_storage_admin, supabase_realtime_admin FROM postgres")

    @contextlib.contextmanager
    def project(self, name: str = "", *, open_by_default: bool = True, filled: bool = False) -> Iterator[Database]:
        """A fresh project's database, or one with an application in it; its user is ``postgres``.

        :param open_by_default: the era in which new tables in ``public`` were everybody's
        """
        name = name or f"project_{next(_numbers)}"
        template = _template(open_by_default=open_by_default, filled=filled)
        self.platform.run(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        made = Database("127.0.0.1", self.cluster.port, name, OWNER)
        # A template's own properties are not copied.
        self.platform.run(f"GRANT ALL ON DATABASE {name} TO dashboard_user")
        try:
            yield made
        finally:
            self.platform.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _template(*, open_by_default: bool, filled: bool) -> str:
    return f"shape_{'open' if open_by_default else 'closed'}{'_filled' if filled else ''}"


def _fill(where: Database, script: str, **values: str) -> None:
    text = (SQL / f"{script}.sql").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    connection = psycopg2.connect(host=where.host, port=where.port, dbname=where.name, user=where.user)
    with connection, connection.cursor() as cursor:
        cursor.execute(text)
    connection.close()


@contextlib.contextmanager
def shape(major: int, *, filled: bool = True) -> Iterator[Shape]:
    """A server of that version in the shape, gone afterwards; the shapes are templates, made once.

    :param filled: there is one with an application in it too, whose roles are then there in all
    """
    with disposable(
        server_of(major), superuser=PLATFORM, fsync="off", autovacuum="off", wal_level="logical"
    ) as cluster:
        made = Shape(cluster, major)
        _fill(made.platform, "roles")
        made.platform.run("ALTER DATABASE postgres OWNER TO postgres")
        for open_by_default in (True, False):
            empty = replace(made.platform, name=_template(open_by_default=open_by_default, filled=False))
            made.platform.run(f"CREATE DATABASE {empty.name}")
            _fill(empty, "database", database=empty.name, open_by_default=str(open_by_default).lower())
        if filled:
            _fill_template(made)
        yield made


def _fill_template(made: Shape) -> None:
    name, empty = _template(open_by_default=True, filled=True), _template(open_by_default=True, filled=False)
    made.platform.run(f"CREATE DATABASE {name} TEMPLATE {empty} OWNER {OWNER}")
    application = replace(made.platform, name=name)
    _fill(replace(application, user=OWNER), "application")
    # The platform lets the owner make these; on a plain server only the table's own owner can.
    application.run(
        "CREATE POLICY mine ON storage.objects FOR SELECT TO authenticated USING (owner = auth.uid())",
        "CREATE POLICY rooms ON realtime.messages FOR SELECT TO authenticated USING (topic = 'room')",
    )
