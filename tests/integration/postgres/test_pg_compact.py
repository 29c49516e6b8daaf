"""Module pg_compact against a real server: plain VACUUM and VACUUM FULL anywhere, pg_repack where the server has it."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Database, Outcome, hold_lease, run_module, this_run
from repack import repack_cluster, repack_database

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["repack_cluster", "repack_database"]

ROWS = 20_000
LIMITS: dict[str, Any] = {"min_size_bytes": 100_000}


def compact(database: Database, *, check: bool = False, diff: bool = False, **options: Any) -> Outcome:
    return run_module("pg_compact", database.login | LIMITS | options, check=check, diff=diff)


def outage(hours: float = 1) -> dict[str, Any]:
    """Options that allow VACUUM FULL."""
    until = datetime.now(UTC) + timedelta(hours=hours)
    return {"allow_exclusive_lock": True, "maintenance_until": until.isoformat()}


def states(outcome: Outcome) -> dict[str, tuple[str, str]]:
    return {one["table"]: (one["action"], one["state"]) for one in outcome.result["tables"]}


def files(database: Database) -> list[tuple[Any, ...]]:
    """What a rewrite would change, and the next transaction id."""
    return database.run(
        "SELECT oid, relname, relfilenode, pg_relation_size(oid), pg_snapshot_xmax(pg_current_snapshot())::text"
        " FROM pg_class WHERE relkind IN ('r', 'm', 'i', 't') ORDER BY 1"
    )


def fill(database: Database) -> None:
    """Table ``holes``: four fifths of it are bloat, all over it; ``tail``: its end is empty; ``clean``: none."""
    for table in ("holes", "tail", "clean"):
        database.run(
            f"CREATE TABLE {table} (id int PRIMARY KEY, n text NOT NULL)",
            f"INSERT INTO {table} SELECT i, 'n' || i || repeat('x', 50) FROM generate_series(1, {ROWS}) AS i",
        )
    database.run(
        "DELETE FROM holes WHERE id % 5 <> 0", f"DELETE FROM tail WHERE id > {ROWS // 4}", "CREATE INDEX ON holes (n)"
    )
    # Otherwise this VACUUM gives the end of tail back.
    database.run("VACUUM (TRUNCATE false, ANALYZE)")


@pytest.fixture
def bloated(database: Database) -> Database:
    hold_lease(this_run(), database)
    fill(database)
    return database


def digest(database: Database, table: str) -> Any:
    return database.one(f"SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM {table} AS t")


def test_without_an_online_way_the_table_is_left_and_said(bloated: Database) -> None:
    before = files(bloated)
    planned = compact(bloated, check=True, diff=True)
    assert files(bloated) == before
    assert not planned.failed, planned.result["msg"]
    assert states(planned) == {"public.holes": ("none", "needs_outage"), "public.tail": ("truncate", "planned")}
    assert planned.result["pg_repack"] is None
    assert planned.result["pg_repack_refusal"].startswith("the extension pg_repack is not installed")

    done = compact(bloated, diff=True)
    assert not done.failed, done.result["msg"]
    assert done.result["status"] == "ok"
    # The share of bloat moves while clients write.
    shown = [re.sub(r"[\d.]+ % of", "% of", one.result["diff"]["prepared"]) for one in (done, planned)]
    assert shown[0] == shown[1]
    assert done.result["executed_queries"] == planned.result["executed_queries"]
    assert states(done) == {"public.holes": ("none", "needs_outage"), "public.tail": ("truncate", "done")}
    assert "1 table not possible without an outage: public.holes (the extension pg_repack is not" in done.result["msg"]
    assert "Not compacted: public.holes" in str(done.result["warnings"])
    (tail,) = (one for one in done.result["tables"] if one["table"] == "public.tail")
    assert tail["size_after_bytes"] == bloated.one("SELECT pg_total_relation_size('tail')")
    assert tail["size_after_bytes"] < 0.6 * tail["size_before_bytes"]

    again = compact(bloated)
    assert again.result["changed"] is False
    assert again.result["executed_queries"] == []


def test_vacuum_full_in_an_outage(bloated: Database) -> None:
    before = {table: digest(bloated, table) for table in ("holes", "tail", "clean")}
    planned = compact(bloated, check=True, diff=True, **outage())
    done = compact(bloated, diff=True, **outage())
    assert not done.failed, done.result["msg"]
    assert states(done) == {"public.holes": ("vacuum_full", "done"), "public.tail": ("truncate", "done")}
    assert done.result["executed_queries"] == planned.result["executed_queries"]
    assert done.result["executed_queries"][1] == 'VACUUM (FULL, ANALYZE) "public"."holes"'
    assert done.result["compacted_tables"] == 2
    assert done.result["size_after_bytes"] < 0.5 * done.result["size_before_bytes"]
    (holes,) = (one for one in done.result["tables"] if one["table"] == "public.holes")
    assert holes["estimate_s"] > 0
    assert {table: digest(bloated, table) for table in before} == before
    again = compact(bloated, **outage())
    assert again.result["changed"] is False
    assert again.result["msg"].startswith("Nothing to do: none of ")


def test_toast_counts(database: Database) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "ALTER TABLE t ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 500) AS i",
        "DELETE FROM t WHERE id % 5 <> 0",
    )
    database.run("VACUUM ANALYZE")
    done = compact(database, **outage())
    assert states(done) == {"public.t": ("vacuum_full", "done")}
    assert done.result["size_after_bytes"] < 0.3 * done.result["size_before_bytes"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"allow_exclusive_lock": True}, "say in maintenance_until when it comes back"),
        ({"maintenance_until": "2090-01-01T00:00:00Z"}, "add allow_exclusive_lock: true"),
        ({"allow_exclusive_lock": True, "maintenance_until": "tonight"}, "'tonight' is no moment"),
        ({"allow_exclusive_lock": True, "maintenance_until": "2090-01-01T00:00:00"}, "write it with its zone"),
        (
            {"allow_exclusive_lock": True, "maintenance_until": "2001-01-01T00:00:00Z"},
            "2001-01-01T00:00:00Z has passed",
        ),
        ({"min_bloat_percent": 0}, "min_bloat_percent: 0 is no share"),
        ({"jobs": 0}, "jobs: 0 is out of bounds"),
        ({"lock_timeout_ms": 0}, "lock_timeout_ms: 0 is out of bounds"),
        ({"deadline_s": 0}, "deadline_s: 0 is out of bounds"),
        ({"free_disk_bytes": -1}, "free_disk_bytes: -1 is out of bounds"),
        ({"login_db": ""}, "login_db is empty"),
    ],
)
def test_bad_options_are_refused_before_anything_changes(bloated: Database, options: dict[str, Any], said: str) -> None:
    before = files(bloated)
    refused = compact(bloated, **options)
    assert refused.failed
    assert said in refused.result["msg"]
    assert refused.result["changed"] is False
    assert files(bloated) == before


def test_the_disk_is_looked_at_first(bloated: Database) -> None:
    full = compact(bloated, **outage(), free_disk_bytes=1000)
    assert full.failed
    assert states(full) == {"public.holes": ("vacuum_full", "no_space"), "public.tail": ("truncate", "done")}
    assert "1,000 B of disk are free" in full.result["msg"]


def test_rights_are_told(bloated: Database) -> None:
    bloated.run(
        "DROP ROLE IF EXISTS compact_stranger",
        "CREATE ROLE compact_stranger LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO compact_stranger",
    )
    try:
        outcome = compact(bloated, login_user="compact_stranger")
        assert states(outcome) == {
            "public.holes": ("none", "not_permitted"),
            "public.tail": ("none", "not_permitted"),
        }
        assert outcome.result["changed"] is False
        # Before PostgreSQL 17 there is no MAINTAIN to grant.
        has_maintain = bloated.one("SELECT current_setting('server_version_num')::int >= 170000")
        fix = "run playbooks/db_roles.yml" if has_maintain else "connect as a superuser, who owns them"
        assert f"which this user may not; {fix}" in str(outcome.result["warnings"])
    finally:
        bloated.run("DROP OWNED BY compact_stranger", "DROP ROLE compact_stranger")


def test_unknown_is_never_green(database: Database) -> None:
    database.run(f"CREATE TABLE t AS SELECT i AS id, 'n' || i AS n FROM generate_series(1, {ROWS}) AS i")
    outcome = compact(database)
    assert outcome.result["status"] == "unknown"
    assert outcome.result["unknown"] == ["public.t"]


def test_odd_names(database: Database) -> None:
    schema, table = 'Odd "schema".x', "t" * 60 + "'\"y"
    quoted = '"{}"."{}"'.format(*(part.replace('"', '""') for part in (schema, table)))
    database.run(
        'CREATE SCHEMA "Odd ""schema"".x"',
        f"CREATE TABLE {quoted} AS SELECT i AS id, repeat('x', 50) AS n FROM generate_series(1, {ROWS}) AS i",
        f"DELETE FROM {quoted} WHERE id % 5 <> 0",
    )
    database.run("VACUUM ANALYZE")
    done = compact(database, **outage())
    assert [one["state"] for one in done.result["tables"]] == ["done"], done.result["msg"]


@pytest.fixture
def repacked(repack_database: Database) -> Database:
    hold_lease(this_run(), repack_database)
    fill(repack_database)
    return repack_database


def test_pg_repack_while_clients_write(repacked: Database) -> None:
    """None of them fails, none of their rows is lost, and a second run finds nothing."""
    before = files(repacked)
    planned = compact(repacked, check=True, diff=True)
    assert files(repacked) == before
    assert states(planned) == {"public.tail": ("truncate", "planned"), "public.holes": ("pg_repack", "planned")}
    stop, failed, written = threading.Event(), [], [0]

    def write() -> None:
        connection = repacked.connect()
        with connection.cursor() as cursor:
            while not stop.is_set():
                try:
                    cursor.execute("INSERT INTO holes VALUES (%s, 'new')", (ROWS + 1 + written[0],))
                    cursor.execute("UPDATE holes SET n = n || '!' WHERE id = %s", (5 * (written[0] % 1000 + 1),))
                    written[0] += 1
                except Exception as error:
                    failed.append(error)
                    return
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = compact(repacked, diff=True)
    finally:
        stop.set()
        writer.join()
    assert not done.failed, done.result["msg"]
    assert done.result["status"] == "ok"
    assert failed == []
    assert written[0] > 0
    # The share of bloat moves while clients write.
    shown = [re.sub(r"[\d.]+ % of", "% of", one.result["diff"]["prepared"]) for one in (done, planned)]
    assert shown[0] == shown[1]
    assert done.result["executed_queries"] == planned.result["executed_queries"]
    assert states(done) == {"public.tail": ("truncate", "done"), "public.holes": ("pg_repack", "done")}
    assert done.result["size_after_bytes"] < 0.7 * done.result["size_before_bytes"]
    assert repacked.one("SELECT count(*) FROM holes") == ROWS // 5 + written[0]
    assert repacked.one("SELECT count(*) FROM pg_trigger WHERE tgname = 'repack_trigger'") == 0
    assert (
        repacked.one("SELECT count(*) FROM pg_class WHERE relnamespace = 'repack'::regnamespace AND relkind = 'r'") == 0
    )
    again = compact(repacked)
    assert again.result["changed"] is False, again.result["msg"]


def test_pg_repack_stops_no_subscriber(repacked: Database) -> None:
    """Its own tables would be published with all others, and nobody has them."""
    repacked.run("CREATE PUBLICATION every FOR ALL TABLES")
    with repacked.following("told"):
        done = compact(repacked)
    assert "publication every would publish the tables that pg_repack works with" in done.result["pg_repack_refusal"]
    assert states(done)["public.holes"] == ("none", "needs_outage")


def test_a_table_without_a_key_is_named(repacked: Database) -> None:
    repacked.run("ALTER TABLE holes DROP CONSTRAINT holes_pkey")
    outcome = compact(repacked, check=True)
    assert not outcome.failed
    assert states(outcome)["public.holes"] == ("none", "no_key")
    assert "needs a primary key" in str(outcome.result["warnings"])
    assert states(compact(repacked, check=True, **outage()))["public.holes"] == ("vacuum_full", "planned")


@pytest.mark.parametrize(
    ("version", "said"), [("1.4.7", "and the program on this machine of 1.4.7"), (None, "no prog")]
)
def test_a_client_of_another_version_is_not_used(
    repacked: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, said: str
) -> None:
    from ansible.module_utils.runbook.drivers.postgres import compact as driver  # noqa: PLC0415 - its search is turned aside
    from ansible.module_utils.runbook.drivers.postgres import pgtools, postgres  # noqa: PLC0415

    if version:
        program = tmp_path / "pg_repack"
        program.write_text(f"#!/bin/sh\necho pg_repack {version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pgtools, "bindirs", list)
    target = postgres.Target(repacked.host, repacked.port, repacked.name, repacked.user, None)
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=10_000) as session:
        client, refusal = driver.repack_client(session)
    assert client is None
    assert said in (refusal or "")


def test_who_is_no_superuser_needs_a_newer_pg_repack(repacked: Database) -> None:
    repacked.run(
        "DROP ROLE IF EXISTS compact_owner",
        "CREATE ROLE compact_owner LOGIN",
        "ALTER TABLE holes OWNER TO compact_owner",
        "GRANT ALL ON SCHEMA repack TO compact_owner",
    )
    try:
        outcome = compact(repacked, check=True, login_user="compact_owner")
        (holes,) = (one for one in outcome.result["tables"] if one["table"] == "public.holes")
        if repacked.one("SELECT repack.version_sql()") < "pg_repack 1.5.2":
            assert holes["state"] == "needs_outage"
            assert "works for superusers only" in holes["error"]
        else:
            assert holes["state"] == "planned"
    finally:
        repacked.run("REASSIGN OWNED BY compact_owner TO CURRENT_USER", "DROP OWNED BY compact_owner")
        repacked.run("DROP ROLE compact_owner")


def test_the_roles_get_what_pg_repack_needs(repacked: Database) -> None:
    options = repacked.login | {"environment": "sandbox"}
    groups = ("runbook_read", "runbook_maintain", "runbook_backup", "runbook_restore")
    try:
        made = run_module("pg_roles", options)
        assert not made.failed, made.result["msg"]
        rights = "has_schema_privilege('runbook_maintain', 'repack', {})"
        assert repacked.one(f"SELECT {rights.format(repr('USAGE'))} AND {rights.format(repr('CREATE'))}")
        assert run_module("pg_roles", options).result["changed"] is False
    finally:
        repacked.run(*(f"DROP OWNED BY {name} CASCADE" for name in groups), *(f"DROP ROLE {name}" for name in groups))


def test_leftovers_of_a_killed_pg_repack_are_dropped(repacked: Database) -> None:
    """Made as pg_repack makes them; one table of the two was dropped since."""
    oid = repacked.one("SELECT 'clean'::regclass::oid::int")
    repacked.run(
        f"CREATE TYPE repack.pk_{oid} AS (id int)",
        f"CREATE TABLE repack.log_{oid} (id bigserial PRIMARY KEY, pk repack.pk_{oid}, row public.clean)",
        "CREATE TRIGGER repack_trigger AFTER INSERT OR DELETE OR UPDATE ON clean FOR EACH ROW EXECUTE PROCEDURE"
        f" repack.repack_trigger('INSERT INTO repack.log_{oid}(pk, row) VALUES(NULL, $2)')",
        f"CREATE TABLE repack.table_{oid} AS SELECT * FROM clean LIMIT 10",
        "CREATE TYPE repack.pk_4294967295 AS (id int)",
    )
    planned = compact(repacked, check=True, min_bloat_percent=99)
    names = {"public.clean": ("clean_up", "planned"), "table 4294967295, which was dropped": ("clean_up", "planned")}
    assert states(planned) == names
    assert (
        f"trigger repack_trigger, table repack.log_{oid}, table repack.table_{oid}"
        in planned.result["tables"][0]["reason"]
    )
    done = compact(repacked, min_bloat_percent=99)
    assert not done.failed, done.result["msg"]
    assert done.result["cleaned_tables"] == 2
    assert done.result["executed_queries"] == planned.result["executed_queries"]
    assert repacked.one("SELECT count(*) FROM pg_trigger WHERE tgname = 'repack_trigger'") == 0
    assert repacked.one("SELECT count(*) FROM pg_class WHERE relname ~ '^(log|table|pk)_[0-9]+'") == 0
    assert compact(repacked, min_bloat_percent=99).result["changed"] is False


def test_no_secret_leaves_the_module(repacked: Database) -> None:
    canary = "canary-91c4"
    outcome = compact(repacked, login_password=canary)
    assert not outcome.failed
    assert canary not in json.dumps({key: value for key, value in outcome.result.items() if key != "invocation"})
    assert canary not in outcome.stderr
