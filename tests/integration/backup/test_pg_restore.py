"""pg_restore against a real PostgreSQL and a real S3 server: what comes back is what was there, and is proven to be."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from typing import Any, cast

import psutil
import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.backup import backup as backup_driver
from ansible.module_utils.runbook.drivers.backup import new_database
from ansible.module_utils.runbook.drivers.backup import proof as proof_driver
from ansible.module_utils.runbook.drivers.backup import restore as driver
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import command_line
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import proof as proofs
from ansible.module_utils.runbook.rules.backup.swap import Marker
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from conftest import Database, module_process, run_module
from restored import ODDITIES, SIMPLE, Backup, as_text, made

from playbooks import Project


@pytest.fixture
def odd(database, s3):
    yield from made(database, s3, ODDITIES)


@pytest.fixture
def simple(database, s3):
    yield from made(database, s3, SIMPLE)


def new(backup: Backup, result: dict[str, Any]) -> Database:
    return replace(backup.database, name=result["target_database"])


def marker(backup: Backup, name: str) -> Marker:
    found = Marker.read(backup.others()[name])
    assert found is not None
    return found


def test_everything_comes_back_as_it_was(odd: Backup):
    before = as_text(odd.database)
    taken = odd.make()
    outcome = odd.restore()
    result = outcome.result
    assert not outcome.failed, result["msg"]
    assert result["changed"]
    assert result["status"] == "ok"
    assert result["proof"]["status"] == "ok"
    assert not result["proof"]["differs"]
    assert not result["proof"]["unknown"]
    assert result["target_database"] == f"{odd.database.name}_restore_{taken['backup_id']}"
    assert as_text(new(odd, result)) == before
    assert as_text(odd.database) == before
    # Every table that holds rows was compared, and the large objects.
    tables = odd.database.one(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname !~ '^pg_'"
    )
    assert result["proof"]["compared"] == tables + 1
    assert new(odd, result).one("SELECT count(*) FROM public.sums") == 4
    assert new(odd, result).one("SELECT reltuples FROM pg_class WHERE oid = 'public.types'::regclass") == 1503
    state = marker(odd, result["target_database"])
    assert (state.state, state.database, state.backup_id) == ("proven", odd.database.name, taken["backup_id"])
    # Nobody but its owner gets in before it is swapped.
    assert not odd.admin().one(f"SELECT has_database_privilege('pg_monitor', '{result['target_database']}', 'CONNECT')")


def test_a_stop_that_cancels_the_clearing_up_leaves_nothing_either(database, monkeypatch):
    """The thread that notices a signal cancels what the session does, and may be late."""
    login = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | database.login
    found, late = new_database._making_of, [psycopg2.errors.QueryCanceled()]

    def making_of(session):
        if late:
            raise late.pop()
        return found(session)

    def told_to_stop():
        raise SystemExit

    monkeypatch.setattr(new_database, "_making_of", making_of)
    with driver.connect(postgres.Target.from_params(login)) as session:
        source = backup_driver.read_source(session)
        monkeypatch.setattr(session, "transaction", told_to_stop)
        with pytest.raises(SystemExit):
            new_database.create(session, "copy", source, Marker("restoring", database.name, ""))
        assert late == []
        assert found(session) == []


def test_the_rules_of_a_locale_go_along(database, s3):
    """Without them text sorts otherwise, and rows do not fit into their partitions any more."""
    rules = "&V << w <<< W"
    login = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | database.login
    with driver.connect(postgres.Target.from_params(login)) as session:
        source = replace(backup_driver.read_source(session), locale_provider="icu", icu_locale="de", icu_rules=rules)
        first, _ = new_database.creation(session, "copy", source, Marker("restoring", database.name, ""))
        assert f"ICU_LOCALE 'de' ICU_RULES '{rules}'" in session.render(first)
        if session.server_version < 160000 or not session.query("SELECT FROM pg_collation WHERE collprovider = 'i'"):
            return
    database = replace(database, name=f"{database.name}_icu")
    admin = replace(database, name="postgres")
    admin.run(
        f"CREATE DATABASE {database.name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '{rules}'"
    )
    database.mark("sandbox")
    try:
        parts = ("PARTITION OF w FOR VALUES FROM ('a') TO ('vz')", "PARTITION OF w FOR VALUES FROM ('vz') TO ('zz')")
        tables = [f"CREATE TABLE w{number} {part}" for number, part in enumerate(parts)]
        statements = ("CREATE TABLE w (t text) PARTITION BY RANGE (t)", *tables, "INSERT INTO w VALUES ('wa'), ('x')")
        for backup in made(database, s3, statements):
            backup.make()
            outcome = backup.restore()
            assert not outcome.failed, outcome.result["msg"]
    finally:
        admin.run(f"DROP DATABASE {database.name} WITH (FORCE)")


def test_check_mode_writes_nothing_and_a_second_run_neither(simple: Backup):
    simple.make()
    keys = simple.objects()
    # What a killed restore left goes first.
    left = f"{simple.database.name}_left"
    mark = Marker("restoring", simple.database.name, "2026-01-01T00:00:00Z")
    simple.admin().run(f"CREATE DATABASE {left}", f"COMMENT ON DATABASE {left} IS '{mark}'")
    there = simple.others()
    planned = simple.restore(check=True, record_proof=True, environment="sandbox")
    assert not planned.failed, planned.result["msg"]
    assert planned.result["changed"]
    assert simple.others() == there
    assert simple.objects() == keys
    assert f"into: {planned.result['target_database']}" in planned.result["diff"]["prepared"]
    real = simple.restore()
    assert real.result["plan"] == planned.result["plan"]
    assert real.result["target_database"] == planned.result["target_database"]
    before, after = planned.result["executed_queries"], real.result["executed_queries"]
    assert before[0] == after[0] == f'DROP DATABASE "{left}" WITH (FORCE)'
    # The name until it is marked has the time and a process in it.
    same = [
        [re.sub(r"runbook_making_\w+-\d\d-\w+-\w+-\w+| IS .*", "", query) for query in each] for each in (before, after)
    ]
    assert same[0] == same[1][: len(before)]
    state = simple.others()
    again = simple.restore()
    assert not again.failed
    assert not again.result["changed"]
    assert "nothing to do" in again.result["msg"]
    assert simple.others() == state


def test_an_empty_database_is_restored_and_proven(database, s3):
    for backup in made(database, s3, ()):
        backup.make()
        outcome = backup.restore()
        assert not outcome.failed, outcome.result["msg"]
        assert outcome.result["proof"]["compared"] == 2


def test_tables_that_a_restore_lays_out_otherwise_are_equal(database, s3):
    """The order of inherited columns, two signs of a NaN, a bitmap of nulls that are gone, a cast that hides."""
    statements = (
        "CREATE TABLE public.parent (a int)",
        "CREATE TABLE public.child (own int, f float8, n int[]) INHERITS (public.parent)",
        "ALTER TABLE public.parent ADD later text DEFAULT 'x'",
        "INSERT INTO public.child (a, own, f, n) SELECT 1, 2, x - x, '{1,NULL}' FROM (VALUES ('inf'::float8)) i (x)",
        "UPDATE public.child SET n[2] = 2",
        "CREATE TYPE public.mood AS ENUM ('low', 'high')",
        "CREATE TABLE public.asked (a int)",
        """CREATE FUNCTION public.hide(public.mood) RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN RETURN (SELECT '***' FROM asked); END $$""",
        "CREATE CAST (public.mood AS text) WITH FUNCTION public.hide(public.mood)",
        "CREATE TABLE public.felt AS SELECT 'low'::public.mood AS m",
    )
    for backup in made(database, s3, statements):
        backup.make()
        outcome = backup.restore()
        assert not outcome.failed, outcome.result["msg"]
        assert outcome.result["proof"]["status"] == "ok"


def test_rows_that_were_left_out_are_proven_to_be_and_said(simple: Backup):
    taken = simple.make(without_rows=["public.notes"])
    assert taken["missing"][0] == "the rows of public.notes, which it was told to leave out"
    outcome = simple.restore()
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"
    assert "Without the rows of public.notes" in outcome.result["msg"]
    restored = new(simple, outcome.result)
    assert restored.one("SELECT count(*) FROM public.notes") == 0
    assert restored.one("SELECT count(*) FROM public.people") == 3000
    # It does not become the live one unless somebody names what it lacks.
    names = {"database": simple.database.name, "replacement": restored.name, "grace_s": 0}
    for accepted in ([], ["public.people"]):
        swap = run_module("pg_swap", simple.admin().login | names | {"accept_without": accepted})
        assert swap.failed
        assert "is without the rows of public.notes" in swap.result["msg"]
        assert "db_restore_accept_without='public.notes'" in swap.result["msg"]
    swap = run_module("pg_swap", simple.admin().login | names | {"accept_without": ["public.notes"]}, check=True)
    assert not swap.failed, swap.result["msg"]
    plan = (
        simple.database.login | simple.s3.options(simple.bucket) | {"backup": "latest", "replace": simple.database.name}
    )
    refused = run_module("pg_rollback_plan", plan)
    assert f"backup: {taken['backup_id']} is without the rows of public.notes" in refused.result["msg"]
    assert not run_module("pg_rollback_plan", plan | {"accept_without": ["public.notes"]}).failed
    outcome = run_module("pg_rollback_plan", plan | {"replace": ""})
    assert "is without the rows of public.notes" in str(outcome.result["warnings"])
    refused = run_module(
        "pg_backup",
        simple.database.login | simple.s3.options(simple.bucket)
        | {"environment": "sandbox", "without_rows": ["public.people"]},
    )  # fmt: skip
    assert refused.failed
    assert "rows of public.notes refer to public.people" in refused.result["msg"]


def test_the_proof_is_written_beside_the_backup(simple: Backup):
    simple.make()
    outcome = simple.restore(record_proof=True, environment="sandbox", scratch=True)
    assert not outcome.failed, outcome.result["msg"]
    assert not simple.others(), "a scratch database is dropped"
    proof = json.loads(simple.read(outcome.result["proof_key"]))
    manifest = json.loads(simple.read(outcome.result["manifest_key"]))
    assert proof["status"] == "ok"
    assert proof["compared"] == proof["ok"] == 4
    assert proof["manifest_sha256"] == manifest["sha256"]
    assert proof["tables"] == []


def test_a_copy_that_was_kept_is_no_proof_of_the_backup_today(simple: Backup):
    """A scratch restore is made and compared, though the same backup was restored and proven before."""
    simple.make()
    kept = simple.restore()
    assert not kept.failed, kept.result["msg"]
    again = simple.restore(record_proof=True, environment="sandbox", scratch=True)
    assert not again.failed, again.result["msg"]
    assert json.loads(simple.read(again.result["proof_key"]))["status"] == "ok"
    assert list(simple.others()) == [kept.result["target_database"]]
    named = simple.restore(scratch=True, target_database=kept.result["target_database"])
    assert named.failed
    assert "exists, and is never overwritten" in named.result["msg"]
    assert list(simple.others()) == [kept.result["target_database"]]


def test_a_bucket_of_another_environment_gets_no_proof(simple: Backup):
    simple.make()
    outcome = simple.restore(record_proof=True, environment="production")
    assert outcome.failed
    assert "runbook-environment" in outcome.result["msg"]
    assert not simple.others()


def prove_again(backup: Backup, restored: Database) -> proofs.Proof:
    """The comparison that pg_restore makes, of a database that is there."""
    key = backup.key("manifest.json")
    manifest = manifests.parse(backup.read(key), where=key)
    target = postgres.Target(restored.host, restored.port, restored.name, restored.user, None)
    found = proof_driver.read(
        lambda: postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60_000),
        method=cast("Any", manifest.hash.method),
        coverage=manifest.hash.coverage,
        jobs=2,
        check=lambda: None,
    )
    return proofs.judge(manifest, found)


def test_a_table_is_read_early_once_nobody_writes_to_it_any_more(database):
    fill = "INSERT INTO public.{} SELECT n, repeat('x', 200) FROM generate_series(1, 10000) AS n"
    for name in ("loaded", "loading", "later"):
        database.run(f"CREATE TABLE public.{name} (id int, body text)")
    database.run(fill.format("loaded"))
    target = postgres.Target(database.host, database.port, database.name, database.user, None)

    def connect() -> postgres.Session:
        return postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60_000)

    method: Any = "dumped-hash64-sum"
    whole = proof_driver.read(connect, method=method, coverage="all", jobs=1, check=lambda: None)
    with proof_driver.Early(connect, method=method, coverage="all") as early, connect() as writer:
        with writer.transaction():
            writer.query(fill.format("loading"))
            early.start()
            until = time.monotonic() + 30
            while QualifiedName("public", "loaded") not in early.contents and time.monotonic() < until:
                time.sleep(0.05)
            writer.query(fill.format("loading"))
        writer.query(fill.format("later"))
        found = proof_driver.read(connect, method=method, coverage="all", jobs=2, check=lambda: None, early=early)
    # What was read early is not read again, and what was being written is read whole.
    assert early.contents[QualifiedName("public", "loaded")] == whole.contents[QualifiedName("public", "loaded")]
    assert {name.name: each.rows for name, each in found.contents.items()} == {
        "loaded": 10_000, "loading": 20_000, "later": 10_000,
    }  # fmt: skip
    again = proof_driver.read(connect, method=method, coverage="all", jobs=1, check=lambda: None)
    assert found.contents == again.contents


def test_one_changed_byte_in_a_row_is_found_and_its_table_named(simple: Backup):
    simple.database.run(
        "CREATE SEQUENCE public.tickets", "SELECT setval('public.tickets', 7)", 'CREATE SEQUENCE public."Odd %s"'
    )
    simple.make()
    outcome = simple.restore()
    assert "and 2 sequences agree" in outcome.result["msg"]
    restored = new(simple, outcome.result)
    assert prove_again(simple, restored).status == "ok"
    restored.run("UPDATE public.notes SET note = overlay(note placing 'Z' from 5 for 1) WHERE id = 7")
    found = prove_again(simple, restored)
    assert found.status == "breach"
    assert found.named("differs") == ["public.notes"]
    assert found.named("ok") == ["public.people", "runbook.lease", "large objects"]
    restored.run("SELECT setval('public.tickets', 9)", 'DROP SEQUENCE public."Odd %s"')
    assert prove_again(simple, restored).named("differs") == ["public.notes", "public.Odd %s", "public.tickets"]
    restored.run("SELECT setval('public.tickets', 7)", 'CREATE SEQUENCE public."Odd %s"')
    restored.run("UPDATE public.people SET name = NULL WHERE id = 17")
    assert prove_again(simple, restored).named("differs") == ["public.notes", "public.people"]
    restored.run("DELETE FROM public.notes WHERE id = 7", "CREATE TABLE public.stranger AS SELECT 1 AS id")
    found = prove_again(simple, restored)
    assert found.named("differs") == ["public.notes", "public.people", "public.stranger"]
    assert "rows instead of 4,000" in found.sentence()


def test_rows_that_changed_places_are_found(database, s3):
    statements = ("CREATE TABLE public.t (a int, b int)", "INSERT INTO public.t VALUES (1, 2), (3, 4)")
    for backup in made(database, s3, statements):
        backup.make()
        restored = new(backup, backup.restore().result)
        # Each column holds the same values as before; only their rows differ.
        restored.run("UPDATE public.t SET b = 6 - b")
        assert prove_again(backup, restored).named("differs") == ["public.t"]


def test_a_backup_whose_data_is_not_what_was_hashed_is_red_and_its_copy_kept(simple: Backup):
    simple.make()
    row = simple.database.one("SELECT name FROM public.people WHERE id = 5")
    simple.forge(row.encode(), row.replace(row[0], "Q", 1).encode())
    outcome = simple.restore(record_proof=True, environment="sandbox")
    result = outcome.result
    assert outcome.failed
    assert result["status"] == "breach"
    assert result["proof"]["differs"] == ["public.people"]
    assert "public.people" in result["msg"]
    assert row not in json.dumps(result)
    assert "Q" + row[1:] not in json.dumps(result)
    assert json.loads(simple.read(result["proof_key"]))["status"] == "breach"
    name = f"{simple.database.name}_failed_{result['backup_id']}"
    assert list(simple.others()) == [name]
    assert name in result["msg"]
    assert marker(simple, name).state == "failed"
    assert not simple.admin().one(f"SELECT has_database_privilege('pg_monitor', '{name}', 'CONNECT')")
    # The next one takes its place; a scratch one is kept as well.
    again = simple.restore(record_proof=True, environment="sandbox", scratch=True)
    assert again.result["removed_databases"] == [name]
    assert list(simple.others()) == [name]
    # One that cannot be dropped costs nobody the new one.
    simple.admin().run(f'ALTER DATABASE "{name}" IS_TEMPLATE true')
    another = simple.restore(scratch=True)
    simple.admin().run(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
    assert f"{name}_2" in another.result["msg"]
    assert sorted(simple.others()) == [name, f"{name}_2"]


def test_no_event_trigger_fires_in_a_copy_and_it_has_them_all(simple: Backup):
    if simple.database.one("SELECT current_setting('server_version_num')::int") < 170000:
        pytest.skip("no login triggers before PostgreSQL 17")
    simple.database.run(
        "CREATE TABLE public.fired (event text)",
        f"""CREATE FUNCTION public.fire() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_database() <> '{simple.database.name}' THEN INSERT INTO public.fired VALUES (tg_event); END IF;
            END $$""",
        "CREATE EVENT TRIGGER entered ON login EXECUTE FUNCTION public.fire()",
        "CREATE EVENT TRIGGER made ON ddl_command_end EXECUTE FUNCTION public.fire()",
        "ALTER EVENT TRIGGER entered ENABLE ALWAYS",
        "CREATE PUBLICATION p FOR TABLE public.people",
        "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    )
    try:
        simple.make()
        outcome = simple.restore()
        assert not outcome.failed, outcome.result["msg"]
        copy = new(simple, outcome.result)
        compared = run_module("pg_rollback_compare", simple.database.login | {"replacement": copy.name})
        assert not compared.failed, compared.result["msg"]
        target = postgres.Target(copy.host, copy.port, copy.name, copy.user, None)
        with postgres.Session(
            target.started_with({"event_triggers": "off"}), lock_timeout_ms=1000, statement_timeout_ms=60_000
        ) as session:
            assert session.query("SELECT event FROM public.fired") == []
            found = session.query("SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1")
        assert [tuple(each.values()) for each in found] == [("entered", "A"), ("made", "O")]
        copy.run("ALTER SUBSCRIPTION s DISABLE", "DROP SUBSCRIPTION s")
    finally:
        simple.database.run("DROP SUBSCRIPTION s")


def test_a_proof_that_came_to_no_end_is_remembered_as_failed(simple: Backup):
    """As red, where the backup is the reason, and as unknown, where the server is."""
    simple.database.run(
        "CREATE FUNCTION public.plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
        "CREATE FUNCTION public.nested(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT plain($1)'",
        "ALTER TABLE public.people ADD CHECK (public.nested(name) IS NOT NULL)",
    )
    taken = simple.make()
    # It was said when the backup was made.
    assert "the check people_name_check of public.people runs public.nested()" in str(taken["warnings"])
    user = f"small_{simple.database.name}"
    simple.admin().run(f"CREATE ROLE {user} LOGIN")

    def remembered(words: str, status: str, **options: Any) -> None:
        outcome = simple.restore(record_proof=True, environment="sandbox", scratch=True, **options)
        assert outcome.failed
        assert words in outcome.result["msg"]
        kept = json.loads(simple.read(outcome.result["proof_key"]))
        assert (kept["status"], kept["compared"]) == (status, 0)
        assert words in kept["msg"]
        assert not simple.others()

    try:
        remembered("CREATEDB", "unknown", login_user=user)
        time.sleep(1.1)  # a proof is named by its second
        remembered("function plain(text) does not exist", "breach")
        key, client = simple.key("data-00.dump.zst"), simple.s3.client()
        for each in client.list_object_versions(Bucket=simple.bucket, Prefix=key)["Versions"]:
            client.delete_object(Bucket=simple.bucket, Key=key, VersionId=each["VersionId"])
        time.sleep(1.1)
        remembered("is damaged", "breach")
    finally:
        simple.admin().run(f"DROP ROLE {user}")


def test_without_hashes_nothing_is_proven(simple: Backup):
    simple.make(hash="none")
    outcome = simple.restore()
    assert outcome.failed
    assert outcome.result["status"] == "unknown"
    assert outcome.result["changed"]
    assert "could not be compared" in outcome.result["msg"]
    # The database is kept: nothing speaks against it, and nothing for it.
    name = outcome.result["target_database"]
    assert marker(simple, name).state == "unproven"
    swapped = run_module("pg_swap", simple.swap_options | {"replacement": name})
    assert swapped.failed
    assert "not proven" in swapped.result["msg"]


def test_without_a_proof_the_result_is_unknown(simple: Backup):
    simple.make()
    outcome = simple.restore(prove=False, target_database="other_unproven")
    assert not outcome.failed
    assert outcome.result["status"] == "unknown"
    assert outcome.result["proof"] is None
    assert marker(simple, "other_unproven").state == "unproven"


def test_the_backup_that_is_asked_for_is_taken(simple: Backup):
    first = simple.make()
    time.sleep(1.1)
    simple.database.run("DELETE FROM public.notes WHERE id < 10")
    second = simple.make()
    latest = simple.restore(check=True)
    assert latest.result["backup_id"] == second["backup_id"]
    named = simple.restore(check=True, backup=first["backup_id"])
    assert named.result["backup_id"] == first["backup_id"]
    assert named.result["rows"] == 7000 + len(["the lease"])
    earlier = simple.restore(check=True, before=first_snapshot(simple, second))
    assert earlier.result["backup_id"] == first["backup_id"]
    # Without its manifest the newer one is no backup; that is said.
    simple.s3.client().delete_object(Bucket=simple.bucket, Key=second["manifest"])
    passed = simple.restore(check=True)
    assert passed.result["backup_id"] == first["backup_id"]
    assert second["backup_id"] in json.dumps(passed.result["warnings"])
    refused = simple.restore(backup=second["backup_id"])
    assert refused.failed
    assert not simple.others()


def first_snapshot(backup: Backup, made_then: dict[str, Any]) -> str:
    """When the snapshot of that backup was taken: nothing of it is from before."""
    return str(json.loads(backup.read(made_then["manifest"]))["source"]["snapshot_at"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"jobs": 0}, "jobs: 0"),
        ({"backup": "2020-01-01T00-00-00Z"}, "there is no 2020-01-01T00-00-00Z"),
        ({"before": "soon"}, "before: 'soon'"),
        ({"before": "2020-01-01T00:00:00Z"}, "no backup began before 2020-01-01"),
        ({"before": "2020-01-01"}, "write 2020-01-01T00:00:00Z if it is UTC"),
        ({"database": "somebody_else"}, "there is none of this database"),
        ({"record_proof": True}, "environment"),
        ({"scratch": True, "keep_failed": True}, "scratch and keep_failed"),
        ({"bindir": "/nonexistent"}, "bindir: /nonexistent"),
        ({"bucket": "no-such-bucket-here"}, "no such bucket"),
    ],
)
def test_what_cannot_be_meant_is_refused_first(shared: Backup, options, words):
    outcome = shared.restore(**options)
    assert outcome.failed
    assert words in outcome.result["msg"]
    assert not outcome.result["changed"]
    assert not shared.others()


@pytest.fixture(scope="module")
def shared(cluster, s3):
    """One backup for all refusals."""
    admin = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
    admin.run("CREATE DATABASE test_refusals")
    for backup in made(replace(admin, name="test_refusals"), s3, SIMPLE):
        backup.make()
        yield backup
    admin.run("DROP DATABASE test_refusals WITH (FORCE)")


def test_the_live_database_is_never_written_to(shared: Backup):
    before = as_text(shared.database)
    outcome = shared.restore(target_database=shared.database.name)
    assert outcome.failed
    assert "never overwritten" in outcome.result["msg"]
    assert as_text(shared.database) == before


def test_a_foreign_backup_is_refused(shared: Backup):
    client = shared.s3.client()
    for key in shared.objects():
        moved = key.replace(shared.database.name, "somebody", 1)
        client.copy_object(Bucket=shared.bucket, Key=moved, CopySource={"Bucket": shared.bucket, "Key": key})
    outcome = shared.restore(database="somebody")
    assert outcome.failed
    assert "foreign backup" in outcome.result["msg"]
    assert not outcome.result["changed"]


def test_another_clusters_backup_needs_its_number(shared: Backup, sound_cluster):
    """The same prefix, bucket and name; the server is another one."""
    there = Database("127.0.0.1", sound_cluster.port, "postgres", sound_cluster.superuser)
    own = shared.database.one("SELECT system_identifier FROM pg_control_system()")
    refused = shared.restore(**there.login, prove=False)
    assert f"is of cluster {own}, and this database is on cluster" in refused.result["msg"]
    assert f"db_restore_from_cluster={own}" in refused.result["msg"]
    wrong = shared.restore(**there.login, prove=False, from_cluster="7")
    assert f"is a backup of cluster {own}, not of 7" in wrong.result["msg"]
    asked = shared.restore(**there.login, prove=False, from_cluster=str(own))
    assert not asked.failed, asked.result
    there.run(f'DROP DATABASE "{asked.result["target_database"]}" WITH (FORCE)')


@pytest.mark.parametrize("name", ["..", " a\\\\b/%'\u0308 "])
def test_a_database_of_any_name_is_backed_up_verified_and_restored(shared: Backup, name):
    admin = shared.admin()
    admin.run(f'CREATE DATABASE "{name}"')
    odd = replace(shared, database=replace(shared.database, name=name))
    target = ""
    try:
        odd.database.run("CREATE TABLE public.t (id int PRIMARY KEY)", "INSERT INTO public.t VALUES (1)")
        made_now = odd.make()
        where = shared.s3.options(shared.bucket) | {"database": name}
        seen = run_module("pg_backup_verify", where | {"retention_days": 0, "max_proof_age_s": 0, "wait_s": 0})
        assert seen.result.get("backups") == [made_now["backup_id"]], seen.result
        plan = run_module("pg_backup_retention", where | {"environment": "sandbox"}, check=True).result["plan"]
        assert [each["backup_id"] for each in plan] == [made_now["backup_id"]]
        restored = odd.restore()
        assert not restored.failed, restored.result
        target = restored.result["target_database"]
        assert replace(odd.database, name=target).one("SELECT count(*) FROM public.t") == 1
    finally:
        for each in filter(None, (name, target)):
            admin.run(f'DROP DATABASE IF EXISTS "{each}" WITH (FORCE)')


def test_a_copy_that_waits_for_its_swap_holds_its_backup(simple: Backup):
    made_now = simple.make()
    given: dict[str, Any] = {"environment": "sandbox", "hold_days": 14, "prove": False}
    assert simple.restore(check=True, **given).result["changed"]
    assert not any("hold-" in key for key in simple.objects())
    copy = simple.restore(**given).result["target_database"]
    assert f"{made_now['folder']}hold-{copy}.json" in simple.objects()
    where = simple.s3.options(simple.bucket) | {"database": simple.database.name, "environment": "sandbox"}
    (plan,) = run_module("pg_backup_retention", where, check=True).result["plan"]
    assert (plan["action"], f"{copy} was restored from it" in plan["reason"]) == ("keep", True)
    warned = simple.restore(**given | {"environment": "production", "target_database": f"{copy}_2"})
    assert not warned.failed
    assert "The backup is not held" in str(warned.result["warnings"])
    # What is not made is no reason to keep a backup.
    held = [key for key in simple.objects() if "hold-" in key]
    simple.rewrite(lambda said: [each.update(sha256="0" * 64) for each in said["objects"] if "/data-" in each["key"]])
    assert simple.restore(**given, target_database=f"{copy}_3").failed
    assert [key for key in simple.objects() if "hold-" in key] == held
    # What another server's database of that name waits for stays.
    (hold,) = held
    other = hold.replace(copy, f"{copy}_3")
    simple.write(other, b"another server's")
    assert simple.restore(**given, target_database=f"{copy}_3").failed
    assert simple.read(other) == b"another server's"


def test_roles_and_extensions_are_said_before_the_first_byte(database, s3):
    statements = (
        "CREATE ROLE restore_owner",
        "CREATE TABLE public.owned (id int)",
        "ALTER TABLE public.owned OWNER TO restore_owner",
    )
    for backup in made(database, s3, statements):
        backup.make()
        database.run("ALTER TABLE public.owned OWNER TO postgres", "DROP ROLE restore_owner")
        # An extension that this server does not have, in a manifest that is otherwise whole.
        backup.rewrite(lambda content: content["extensions"].append(UNKNOWN_EXTENSION))
        outcome = backup.restore()
        assert outcome.failed
        assert len(outcome.result["problems"]) == 2
        assert "restore_owner" in outcome.result["msg"]
        assert "postgis 3.4.2" in outcome.result["msg"]
        assert not backup.others()


UNKNOWN_EXTENSION = {"name": "postgis", "version": "3.4.2", "schema": "public"}


def test_no_password_is_seen(simple: Backup):
    simple.make()
    canary = "canary-9f3a"
    simple.database.run(f"CREATE ROLE restorer SUPERUSER LOGIN PASSWORD '{canary}'")
    try:
        options = simple.options | {"login_user": "restorer", "login_password": canary}
        process = module_process("pg_restore", options)
        seen = ""
        while process.poll() is None:
            seen += "".join(command_line(child) for child in children(process.pid))
            time.sleep(0.005)
        out, err = process.communicate()
        assert canary not in seen
        assert canary not in out
        assert canary not in err
        assert "pg_restore" in seen
        assert '"failed"' not in out
    finally:
        simple.cleanup()
        simple.database.run("DROP ROLE restorer")


def children(pid: int) -> list[int]:
    """Processes that were started by that one."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)] if psutil.pid_exists(pid) else []


