"""Settings of the role and of the database are for the application: with none of them does our work come out otherwise.

All are tried at once, since each look takes seconds: once the least values, once the greatest. Where something else
comes out, the setting that does it is found by halves and named, which takes minutes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.postgres import pooler
from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres import session_settings
from conftest import Database, run_module
from psycopg2 import sql
from restored import ODDITIES, Backup, as_text

ROLE = "test_swept"

#: What is not tried, and why.
LEFT_OUT = {
    "application_name": "ours is named when a connection begins",
    "default_transaction_read_only": "it is a freeze, and a module that writes refuses it",
    "default_tablespace": "where the archive is put is the operator's choice",
    "local_preload_libraries": "the server ends a session before it begins if one is missing",
    "post_auth_delay": "it keeps every session waiting before it begins",
    "role": "under which name the user works is the operator's choice",
    "session_authorization": "it cannot be set for a role",
    "temp_file_limit": "a limit is the operator's choice",
    "vacuum_cost_limit": "with a delay, it is the operator's brake",
}
#: Where the least and the greatest value are not what hurts.
CHOSEN: dict[str, tuple[str, ...]] = {
    "DateStyle": ("SQL, DMY", "German"),
    "TimeZone": ("Asia/Kolkata", "America/St_Johns"),
    "client_encoding": ("LATIN1", "SQL_ASCII"),
    "createrole_self_grant": ("set, inherit",),
    "default_text_search_config": ("pg_catalog.german",),
    "idle_in_transaction_session_timeout": ("3s",),
    "idle_session_timeout": ("3s",),
    "lc_monetary": ("C.utf8",),
    "lock_timeout": ("3s",),
    "restrict_nonsystem_relation_kind": ("view, foreign-table",),
    "search_path": ("evil, pg_catalog", "nowhere"),
    "statement_timeout": ("3s",),
    "timezone_abbreviations": ("India",),
    "transaction_timeout": ("3s",),
    "client_min_messages": ("error", "debug1"),
    "log_min_messages": ("fatal",),
    "vacuum_cost_delay": ("1ms",),
}

#: In the way of whoever looks functions and operators up by their bare names.
EVIL = (
    "CREATE SCHEMA evil",
    "CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
    "CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'evil'::text$$",
    "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz '1999-01-01'$$",
    "CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'evil'::text$$",
)
AUDIT = (
    "DROP TABLE IF EXISTS public.audit_log, public.audit_log_archive",
    "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, note text, parts text[])",
    r"""INSERT INTO public.audit_log SELECT n, now() - interval '1 hour' * n, 'a\b''c' || n, '{"NULL",NULL,x}'
        FROM generate_series(1, 3000) n""",
)


@pytest.fixture(scope="module")
def swept(cluster, s3):
    """A filled database, and a user whose settings may be anything."""
    admin = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
    admin.run(f"CREATE ROLE {ROLE} SUPERUSER LOGIN", f"CREATE DATABASE {ROLE}")
    owner = replace(admin, name=ROLE)
    owner.run(*ODDITIES, *EVIL)
    backup = Backup(replace(owner, user=ROLE), s3, s3.bucket())
    yield backup
    backup.cleanup()
    admin.run(f"DROP DATABASE {ROLE} WITH (FORCE)", f"DROP ROLE {ROLE}")


def neutral(backup: Backup, name: str = ROLE) -> Database:
    """The same, as somebody without settings."""
    return replace(backup.database, user="postgres", name=name)


def candidates(backup: Backup) -> dict[str, list[str]]:
    """Values to try, by name."""
    rows = neutral(backup).run(
        "SELECT name, vartype, boot_val, min_val, max_val, enumvals FROM pg_settings"
        # A plan changes how long something takes, not what comes out; dozens of bad ones together take for ever.
        " WHERE context IN ('user', 'superuser') AND category !~ '^Query Tuning'"
    )
    found = {}
    for name, kind, boot, least, greatest, words in rows:
        if name in LEFT_OUT:
            continue
        if name in CHOSEN:
            values = list(CHOSEN[name])
        elif kind == "bool":
            values = ["off" if boot == "on" else "on"]
        elif kind == "enum":
            values = [word for word in words if word != boot]
            values = values[:1] + values[1:][::-1]
        else:
            values = [value for value in (least, greatest) if value not in (None, boot)]
        if values:
            found[name] = values
    return found


def put(backup: Backup, settings: dict[str, str], on: str) -> None:
    """Set them for the role or the database; those that the server lets nobody set so are skipped."""
    connection = neutral(backup, "postgres").connect()
    where = sql.SQL("ALTER {} {}").format(sql.SQL(on), sql.Identifier(ROLE))
    with connection.cursor() as cursor:
        for name, value in settings.items():
            many = name == "search_path"
            values = sql.SQL(", ").join(map(sql.Literal, value.split(", ") if many else [value]))
            try:
                cursor.execute(where + sql.SQL(" SET {} TO ").format(sql.Identifier(name)) + values)
            except psycopg2.Error:
                continue
    connection.close()


def work(backup: Backup, settings: dict[str, str], on: str) -> dict[str, Any]:
    """An archive, a vacuum, a backup and a proof under these settings; what came out, without times and names."""
    neutral(backup).run(*AUDIT)
    put(backup, settings, on)
    try:
        wanted = {"source": "public.audit_log", "archive": "public.audit_log_archive", "timestamp_column": "created_at"}
        moved = run_module("pg_archive", backup.database.login | wanted | {"older_than_days": 90})
        assert not moved.failed, moved.result["msg"]
        vacuumed = run_module("pg_vacuum", backup.database.login | {"tables": ["public.audit_log"]})
        assert not vacuumed.failed, vacuumed.result["msg"]
        backup.make()
        proven = backup.restore()
        assert not proven.failed, proven.result["msg"]
    finally:
        neutral(backup, "postgres").run(f"ALTER ROLE {ROLE} RESET ALL", f"ALTER DATABASE {ROLE} RESET ALL")
        backup.bucket = backup.s3.bucket()
    same = as_text(neutral(backup, proven.result["target_database"])) == as_text(neutral(backup))
    backup.cleanup()
    rows = neutral(backup).run("SELECT id, note, parts FROM public.audit_log_archive ORDER BY id")
    (state,) = [each["state"] for each in vacuumed.result["tables"] if each["table"] == "public.audit_log"]
    return {"rows": rows, "vacuum": state, "proof": proven.result["proof"], "same": same}


def culprits(backup: Backup, usual: dict[str, Any], settings: dict[str, str], on: str) -> list[str]:
    """The settings under which something else comes out; found by halves, since each look takes seconds."""
    try:
        found = work(backup, settings, on)
        said = ", ".join(name for name in usual if found[name] != usual[name])
    except AssertionError as error:
        said = str(error).splitlines()[0]
    if not said:
        return []
    if len(settings) == 1:
        return [f"{name} = {value!r}: {said}" for name, value in settings.items()]
    names = list(settings)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    each = [culprits(backup, usual, {name: settings[name] for name in half}, on) for half in halves]
    return each[0] + each[1] or [f"{', '.join(names)} together: {said}"]


@pytest.fixture(scope="module")
def usual(swept: Backup):
    """What comes out without any setting."""
    found = work(swept, {}, "ROLE")
    assert found["same"]
    assert found["proof"]["status"] == "ok"
    assert len(found["rows"]) == 841
    return found


@pytest.mark.parametrize(("on", "which"), [("ROLE", 0), ("DATABASE", -1)])
def test_whatever_a_role_or_a_database_sets_the_work_comes_out_the_same(swept: Backup, usual, on: str, which: int):
    settings = {name: values[which] for name, values in candidates(swept).items()}
    assert not culprits(swept, usual, settings, on)


@pytest.fixture
def contrary(swept: Backup):
    """Every value is the other one."""
    put(swept, {name: values[0] for name, values in candidates(swept).items()}, "ROLE")
    yield swept.database
    neutral(swept, "postgres").run(f"ALTER ROLE {ROLE} RESET ALL")


def session(database: Database) -> Session:
    target = Target(database.host, database.port, database.name, database.user, None)
    return Session(target, lock_timeout_ms=1000, statement_timeout_ms=60_000)


TRUSTED = session_settings.PINNED | session_settings.GUARDED | session_settings.WISHED


def test_a_session_has_what_it_relies_on(contrary: Database):
    with session(contrary) as made:
        known = {row["name"]: row["setting"] for row in made.query("SELECT name, setting FROM pg_settings")}
        text = "a\\b'c\\"
        assert made.query("SELECT %s AS text, length('\\_') AS two", (text,)) == [{"text": text, "two": 2}]
    wanted = {name: value for name, value in TRUSTED.items() if name in known}
    assert {name: known[name] for name in wanted} == wanted
    assert known["search_path"].strip('"') == "pg_catalog"
    assert known["synchronous_commit"] != "off"


def test_a_program_has_it_too(contrary: Database):
    with session(contrary) as made:
        options = made.tool_options(work_mem="5MB")
    connection = psycopg2.connect(
        host=contrary.host, port=contrary.port, user=contrary.user, dbname=contrary.name, options=options
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings")
        known = dict(cursor.fetchall())
    connection.close()
    wanted = {name: value for name, value in TRUSTED.items() if name in known} | {"client_encoding": "UTF8"}
    # psycopg2 itself sets how it is told dates.
    wanted.pop("DateStyle")
    assert {name: known[name] for name in wanted} == wanted
    assert (known["work_mem"], known["statement_timeout"]) == ("5120", "0")


def test_through_a_pooler_only_what_changes_nothing_is_left_to_the_role(swept: Backup, monkeypatch):
    monkeypatch.setattr(pooler, "is_pooled", lambda _connection: True)
    put(swept, {"TimeZone": "Asia/Kolkata", "work_mem": "64kB"}, "DATABASE")
    with session(swept.database) as made:
        assert made.tool_options() == ""
    put(swept, {"IntervalStyle": "sql_standard"}, "DATABASE")
    with session(swept.database) as made, pytest.raises(RunbookError, match="IntervalStyle of this user or database"):
        made.tool_options()
    neutral(swept, "postgres").run(f"ALTER DATABASE {ROLE} RESET ALL")


@pytest.mark.parametrize("name", sorted(session_settings.GUARDED))
def test_who_may_not_set_what_loses_data_in_silence_is_refused(swept: Backup, name: str):
    admin = neutral(swept, "postgres")
    value = "replica" if name == "session_replication_role" else "on"
    admin.run("CREATE ROLE test_small LOGIN", f"ALTER ROLE test_small SET {name} TO {value}")
    try:
        with pytest.raises(RunbookError, match=f"{name} is not .* RESET {name}"):
            session(replace(swept.database, user="test_small"))
    finally:
        admin.run("DROP ROLE test_small")
