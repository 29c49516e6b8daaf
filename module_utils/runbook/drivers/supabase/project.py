"""Restore into a fresh project of a managed platform: one session, one transaction, all or nothing.

``pg_restore`` writes SQL, ``psql`` runs it, and between the two goes what ``rules/supabase/managed.py`` picked. A
project's database cannot be recreated or dropped by its owner, so a restore that fails, or is killed, must leave it as
it was.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg2.errors
from ansible.module_utils.runbook.drivers.backup.restore import LOCK_TIMEOUT_MS, Failed
from ansible.module_utils.runbook.drivers.s3.stream import Output
from ansible.module_utils.runbook.rules.supabase.managed import (
    CALLS_OUT,
    LEFT,
    MARK,
    OFF,
    OURS,
    PLATFORM_OWNERS,
    SCHEMAS,
    Project,
)
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.backup.restore import Filler, Unpacked
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.drivers.s3.stream import Programs
    from ansible.module_utils.runbook.rules.supabase.managed import Entry, ScriptFilter

#: Objects of users: not of the system, of the platform, of an extension, of ourselves.
_OWN = """
    WITH schemas AS (
        SELECT oid, nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND nspname <> ALL (%(schemas)s)
    ), found AS (
        SELECT 'pg_class'::regclass AS kind, c.oid, n.nspname, c.relname AS name, c.relowner AS owner
        FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace WHERE c.relkind <> 'i'
        UNION ALL
        SELECT 'pg_proc'::regclass, p.oid, n.nspname, p.proname, p.proowner
        FROM pg_proc p JOIN schemas n ON n.oid = p.pronamespace
        UNION ALL
        SELECT 'pg_type'::regclass, t.oid, n.nspname, t.typname, t.typowner
        FROM pg_type t JOIN schemas n ON n.oid = t.typnamespace WHERE t.typtype IN ('d', 'e')
    )
    SELECT nspname || '.' || name AS name FROM found
    WHERE pg_get_userbyid(owner) <> ALL (%(owners)s) AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = found.kind AND d.objid = found.oid AND d.deptype = 'e')
    ORDER BY 1
"""

_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (%(schemas)s)
      AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
      AND has_schema_privilege(n.oid, 'USAGE')
"""