def test_an_encrypted_backup_needs_its_key(simple: Backup, tmp_path):
    if not shutil.which("age-keygen"):
        pytest.skip("age is not installed")
    keys = {}
    for name in ("right", "wrong"):
        path = tmp_path / name
        subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
        keys[name] = path
    public = keys["right"].read_text().partition("public key: ")[2].split()[0]
    simple.make(encryption="age", recipients=[public])
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "identity_file: it is not set"),
        ({"identity_file": str(tmp_path / "none")}, "cannot be read"),
        ({"identity_file": str(keys["wrong"])}, "could not be decrypted"),
    )
    for options, words in wrong:
        outcome = simple.restore(**options)
        assert outcome.failed
        assert words in outcome.result["msg"]
        assert not simple.others()
    outcome = simple.restore(identity_file=str(keys["right"]))
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["status"] == "ok"


def test_memory_stays_flat(simple: Backup):
    # 64 MB of one value: a few kB in the bucket, which must not come back into memory at once.
    simple.database.run(
        "CREATE TABLE public.wide (filler text)",
        "INSERT INTO public.wide SELECT repeat('0', 1000000) FROM generate_series(1, 160)",
    )
    simple.make(jobs=1)
    process = module_process("pg_restore", simple.options | {"prove": False})
    most = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            most = max(most, psutil.Process(process.pid).memory_info().rss)
        time.sleep(0.01)
    out, _ = process.communicate()
    assert json.loads(out.splitlines()[-1])["restored_bytes"] > 160_000_000
    assert most < 150_000_000


