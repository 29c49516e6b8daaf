"""Backups of a real server into a real bucket: what is in them is what the snapshot showed."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import conftest
import psutil
import psycopg2
import pytest
import zstandard
from ansible.module_utils.runbook.drivers.backup import backup as driver
from ansible.module_utils.runbook.drivers.backup.backup import find_client
from ansible.module_utils.runbook.drivers.postgres import content_hash, lease, postgres
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.postgres import content_hash as hashes
from conftest import ROOT, S3, Database, hold_lease, module_process, run_module, this_run
from fakes import backups

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ODD = "o\"d'd ü.%_*?" + "x" * 50
assert len(ODD.encode()) == 63

CANARY = "canary-never-shown"
APPLICATION = (
    "CREATE TABLE public.conversations (id bigint PRIMARY KEY, title text)",
    "CREATE TABLE public.messages (id bigint PRIMARY KEY, conversation_id bigint REFERENCES conversations, body text)",
    "INSERT INTO public.conversations SELECT i, 'c' || i FROM generate_series(1, 100) i",
    "INSERT INTO public.messages SELECT i, 1 + i % 100, repeat(md5(i::text), 4) FROM generate_series(1, 20000) i",
    "CREATE TABLE public.notes AS SELECT i AS id, repeat(md5(i::text), 3) AS body FROM generate_series(1, 15000) i",
)


@pytest.fixture
def application(database: Database) -> Database:
    database.run(*APPLICATION)
    return database


@pytest.fixture
def bucket(s3: S3) -> str:
    return s3.bucket()


def options(database: Database, s3: S3, bucket: str, **more: Any) -> dict[str, Any]:
    return database.login | s3.options(bucket) | {"environment": "sandbox", "prefix": "tests/here"} | more


def backup(database: Database, s3: S3, bucket: str, *, check: bool = False, **more: Any) -> dict[str, Any]:
    outcome = run_module("pg_backup", options(database, s3, bucket, **more), check=check, diff=True)
    assert not outcome.failed, outcome.result["msg"]
    return outcome.result


def keys(s3: S3, bucket: str, prefix: str = "") -> list[str]:
    return [each["Key"] for each in s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


GAPS = (
    "CREATE EXTENSION postgres_fdw",
    "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1')",
    f"CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'u', password '{CANARY}')",
    "CREATE FOREIGN TABLE public.elsewhere (a int) SERVER far",
    f"""CREATE SUBSCRIPTION incoming CONNECTION 'host=127.0.0.1 port=9 password={CANARY}' PUBLICATION p
        WITH (connect = false)""",
    "CREATE TABLE public.owned AS SELECT 1 AS a FROM generate_series(1, 1000)",
    "ALTER EXTENSION postgres_fdw ADD TABLE public.owned",
    "CREATE TABLE public.partly AS SELECT i AS a FROM generate_series(1, 10) i",
    "ALTER EXTENSION postgres_fdw ADD TABLE public.partly",
    "CREATE TABLE public.wholly AS SELECT i AS a FROM generate_series(1, 10) i",
    "ALTER EXTENSION postgres_fdw ADD TABLE public.wholly",
    # As pg_extension_config_dump() leaves it.
    "CREATE TABLE public.bare (a int)",
    "ALTER EXTENSION postgres_fdw ADD TABLE public.bare",
    """UPDATE pg_extension SET extconfig = ARRAY['public.partly', 'public.wholly', 'public.bare']::regclass[]::oid[],
       extcondition = ARRAY['WHERE a > 3', '', ''] WHERE extname = 'postgres_fdw'""",
    "CREATE TABLE information_schema.hidden (a int)",
)


def test_what_pg_dump_leaves_out_is_said_and_kept(application: Database, s3: S3, bucket: str):
    """A user that is no superuser gets less, and pg_dump ends with 0."""
    user = f"least_{application.name}"
    application.run(
        *GAPS, f"CREATE ROLE {user} LOGIN", f"GRANT pg_read_all_data TO {user}",
    )  # fmt: skip
    try:
        result = backup(application, s3, bucket, login_user=user)
        said = " | ".join(result["missing"])
        for words in (
            "subscription incoming", "user mapping far for public", "foreign table public.elsewhere",
            "public.owned (1,000 rows), public.partly (3 rows)", "information_schema.hidden",
        ):  # fmt: skip
            assert words in said, words
        assert "wholly (" not in said
        assert "a comparison of public.partly, public.wholly, which are in the backup as the configuration" in said
        assert "Without the subscription incoming" in result["msg"]
        assert "pg_dump: subscriptions not dumped" in str(result["warnings"])
        kept = manifest_of(s3, bucket, result)
        assert list(kept.missing) == result["missing"]
        assert any("subscriptions not dumped" in each for each in kept.warnings)
        assert CANARY not in fetch(s3, bucket, result["manifest"]).decode()
        # Its superuser gets all of what pg_dump can take.
        said = " | ".join(backup(application, s3, bucket, check=True)["missing"])
        assert "public.owned" in said
        assert "subscription" not in said
        assert "mapping" not in said
    finally:
        application.run(
            "ALTER SUBSCRIPTION incoming SET (slot_name = NONE)", "DROP SUBSCRIPTION incoming", f"DROP OWNED BY {user}",
            f"DROP ROLE {user}",
        )  # fmt: skip


def test_what_a_restore_will_stumble_over_is_said_in_the_plan(database: Database, s3: S3, bucket: str):
    database.run(
        "CREATE FUNCTION public.plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
        "CREATE FUNCTION public.nested(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN plain($1); END'",
        "CREATE FUNCTION public.sound(text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = public"
        " AS 'BEGIN RETURN plain($1); END'",
        "CREATE DOMAIN public.low AS text CHECK (public.nested(VALUE) = VALUE)",
        "CREATE TABLE public.a (t text CONSTRAINT c CHECK (public.nested(t) <> ''), g text GENERATED ALWAYS AS"
        " (public.nested(t)) STORED, s text CHECK (public.sound(s) <> ''), d text DEFAULT public.nested('x'))",
        "CREATE TABLE public.b (t text, CHECK (public.plain(t) <> ''))",
        "CREATE INDEX i ON public.b (public.sound(t))",
    )  # fmt: skip
    said = str(backup(database, s3, bucket, check=True)["warnings"])
    for use in ("the check c of public.a", "the generated column g of public.a", "the check low_check of the domain"):
        assert f"{use}" in said
    assert said.count("A restore of this backup will fail") == 3


def fetch(s3: S3, bucket: str, key: str) -> bytes:
    return bytes(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())


def manifest_of(s3: S3, bucket: str, result: dict[str, Any]) -> manifests.Manifest:
    return manifests.parse(fetch(s3, bucket, result["manifest"]), where=result["manifest"])


def restore(s3: S3, bucket: str, manifest: manifests.Manifest, into: Database, folder: Path) -> None:
    """By hand, with nothing of ours: zstd and pg_restore."""
    into_words = ["-h", into.host, "-p", str(into.port), "-U", into.user, "-d", into.name]
    client = find_client(None, int(into.one("SHOW server_version_num")), ssl_mode="prefer")
    schema = manifest.one("schema")
    assert schema is not None
    files: dict[object, Path] = {}
    for name, objects in [("schema", [schema]), *manifest.data_streams().items()]:
        blob = b"".join(fetch(s3, bucket, each.key) for each in objects)
        files[name] = folder / f"{name}.dump"
        files[name].write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(blob))
    pg_restore = [client.path("pg_restore"), *into_words]
    steps = [("pre-data", "schema"), *(("data", number) for number in manifest.data_streams()), ("post-data", "schema")]
    for section, name in steps:
        words = [*pg_restore, f"--section={section}", str(files[name])]
        said = subprocess.run(words, check=False, capture_output=True, text=True).stderr
        # It sets this in servers before 17, too, which do not know it.
        assert [line for line in said.splitlines() if "error: " in line and "transaction_timeout" not in line] == []


def contents(database: Database) -> dict[tuple[str, str], hashes.Content]:
    """What every table holds now, hashed again."""
    target = postgres.Target(database.host, database.port, database.name, database.user, None)
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
        content_hash.settle(session)
        method = hashes.method(session.server_version)
        return {
            (table.name.schema, table.name.name): content_hash.hash_table(session, table, method)
            for table in content_hash.read_tables(session)
        }


def promised(manifest: manifests.Manifest) -> dict[tuple[str, str], hashes.Content]:
    return {(each.schema, each.name): hashes.Content(each.rows or 0, each.hash) for each in manifest.tables}


@pytest.fixture
def scratch(database: Database) -> Iterator[Database]:
    made = Database(database.host, database.port, database.name + "_scratch", database.user)
    admin = Database(database.host, database.port, "postgres", database.user)
    admin.run(f"CREATE DATABASE {made.name} TEMPLATE template0")
    yield made
    admin.run(f"DROP DATABASE {made.name} WITH (FORCE)")


def test_backup_holds_what_the_database_held(application, s3, bucket, scratch, tmp_path):
    result = backup(application, s3, bucket)
    manifest = manifest_of(s3, bucket, result)
    home = f"tests/here/{application.name}/{result['backup_id']}/"
    assert sorted(keys(s3, bucket)) == [
        home + name
        for name in (
            "data-00.dump.zst",
            "data-01.dump.zst",
            "globals.sql.zst",
            "manifest.json",
            "schema.dump.zst",
            "started.json",
        )
    ]
    for each in manifest.objects:
        stored = fetch(s3, bucket, each.key)
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (each.size_bytes, each.sha256)
        head = s3.client().head_object(Bucket=bucket, Key=each.key)
        assert head["VersionId"] == each.version_id
        assert head["ServerSideEncryption"] == "AES256"
    assert promised(manifest) == contents(application)
    assert (result["tables"], result["rows"]) == (4, 35101)
    assert result["size_bytes"] == manifest.size_bytes < result["dump_bytes"] == manifest.dump_bytes
    assert manifest.source.system_identifier == application.one(
        "SELECT system_identifier::text FROM pg_control_system()"
    )
    assert manifest.roles == ("postgres",)
    assert b"CREATE ROLE" in zstandard.ZstdDecompressor().decompressobj().decompress(
        fetch(s3, bucket, home + "globals.sql.zst")
    )
    restore(s3, bucket, manifest, scratch, tmp_path)
    assert contents(scratch) == promised(manifest)
    scratch.run("UPDATE messages SET body = 'X' || substr(body, 2) WHERE id = 77")
    assert contents(scratch) != promised(manifest)


ODD_TABLE = '"o""dd schema"."{}"'.format(ODD.replace('"', '""'))
EXOTIC = (
    "CREATE TYPE public.mood AS ENUM ('low', 'high')",
    "CREATE TYPE public.pair AS (a int, b text)",
    "CREATE DOMAIN public.email AS text CHECK (VALUE LIKE '%@%')",
    'CREATE SCHEMA "o""dd schema"',
    f"""CREATE TABLE {ODD_TABLE} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint, twice bigint GENERATED ALWAYS AS (n * 2) STORED,
        "co""l ü" text, m public.mood, p public.pair, e public.email, r int4range, tr tstzrange, a int[],
        ea public.mood[], x xml, tv tsvector, b bytea, j json, jb jsonb, f float8, d numeric, iv interval, i inet,
        bt bit varying, pt point, c char(5), u uuid, t timestamptz, mo money, rc regclass, no_longer int)""",
    (
        f"INSERT INTO {ODD_TABLE}"
        """ (n, "co""l ü", m, p, e, r, tr, a, ea, x, tv, b, j, jb, f, d, iv, i, bt, pt, c, u, t, mo, rc)
        SELECT k, 'quote '' " \\ ü' || chr(10) || k, 'high', ROW(k, 'x,"y')::public.pair, 'a@b', int4range(k, k + 5),
        tstzrange(now(), NULL), ARRAY[k, NULL, 3], ARRAY['low', NULL]::public.mood[], NULL,
        to_tsvector('some words'), decode('00ff5c', 'hex'), '{"a":  1}', '{"a": [1, 2.50]}', 'NaN', 1.500,
        '1 mon 3 days', '10.0.0.1/8', B'101', '(1,2)', 'ab', gen_random_uuid(), now(), 12.5, 'public.parted'
        FROM generate_series(1, 500) k"""
    ),
    f"ALTER TABLE {ODD_TABLE} DROP COLUMN no_longer",
    "CREATE TABLE public.empty ()",
    "INSERT INTO public.empty DEFAULT VALUES",
    "CREATE TABLE public.parent (a int)",
    "CREATE TABLE public.child () INHERITS (public.parent)",
    "INSERT INTO public.parent VALUES (1)",
    "INSERT INTO public.child VALUES (2), (3)",
    "CREATE MATERIALIZED VIEW public.stored AS SELECT * FROM public.parent",
    "CREATE VIEW public.seen AS SELECT * FROM public.parent",
    "CREATE UNLOGGED TABLE public.unlogged AS SELECT 1 AS a",
    "SELECT lo_from_bytea(0, decode(repeat('00ff', 900000), 'hex')), lo_create(0)",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
)
PARTED = (
    "CREATE TABLE public.parted (a int, b text) PARTITION BY RANGE (a)",
    "CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM (0) TO (10000)",
    "CREATE TABLE public.parted_2 PARTITION OF public.parted FOR VALUES FROM (10000) TO (30000) PARTITION BY LIST (b)",
    "CREATE TABLE public.parted_2x PARTITION OF public.parted_2 DEFAULT",
    "INSERT INTO public.parted SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 29999) i",
)


@pytest.mark.parametrize("jobs", [1, 4])
def test_everything_that_a_database_may_hold(database, s3, bucket, scratch, tmp_path, jobs):
    """Odd names and types, partitions in streams of their own, large objects: restored, it all hashes the same."""
    database.run(*PARTED, *EXOTIC)
    with contextlib.suppress(psycopg2.errors.FeatureNotSupported):  # a server that was built without libxml
        database.run(f"""UPDATE {ODD_TABLE} SET x = '<a b="c">d</a>'""")
    result = backup(database, s3, bucket, jobs=jobs)
    manifest = manifest_of(s3, bucket, result)
    assert len(manifest.data_streams()) == (1 if jobs == 1 else 3)
    names = {(each.schema, each.name) for each in manifest.tables}
    assert ('o"dd schema', ODD) in names
    public = {"empty", "parent", "child", "unlogged", "parted_1", "parted_2x"}
    assert names == {('o"dd schema', ODD)} | {("public", name) for name in public} | {("runbook", "lease")}
    assert promised(manifest)["public", "parent"].rows == 1
    assert manifest.large_objects.count == 2
    database.run("DELETE FROM public.child")  # a later change is not in it
    restore(s3, bucket, manifest, scratch, tmp_path)
    assert contents(scratch) == promised(manifest)
    target = postgres.Target(scratch.host, scratch.port, scratch.name, scratch.user, None)
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
        content_hash.settle(session)
        found = content_hash.hash_large_objects(session, hashes.method(session.server_version))
    assert (found.rows, found.digest) == (manifest.large_objects.count, manifest.large_objects.hash)


def test_who_made_an_extension_is_not_needed_where_it_is_restored(database):
    """After a swap that is who restored the database; a server of proofs need not have that role."""
    maker = f"maker_{database.name}"
    database.run(f"CREATE ROLE {maker}", f"GRANT CREATE ON DATABASE {database.name} TO {maker}")
    try:
        database.run(f"SET ROLE {maker}; CREATE EXTENSION citext")
        database.run(f"REVOKE CREATE ON DATABASE {database.name} FROM {maker}")
        login = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | database.login
        with postgres.Session(
            postgres.Target.from_params(login), lock_timeout_ms=1000, statement_timeout_ms=0
        ) as session:
            assert maker not in driver.read_roles(session)
    finally:
        database.run("DROP EXTENSION citext", f"DROP OWNED BY {maker}", f"DROP ROLE {maker}")


def test_hashing_keeps_few_locks(database, monkeypatch):
    """The server's table of locks has room for some thousands, and those of a transaction add up."""
    database.run(*(f"CREATE TABLE t{number} (id int PRIMARY KEY, said text)" for number in range(12)))
    monkeypatch.setattr(driver, "_HASH_BATCH", 3)
    held, really = [], content_hash.hash_table

    def hash_table(session: postgres.Session, *rest: Any) -> Any:
        content = really(session, *rest)
        held.append(session.query("SELECT count(*) AS n FROM pg_locks WHERE pid = pg_backend_pid()")[0]["n"])
        return content

    monkeypatch.setattr(content_hash, "hash_table", hash_table)
    login = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | database.login
    target = postgres.Target.from_params(login)
    with driver.Snapshot(target, lock_timeout_ms=1000, purpose="test") as snapshot:
        snapshot.take()
        hasher = driver.Hasher(target, snapshot.id, method="dumped-hash64-sum", coverage="all", too_large=str)
        hasher.queue(snapshot.tables)
        hasher.work(large_objects=False)
    assert len(hasher.contents) == len(held) == 12
    assert max(held) == max(held[:3])


