"""A plain PostgreSQL made into the shape of a Supabase project: its roles, owners, schemas, rights and triggers.

The shape is that of the sandbox (``rules/sandbox/demo_project.py``); ``tests/supabase/`` holds an application with all
that is hard to restore. What the platform's extension supautils lets ``postgres`` do, ``Shape.run_as_platform`` does.
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
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, bindirs
from ansible.module_utils.runbook.rules.sandbox import demo_project
from ansible.module_utils.runbook.rules.supabase.managed import OWNER, SUPERUSER
from conftest import Database, disposable

from tools import postgres_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION = Path(__file__).parent / "supabase" / "application.sql"
#: The versions that Supabase offers.
MAJORS = (15, 17)

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
        return Database("127.0.0.1", self.cluster.port, "postgres", SUPERUSER)

    @property
    def first(self) -> Database:
        """The one database that a project has at Supabase: ``postgres``, of user ``postgres``; fresh at the start."""
        return replace(self.platform, user=OWNER)

    def run_as_platform(self, database: Database, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the platform does, or as supautils lets the owner do."""
        return replace(database, user=SUPERUSER).run(*statements)

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


def _fill(where: Database, text: str) -> None:
    connection = psycopg2.connect(host=where.host, port=where.port, dbname=where.name, user=where.user)
    with connection, connection.cursor() as cursor:
        cursor.execute(text)
    connection.close()


@contextlib.contextmanager
def shape(major: int, *, filled: bool = True) -> Iterator[Shape]:
    """A server of that version in the shape, gone afterwards; the shapes are templates, made once.

    :param filled: there is one with an application in it too, whose roles are then there in all
    """
    programs = server_of(major)
    # The matrix's folder of programs holds links.
    library = next(((programs / "postgres").resolve().parent.parent / "lib").rglob("pg_stat_statements.*"), None)
    settings = {"shared_preload_libraries": "pg_stat_statements"} if library else {}
    with disposable(
        programs, superuser=SUPERUSER, autovacuum_naptime="12h", wal_level="logical", **settings
    ) as cluster:
        made = Shape(cluster, major)
        for step in demo_project.roles():
            _fill(made.platform, step.sql)
        for open_by_default in (True, False):
            empty = replace(made.platform, name=_template(open_by_default=open_by_default, filled=False))
            made.platform.run(f"CREATE DATABASE {empty.name}")
            _fill(empty, demo_project.database(open_by_default=open_by_default))
        if filled:
            _fill_template(made)
        _make_first_project(made)
        yield made


def _make_first_project(made: Shape) -> None:
    """The server's own database ``postgres`` is a fresh project, as at Supabase."""
    elsewhere = replace(made.platform, name="template1")
    template = _template(open_by_default=True, filled=False)
    elsewhere.run("DROP DATABASE postgres", f"CREATE DATABASE postgres TEMPLATE {template} OWNER {OWNER}")
    made.platform.mark("sandbox")


def _fill_template(made: Shape) -> None:
    name, empty = _template(open_by_default=True, filled=True), _template(open_by_default=True, filled=False)
    made.platform.run(f"CREATE DATABASE {name} TEMPLATE {empty} OWNER {OWNER}")
    application = replace(made.platform, name=name)
    _fill(replace(application, user=OWNER), APPLICATION.read_text())
    # The platform lets the owner make these; on a plain server only the table's own owner can.
    application.run(
        "CREATE POLICY mine ON storage.objects FOR SELECT TO authenticated USING (owner = auth.uid())",
        "CREATE POLICY rooms ON realtime.messages FOR SELECT TO authenticated USING (topic = 'room')",
    )
