"""A database full of oddities, its backup, and two ways to see whether a restored one is the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import zstandard
from ansible.module_utils.runbook.drivers.postgres.pgtools import find_bindir
from ansible.module_utils.runbook.rules.backup.manifest import self_digest
from conftest import S3, Database, Outcome, hold_lease, run_module, this_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = "n" * 63

ODDITIES = (
    'CREATE SCHEMA "odd ""schema"" ü"',
    "CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE TYPE public.pair AS (a int, b text)",
    "CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 20)",
    """CREATE TABLE public.types (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n numeric, f float8, r real, t text COLLATE "C",
         c char(5), b bytea, u uuid, ts timestamptz, d date, i interval, j json, jb jsonb, x xml, tv tsvector,
         a int[], aa text[], m public.mood, p public.pair, s public.short, rg int4range, mr tstzrange,
         inet inet, bits bit varying, pt point, mo money, ch "char",
         twice numeric GENERATED ALWAYS AS (n * 2) STORED)""",
    """INSERT INTO public.types (n, f, r, t, c, b, u, ts, d, i, j, jb, tv, a, aa, m, p, s, rg, mr, inet, bits, pt,
         mo, ch)
       SELECT n / 3.0, exp(n::float8 / 500), n::real / 7, repeat(chr(200 + n % 100), n % 50) || E'\\t\\\\N\\n',
         n::text, decode(md5(n::text), 'hex'), md5(n::text)::uuid, '2026-01-01'::timestamptz + n * interval '7 hours',
         '2000-01-01'::date + n, n * interval '1 day 1 second', json_build_object('k', n), jsonb_build_object('k', n),
         to_tsvector('simple', 'word' || n), ARRAY[n, NULL, n + 1], ARRAY['a"b', '{,}'],
         (ARRAY['sad', 'ok', 'happy'])[1 + n % 3]::public.mood, ROW(n, 'x,"y')::public.pair, 'short' || n,
         int4range(n, n + 5), tstzrange('2026-01-01', NULL), ('10.0.0.' || n % 250)::inet, (n % 64)::bit(6),
         point(n, -n), n::numeric::money, chr(65 + n % 26)::"char" FROM generate_series(1, 1500) n""",
    "INSERT INTO public.types (n, f) VALUES ('NaN', 'Infinity'), (NULL, '-0'), (1.500, 1e-300)",
    f'CREATE TABLE "odd ""schema"" ü"."{LONG}" ("select" int, "a b" text, PRIMARY KEY ("select"))',
    f"""INSERT INTO "odd ""schema"" ü"."{LONG}" SELECT n, 'ß' || n FROM generate_series(1, 40) n""",
    "CREATE TABLE public.parts (id int, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
    "CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    "CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    "INSERT INTO public.parts SELECT n, '2026-01-05'::date + n FROM generate_series(1, 50) n",
    "CREATE TABLE public.child (id bigint REFERENCES public.types (id), note text)",
    "INSERT INTO public.child SELECT n, NULL FROM generate_series(1, 20) n",
    "CREATE INDEX ON public.types USING gin (jb)",
    "CREATE INDEX ON public.types (lower(t)) WHERE n > 3",
    "CREATE TABLE public.secret (id int, owner name)",
    "INSERT INTO public.secret VALUES (1, 'a'), (2, 'b')",
    "ALTER TABLE public.secret ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE public.secret FORCE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON public.secret USING (owner = current_user)",
    "CREATE VIEW public.seen AS SELECT id, m FROM public.types",
    "CREATE MATERIALIZED VIEW public.sums AS SELECT m, count(*) FROM public.types GROUP BY m",
    """CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$""",
    "CREATE TRIGGER stamp BEFORE INSERT ON public.child FOR EACH ROW EXECUTE FUNCTION public.stamp()",
    "CREATE SEQUENCE public.counter START 100",
    "SELECT nextval('public.counter')",
    "CREATE TABLE public.empty ()",
    "CREATE UNLOGGED TABLE public.fleeting (id int)",
    "INSERT INTO public.fleeting VALUES (1)",
    "SELECT lo_from_bytea(4711, decode(repeat('00ff', 100), 'hex'))",
    "COMMENT ON TABLE public.types IS 'It''s a \"comment\"'",
    "GRANT SELECT ON public.types TO pg_monitor",
)

SIMPLE = (
    "CREATE TABLE public.people (id int PRIMARY KEY, name text)",
    "INSERT INTO public.people SELECT n, md5(n::text) FROM generate_series(1, 3000) n",
    "CREATE TABLE public.notes (id int REFERENCES public.people, note text)",
    # Large enough to be given a stream of its own, and hard to compress.
    """INSERT INTO public.notes SELECT n % 3000 + 1, string_agg(md5(n::text || k), '') FROM generate_series(1, 4000) n,
       generate_series(1, 16) k GROUP BY n""",
    "CREATE INDEX ON public.notes (id)",
)


@dataclass
class Backup:
    """A database, and where its backups go."""

    database: Database
    s3: S3
    bucket: str

    @property
    def cluster(self) -> str:
        """The cluster's identifier, for a restore on another one."""
        return str(self.database.one("SELECT system_identifier::text FROM pg_control_system()"))

    @property
    def options(self) -> dict[str, Any]:
        """Options of pg_restore."""
        login = replace(self.database, name="postgres").login
        return login | self.s3.options(self.bucket) | {"database": self.database.name}

    @property
    def swap_options(self) -> dict[str, Any]:
        """Options of pg_swap, but for the replacement."""
        return replace(self.database, name="postgres").login | {"database": self.database.name}

    def make(self, **options: Any) -> dict[str, Any]:
        """Make a backup with the project's own module; its result."""
        given = self.database.login | self.s3.options(self.bucket) | {"environment": "sandbox"}
        outcome = run_module("pg_backup", given | options)
        assert not outcome.failed, outcome.result["msg"]
        return outcome.result

    def restore(self, *, check: bool = False, environ: dict[str, Any] | None = None, **options: Any) -> Outcome:
        """Run pg_restore."""
        return run_module("pg_restore", self.options | options, check=check, diff=check, **(environ or {}))

    def admin(self) -> Database:
        """The database that is connected to meanwhile."""
        return replace(self.database, name="postgres")

    def others(self) -> dict[str, str | None]:
        """Databases that a restore of this one made, or that was swapped out, with their comments."""
        return dict(
            self.admin().run(
                "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
                f" WHERE datname LIKE '{self.database.name}\\_%' OR datname LIKE 'other\\_%'"
            )
        )

    def objects(self) -> list[str]:
        """Keys in the bucket."""
        return [each["Key"] for each in self.s3.client().list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def key(self, ending: str) -> str:
        """The one key that ends so."""
        (found,) = [each for each in self.objects() if each.endswith(ending)]
        return found

    def read(self, key: str) -> bytes:
        """An object's content."""
        body: bytes = self.s3.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def write(self, key: str, content: bytes) -> str | None:
        """Put an object there; the name of its version."""
        answer = self.s3.client().put_object(Bucket=self.bucket, Key=key, Body=content)
        return str(answer["VersionId"]) if "VersionId" in answer else None

    def rewrite(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the manifest of the only backup, and give it the digest of what it says then."""
        key = self.key("manifest.json")
        content = json.loads(self.read(key))
        change(content)
        self.write(key, json.dumps(content | {"sha256": self_digest(content)}).encode())

    def forge(self, old: bytes, new: bytes) -> None:
        """Change bytes of the dumped data, and let objects and manifest agree on it."""
        for each in [key for key in self.objects() if ".dump.zst" in key and "/data-" in key]:
            plain = zstandard.ZstdDecompressor().decompressobj().decompress(self.read(each))
            if old not in plain:
                continue
            stored = zstandard.ZstdCompressor().compress(plain.replace(old, new, 1))
            version, digest = self.write(each, stored), hashlib.sha256(stored).hexdigest()

            def agree(content: dict[str, Any], key: str = each, version: str | None = version) -> None:
                (entry,) = [found for found in content["objects"] if found["key"] == key]
                entry |= {"size_bytes": len(stored), "sha256": digest, "version_id": version}  # noqa: B023 - called at once

            self.rewrite(agree)
            return
        raise AssertionError("these bytes were not dumped")

    def cleanup(self) -> None:
        """Drop what restores made."""
        for name in self.others():
            self.admin().run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def made(database: Database, s3: S3, statements: tuple[str, ...]) -> Iterator[Backup]:
    """A filled database with an empty bucket; what restores made of it is dropped afterwards."""
    hold_lease(this_run(), database)
    database.run(*statements)
    backup = Backup(database, s3, s3.bucket())
    yield backup
    backup.cleanup()


def as_text(database: Database) -> list[str]:
    """Everything in a database as pg_dump writes it, the lines sorted: independent of our own hashes."""
    program = find_bindir(os.environ.get("PG_BINDIR")) / "pg_dump"
    words = [str(program), "-h", database.host, "-p", str(database.port), "-U", database.user, "-d", database.name]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    # Newer ones guard the file with a random word.
    return sorted(line for line in text.splitlines() if not re.match(r"\\(un)?restrict ", line))