def test_an_empty_database(database, s3, bucket, scratch, tmp_path):
    manifest = manifest_of(s3, bucket, backup(database, s3, bucket))
    assert [each.name for each in manifest.tables] == ["lease"]
    restore(s3, bucket, manifest, scratch, tmp_path)


def test_one_snapshot_for_every_stream_and_every_hash(application, s3, bucket, scratch, tmp_path):
    """Somebody writes all the while, two tables in one transaction: both streams show the same moment."""
    application.run("CREATE TABLE public.ticks (n int)", "INSERT INTO public.ticks VALUES (0)")
    application.run("ALTER TABLE public.notes ADD COLUMN n int DEFAULT 0")
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            application.run(
                "BEGIN",
                f"UPDATE ticks SET n = {number}",
                f"INSERT INTO notes (id, n) VALUES ({number}, {number})",
                f"UPDATE messages SET body = body || '{number}' WHERE id = {number % 100}",
                "COMMIT",
            )

    thread = threading.Thread(target=write)
    thread.start()
    try:
        results = [backup(application, s3, bucket, jobs=jobs) for jobs in (2, 3)]
    finally:
        ended.set()
        thread.join()
    for result in results:
        assert len(result["plan"]["streams"]) > 1
    manifest = manifest_of(s3, bucket, results[1])
    restore(s3, bucket, manifest, scratch, tmp_path)
    assert contents(scratch) == promised(manifest)
    assert scratch.one("SELECT max(n) = (SELECT n FROM ticks) AND max(n) > 0 FROM notes")