def test_the_playbooks_restore_swap_and_undo(simple: Backup, tmp_path):
    simple.make()
    variables = {f"backup_{name}": value for name, value in simple.s3.options(simple.bucket).items()}
    project = Project.for_database(tmp_path, simple.database, **variables)
    restored = project.run("restore.yml")
    assert restored.code == 0, restored.output
    assert restored.last("pg_restore")["proof"]["status"] == "ok"
    target = restored.last("pg_restore")["target_database"]
    assert restored.output.count("comparisons agree") >= 1
    simple.database.run("INSERT INTO public.people VALUES (9999, 'since then')")
    swapped = project.run("restore_swap.yml", db_restore_replacement=target)
    assert swapped.code == 0, swapped.output
    assert simple.database.one("SELECT count(*) FROM public.people") == 3000
    undone = project.run("restore_swap.yml", db_restore_replacement=swapped.last("pg_swap")["previous"])
    assert undone.code == 0, undone.output
    assert simple.database.one("SELECT count(*) FROM public.people") == 3001
    secret = simple.s3.secret_key
    for path in (tmp_path / "runs").rglob("*.*"):
        assert secret not in path.read_text(errors="replace")


def test_production_is_not_swapped_without_its_confirmation(simple: Backup, tmp_path):
    project = Project.for_database(tmp_path, simple.database, runbook_environment="production")
    before = simple.others()
    refused = project.run("restore_swap.yml", db_restore_replacement="whatever")
    assert refused.code != 0
    assert "confirm=production" in refused.output
    assert simple.others() == before