_NAMES = {
    "schemas": "SELECT nspname AS name FROM pg_namespace",
    "extensions": "SELECT extname AS name FROM pg_extension",
    "publications": "SELECT pubname AS name FROM pg_publication",
    "roles": "SELECT rolname AS name FROM pg_roles",
    "triggers": (
        "SELECT concat_ws(' ', n.nspname, c.relname, t.tgname) AS name FROM pg_trigger t"
        " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    ),
    "policies": (
        "SELECT concat_ws(' ', n.nspname, c.relname, p.polname) AS name FROM pg_policy p"
        " JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    ),
    "indexes": (
        "SELECT concat_ws(' ', n.nspname, c.relname) AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I')"
    ),
}

#: Privileges that new objects get by themselves, as they stand now.
_DEFAULTS = """
    SELECT n.oid AS namespace, k.kind, a.grantee, a.privilege_type
    FROM (VALUES ('r', 'r'), ('S', 's'), ('f', 'f'), ('T', 'T')) AS k (kind, builtin)
    CROSS JOIN (SELECT 0::oid AS oid UNION ALL SELECT oid FROM pg_catalog.pg_namespace) AS n
    LEFT JOIN pg_catalog.pg_default_acl d ON d.defaclrole = current_user::regrole AND d.defaclnamespace = n.oid
      AND d.defaclobjtype = k.kind::"char"
    CROSS JOIN LATERAL pg_catalog.aclexplode(
      coalesce(
        d.defaclacl, CASE WHEN n.oid = 0 THEN pg_catalog.acldefault(k.builtin::"char", current_user::regrole) END)
    ) AS a
"""
_KIND = "(CASE {} WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END)"
_GRANTEE = "(CASE {0} WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid({0})) END)"
_PLACE = "(CASE {0} WHEN 0 THEN '' ELSE ' IN SCHEMA ' || {0}::pg_catalog.regnamespace END)"


def _revoke(row: str, privilege: str) -> str:
    kind, grantee, place = (text.format(f"{row}.{name}") for text, name in (
        (_KIND, "kind"), (_GRANTEE, "grantee"), (_PLACE, "namespace"),
    ))  # fmt: skip
    return (
        f"EXECUTE 'ALTER DEFAULT PRIVILEGES' || {place} || ' REVOKE ' || {privilege} || ' ON ' || {kind}"
        f" || ' FROM ' || {grantee};"
    )


#: Before: new objects get nothing but what PostgreSQL gives them by itself, so that the archive's GRANTs, which tell
#: the difference from that, make them what they were. What stands in schema public's privileges likewise.
_NARROW = f"""
CREATE TEMPORARY TABLE runbook_defaults ON COMMIT DROP AS {_DEFAULTS};
DO $runbook$
DECLARE
  given record;
BEGIN
  FOR given IN SELECT * FROM pg_temp.runbook_defaults d WHERE d.grantee <> current_user::regrole LOOP
    {_revoke("given", "'ALL'")}
  END LOOP;
  ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
  ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO PUBLIC;
  FOR given IN
    SELECT DISTINCT a.grantee FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
    WHERE n.nspname = 'public' AND a.grantee <> n.nspowner AND a.grantee <> 0
  LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA public FROM %I', pg_catalog.pg_get_userbyid(given.grantee));
  END LOOP;
END $runbook$;
"""  # noqa: S608 - nothing from outside of this file is put into it
#: After: new objects get what the backup says, and no more than this project gave before.
_NARROWED = f"""
DO $runbook$
DECLARE
  given record;
BEGIN
  FOR given IN
    SELECT * FROM ({_DEFAULTS}) AS now
    EXCEPT SELECT * FROM pg_temp.runbook_defaults
  LOOP
    IF given.grantee <> current_user::regrole THEN
      {_revoke("given", "given.privilege_type")}
    END IF;
  END LOOP;
END $runbook$;
"""  # noqa: S608 - nothing from outside of this file is put into it
#: Jobs of pg_cron come back through its own functions, paused. Those that ran are named in a warning.
JOBS = f"""
DO $runbook$
DECLARE
  job record;
  made bigint;
BEGIN
  FOR job IN SELECT * FROM pg_temp.runbook_jobs ORDER BY jobid::bigint LOOP
    -- Under another name it would run with other rights.
    IF job.username <> current_user THEN
      RAISE WARNING '{LEFT} job % of pg_cron, which is of role %', job.jobid, job.username;
      CONTINUE;
    END IF;
    IF job.jobname IS NULL THEN
      made := cron.schedule(job.schedule, job.command);
    ELSE
      made := cron.schedule(job.jobname, job.schedule, job.command);
    END IF;
    PERFORM cron.alter_job(made, active => false);
    IF job.active::boolean THEN
      RAISE WARNING '{OFF} SELECT cron.alter_job(%, active => true)', made;
    END IF;
  END LOOP;
END $runbook$;
"""  # noqa: S608 - nothing from outside of this file is put into it
#: Triggers that call another server are switched off, and named in a warning.
# On the platform's tables only who has their owner's rights can: nobody in a project, a superuser on another server.
_DISARM = f"""
DO $runbook$
DECLARE
  hook record;
BEGIN
  FOR hook IN
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS place, pg_catalog.quote_ident(t.tgname) AS name
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
    WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgparentid = 0
      AND (n.nspname NOT IN ({", ".join(f"'{name}'" for name in sorted(SCHEMAS))})
        OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))
      AND (pn.nspname = 'supabase_functions' OR p.prosrc ~* '{CALLS_OUT}')
    ORDER BY 1, 2
  LOOP
    EXECUTE 'ALTER TABLE ' || hook.place || ' DISABLE TRIGGER ' || hook.name;
    RAISE WARNING '{OFF} ALTER TABLE % ENABLE TRIGGER %', hook.place, hook.name;
  END LOOP;
END $runbook$;
"""  # noqa: S608 - nothing from outside of this file is put into it
#: The platform's triggers do not fire on rows that are brought back.
LOADING = "SET session_replication_role = replica;"
LOADED = "SET session_replication_role = origin;"


# What is there --------------------------------------------------------------------------------------------------------


def look(session: Session) -> Project:
    """A project's database, before anything is restored into it."""
    schemas = sorted(SCHEMAS)
    lists = {name: {row["name"] for row in session.query(query)} for name, query in _NAMES.items()}
    owner = session.query(
        "SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = current_database()"
    )[0]["owner"]
    own = session.query(_OWN, {"schemas": [*schemas, OURS], "owners": sorted(PLATFORM_OWNERS)})
    tables = {}
    for row in session.query(_TABLES, {"schemas": schemas}):
        name = sql.Identifier(row["schema"], row["name"])
        found = session.query(sql.SQL("SELECT EXISTS (SELECT FROM {}) AS has_rows").format(name))
        tables[row["schema"], row["name"]] = bool(found[0]["has_rows"])
    sequences = session.query(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('auth', 'storage')"
        # Not AND: the server may ask for the privilege of what is no sequence first.
        " AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'UPDATE') ELSE false END"
    )
    return Project(
        owner=owner,
        own=[row["name"] for row in own],
        tables=tables,
        sequences={(row["schema"], row["name"]) for row in sequences},
        may_replicate=_may_replicate(session),
        **lists,
    )


def _may_replicate(session: Session) -> bool:
    """Whether this user may keep triggers from firing; only the try tells, where an extension allows it."""
    try:
        session.query("SELECT set_config('session_replication_role', 'replica', false)")
    except psycopg2.errors.InsufficientPrivilege:
        return False
    session.query("SELECT set_config('session_replication_role', 'origin', false)")
    return True


def quoted(session: Session, name: str) -> str:
    """An identifier as SQL."""
    return session.render(sql.Identifier(name))


def before() -> tuple[str, ...]:
    """Statements before anything is made: who makes it gives nothing away by default."""
    return ("SET statement_timeout = 0;", f"SET lock_timeout = {LOCK_TIMEOUT_MS};", _NARROW)


def after() -> tuple[str, ...]:
    """Statements after everything was made."""
    return (_NARROWED, _DISARM)


def disarm(session: Session) -> list[str]:
    """Switch off the triggers that call another server; what the server said of it."""
    session.execute(_DISARM)
    return list(session.connection.notices)


def contents(program: str, path: Path) -> str:
    """What ``pg_restore --list`` says of an archive.

    :raises Failed: it cannot be read
    """
    done = subprocess.run([program, "--list", str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(done.stderr.splitlines())
    return done.stdout


class FilteredScript:
    """A data stream as SQL, without what does not go into this database."""

    def __init__(
        self, unpacked: Unpacked, script_filter: ScriptFilter, programs: Programs, pg_restore: str,
        explain: Callable[[str, int | None, str], str],
    ) -> None:  # fmt: skip
        """Start pg_restore, which reads the stream.

        :param explain: makes the sentence for a failure, of the program's name, exit code and last words
        """
        self._unpacked = unpacked
        self._filter = script_filter
        self._text = Output(
            programs, [pg_restore, "--section=data", "--file=-"], explain=explain, env=_environment(),
            source=_Bytes(unpacked),
        )  # fmt: skip

    @property
    def bytes_read(self) -> int:
        """Bytes of the stream so far."""
        return self._unpacked.bytes_read

    def read(self) -> bytes:
        """The next piece of the script; none at the end."""
        while piece := self._text.read():
            out = self._filter.feed(piece)
            if out:
                return out
        # It is asked once more after the last word.
        return self._filter.end()


class _Bytes:
    """An unpacked stream, read as a file is."""

    def __init__(self, unpacked: Unpacked) -> None:
        self._unpacked = unpacked

    def read(self, size: int = -1, /) -> bytes:  # noqa: ARG002 - a reader may get less than it asked for
        return self._unpacked.read()


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C"}


class Script:
    """One psql with one transaction, to which SQL is handed piece by piece."""

    def __init__(self, filler: Filler, *, server_version: int) -> None:
        """Start psql and the transaction."""
        self._tried = 0
        self._program = filler.start_sql()
        self._stdin: Any = self._program.process.stdin
        self._pg_restore = filler.path("pg_restore")
        self._unknown = b"SET transaction_timeout = 0;\n" if server_version < 170000 else b""
        self.run("BEGIN;")

    def write(self, piece: bytes) -> None:
        """Hand on a piece of a script.

        :raises Failed: a statement before it failed
        """
        try:
            view = memoryview(piece)
            while view:
                view = view[self._stdin.write(view) :]
        except BrokenPipeError:
            self._program.process.wait()
            self._program.is_done()
            raise Failed(["psql: error: it ended before its input did"]) from None

    def run(self, text: str) -> None:
        """Run statements that must succeed."""
        self.write(text.encode() + b"\n")

    def try_(self, text: str | bytes) -> str:
        """Run statements that may be refused; under which label :meth:`finish` tells whether they were."""
        # A number: psql takes quotes and backquotes in what it is to say for its own.
        label = str(self._tried)
        self._tried += 1
        self.run(f"\\set ON_ERROR_ROLLBACK on\n\\set ON_ERROR_STOP off\n\\warn {MARK}{label}")
        self.write(text if isinstance(text, bytes) else text.encode() + b"\n")
        self.run(f"\\set ON_ERROR_ROLLBACK off\n\\set ON_ERROR_STOP on\n\\warn {MARK}")
        return label

    def definitions(self, section: str, archive: Path, entries: Sequence[Entry]) -> bytes:
        """What pg_restore makes of some entries of an archive; of none, the database's own definition.

        :raises Failed: the archive cannot be read
        """
        listed = archive.with_suffix(".list")
        listed.write_text("".join(f"{each.line}\n" for each in entries))
        words = [f"--section={section}", "--file=-", f"--use-list={listed}", *(["--create"] if not entries else [])]
        done = subprocess.run(
            [self._pg_restore, *words, str(archive)], capture_output=True, check=False, env=_environment()
        )
        if done.returncode != 0:
            raise Failed(done.stderr.decode(errors="replace").splitlines())
        return done.stdout.replace(self._unknown, b"", 1) if self._unknown else done.stdout

    def finish(self) -> list[str]:
        """Commit.

        :returns: what psql said, with :data:`~ansible.module_utils.runbook.rules.supabase.managed.MARK` before what was
            tried

        :raises Failed: something failed; nothing was changed
        """
        self.run("COMMIT;")
        self._stdin.close()
        self._program.process.wait()
        self._program.is_done()
        return self._program.said()