@pytest.mark.parametrize("kind", ["age", "gpg"])
def test_encrypted_for_a_key(application, s3, bucket, tmp_path, kind, monkeypatch):
    if shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed")
    if kind == "age":
        identity = tmp_path / "identity"
        made = subprocess.run(["age-keygen", "-o", str(identity)], capture_output=True, text=True, check=True)
        recipient = made.stderr.split()[-1]
        decrypt = ["age", "--decrypt", "--identity", str(identity)]
    else:
        monkeypatch.setenv("GNUPGHOME", str(tmp_path))
        tmp_path.chmod(0o700)
        recipient = "backup@example.com"
        words = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", recipient, "rsa2048", "encrypt"]
        made = subprocess.run(words, capture_output=True, text=True, check=True)
        decrypt = ["gpg", "--batch", "--quiet", "--decrypt"]
    result = backup(application, s3, bucket, encryption=kind, recipients=[recipient])
    manifest = manifest_of(s3, bucket, result)
    assert manifest.tools.encryption == kind
    for each in manifest.objects:
        assert f".zst.{kind}" in each.key
        stored = fetch(s3, bucket, each.key)
        assert hashlib.sha256(stored).hexdigest() == each.sha256
        plain = subprocess.run(decrypt, input=stored, capture_output=True, check=True).stdout
        assert zstandard.ZstdDecompressor().decompressobj().decompress(plain)
    outcome = run_module("pg_backup", options(application, s3, bucket, encryption=kind, recipients=["nobody"]))
    assert "check recipients" in outcome.result["msg"]
    assert {key.split("/")[3] for key in keys(s3, bucket)} == {result["backup_id"]}


def test_long_streams_go_on_in_another_object(application, s3, bucket, scratch, tmp_path, monkeypatch):
    """Cut after 100 kB instead of 64 GiB; the pieces put together are the stream."""
    library = tmp_path / "library"
    library.mkdir()
    text = (ROOT / "library" / "pg_backup.py").read_text()
    assert "SEGMENT_BYTES = 64 << 30" in text
    (library / "pg_backup.py").write_text(text.replace("SEGMENT_BYTES = 64 << 30", "SEGMENT_BYTES = 100_000"))
    monkeypatch.setattr(conftest, "ROOT", tmp_path)
    (tmp_path / "module_utils").symlink_to(ROOT / "module_utils")
    manifest = manifest_of(s3, bucket, backup(application, s3, bucket))
    segments = manifest.data_streams()[1]
    assert len(segments) > 3
    assert segments[2].key.endswith("data-01.dump.zst.0002")
    assert {each.size_bytes for each in segments[:-1]} == {100_000}
    restore(s3, bucket, manifest, scratch, tmp_path)
    assert contents(scratch) == promised(manifest)


def test_hash_options_are_said_in_the_manifest(application, s3, bucket):
    for coverage in ("sampled", "none"):
        result = backup(application, s3, bucket, hash=coverage)
        manifest = manifest_of(s3, bucket, result)
        assert manifest.hash.coverage == coverage
        assert {each.rows is None for each in manifest.tables} == {coverage == "none"}
        assert {each.hash is None for each in manifest.tables} == {coverage == "none"}
        assert result["rows"] == (None if coverage == "none" else 35101)


def test_a_folder_that_is_taken_is_left_alone(application, s3, bucket):
    """Another server's database of that name began in the same seconds; neither backup touches the other's folder."""
    home = f"tests/here/{application.name}/"
    now = datetime.now(UTC)
    taken = [f"{now + timedelta(seconds=n):%Y-%m-%dT%H-%M-%SZ}" for n in range(5)]
    for name in taken:
        s3.client().put_object(Bucket=bucket, Key=f"{home}{name}/started.json", Body=b"theirs")
    result = backup(application, s3, bucket)
    assert result["backup_id"] not in taken
    manifest_of(s3, bucket, result)
    for name in taken:
        assert [key for key in keys(s3, bucket) if f"/{name}/" in key] == [f"{home}{name}/started.json"]
        assert fetch(s3, bucket, f"{home}{name}/started.json") == b"theirs"


def test_another_servers_folder_is_not_written_to(application, s3, bucket):
    """One prefix, and a database of one name on two servers: the second one is told so, and nothing is written."""
    theirs = backups.make(s3, bucket, datetime.now(UTC), database=application.name, manifest=False)
    folder = f"logical/{application.name}/{theirs.backup_id}/"
    claim = manifests.Claim(system_identifier=backups.SYSTEM_IDENTIFIER, database=application.name).to_bytes()
    s3.client().put_object(Bucket=bucket, Key=f"{folder}started.json", Body=claim)
    before = keys(s3, bucket)
    given = options(application, s3, bucket, prefix="logical")
    for check in (True, False):
        refused = run_module("pg_backup", given, check=check)
        assert refused.failed
        assert f"holds backups of cluster {backups.SYSTEM_IDENTIFIER}" in refused.result["msg"]
        assert "backup_previous_clusters" in refused.result["msg"]
    assert keys(s3, bucket) == before
    result = backup(application, s3, bucket, prefix="logical", previous_clusters=[backups.SYSTEM_IDENTIFIER])
    # From now on the folder is this server's.
    assert not run_module("pg_backup", given).failed
    assert result["backup_id"] > theirs.backup_id


def test_contradictions_are_refused(application, s3, bucket):
    for wrong, says in (
        ({"jobs": 0}, "jobs: 0 is out of bounds"),
        ({"encryption": "age"}, "recipients: they are empty"),
        ({"recipients": ["x"]}, "encryption is none"),
        ({"encryption": "age", "recipients": ["AGE-SECRET-KEY-1QQ"]}, "a secret key"),
        ({"encryption": "gpg", "recipients": ["--output=/etc/passwd"]}, "no public key"),
        ({"kms_key_id": "k"}, "kms_key_id"),
        ({"bindir": "/nowhere"}, "bindir: /nowhere"),
        ({"login_host": ""}, "login_host is empty"),
        ({"bucket": ""}, "bucket: it is empty"),
        ({"environment": ""}, "environment: it is empty"),
        ({"secret_key": None}, "only one of them is set"),
        ({"profile": "p"}, "both are set"),
    ):
        outcome = run_module("pg_backup", options(application, s3, bucket) | wrong)
        assert outcome.failed
        assert says in outcome.result["msg"]
        assert "\n" not in outcome.result["msg"]
    assert keys(s3, bucket) == []


def test_a_client_older_than_the_server_is_refused(application, s3, bucket, tmp_path):
    for program in ("pg_dump", "pg_dumpall"):
        path = tmp_path / program
        path.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.22'\n")
        path.chmod(0o755)
    outcome = run_module("pg_backup", options(application, s3, bucket, bindir=str(tmp_path)))
    assert "pg_dump in" in outcome.result["msg"]
    assert "older than the server's" in outcome.result["msg"]
    assert keys(s3, bucket) == []


def test_another_run_s_lease_is_respected(application, s3, bucket):
    with contextlib.closing(application.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lease.WRITER_LOCK,))
        outcome = run_module("pg_backup", options(application, s3, bucket))
    assert "still writes" in outcome.result["msg"]
    assert keys(s3, bucket) == []


def test_the_password_is_shown_nowhere(application, s3, bucket):
    """Not in the words of any process, not in the result, not when it fails."""
    user = f"{application.name}_login"
    application.run(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{CANARY}'")
    seen: set[str] = set()
    try:
        for given in ({}, {"bucket": "no-such-bucket"}):
            secret = {"login_user": user, "login_password": CANARY}
            process = module_process("pg_backup", options(application, s3, bucket, **secret) | given)
            while process.poll() is None:
                for each in psutil.process_iter(["cmdline"]):
                    seen.update(each.info["cmdline"] or ())
            out, err = process.communicate()
            assert CANARY not in out + err
        assert not any(CANARY in word or s3.secret_key in word for word in seen)
        assert any("--section=data" in word for word in seen)
    finally:
        application.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_check_mode_writes_nothing_and_promises_the_same_plan(application, s3, bucket):
    hold_lease(this_run(), application)
    planned = backup(application, s3, bucket, check=True)
    assert keys(s3, bucket) == []
    assert (planned["backup_id"], planned["manifest"], planned["changed"]) == ("", "", True)
    done = backup(application, s3, bucket)
    assert planned["plan"] == done["plan"]
    assert planned["executed_queries"] == done["executed_queries"]
    assert planned["diff"] == done["diff"]


def test_the_playbook_backs_up_and_gives_the_lease_back(application, s3, bucket, tmp_path):
    given = {f"backup_{name}": value for name, value in s3.options(bucket).items()}
    project = Project.for_database(tmp_path, application, **given)
    dry = project.run("backup.yml", "--check", "--diff")
    assert dry.code == 0, dry.output
    assert keys(s3, bucket) == []
    done = project.run("backup.yml")
    assert done.code == 0, done.output
    result = done.last("pg_backup")
    assert f"{application.name}/{result['backup_id']}/manifest.json" in keys(s3, bucket)
    assert result["changed"] is True
    assert s3.secret_key not in done.output
    assert application.run("SELECT * FROM runbook.lease") == []
