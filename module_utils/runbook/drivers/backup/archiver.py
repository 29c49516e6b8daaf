"""The server whose WAL is archived: what it is set to, what its archiver says, and the end of a segment."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.postgres import pgtools, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.archiving import Archiver
from ansible.module_utils.runbook.rules.backup.pitr_setup import Server, Setting
from ansible.module_utils.runbook.rules.backup.wal_archive import ArchivedFile
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable


NAMES = ("archive_mode", "wal_level", "archive_command", "archive_timeout", "archive_library")
#: Between two looks at whether a segment is archived.
_POLL_S = 0.1


def connect(target: postgres.Target, purpose: str) -> postgres.Session:
    """A session with the server whose WAL is archived, named for the module that opens it."""
    return postgres.Session(target, lock_timeout_ms=5_000, statement_timeout_ms=60_000, purpose=purpose)


def read_server(session: postgres.Session) -> Server:
    """Identity of the cluster, its data folder, and its size of a segment in bytes."""
    row = session.query(
        "SELECT system_identifier::text, pg_is_in_recovery() AS in_recovery,"
        " current_setting('data_directory') AS data_directory,"
        " pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,"
        " CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END AS segment,"
        " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser FROM pg_control_system()"
    )[0]
    if row["is_superuser"]:
        row["bindir"] = session.query("SELECT setting FROM pg_config WHERE name = 'BINDIR'")[0]["setting"]
    return Server(**row)


def identifier_here(server: Server) -> str | None:
    """System identifier of the data folder with the name of the server's on this machine; None where there is none."""
    data = Path(server.data_directory)
    if not (data / "PG_VERSION").exists():
        return None
    return pgtools.control_data(Path(server.bindir), data)["Database system identifier"]


def read_settings(session: postgres.Session) -> dict[str, Setting]:
    """The parameters that matter to archiving; ``archive_library`` is missing before PostgreSQL 15."""
    files = session.query(
        "SELECT name, setting FROM pg_file_settings WHERE right(sourcefile, 20) = 'postgresql.auto.conf' ORDER BY seqno"
    )
    written = {row["name"]: row["setting"] for row in files}
    rows = session.query("SELECT name, setting, source FROM pg_settings WHERE name = ANY(%s)", (list(NAMES),))
    return {row["name"]: Setting(row["setting"], written.get(row["name"]), row["source"]) for row in rows}


def set_parameter(session: postgres.Session, name: str, value: str) -> None:
    """``ALTER SYSTEM``: takes effect at the next reload or start."""
    session.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))


def reload(session: postgres.Session) -> None:
    """Let the server read its configuration again."""
    session.executed_queries.append("SELECT pg_reload_conf()")
    session.query("SELECT pg_reload_conf()")


def restart(bindir: Path, data: Path, log: Path, *, deadline_s: int) -> None:
    """Restart the server of ``data`` with the options that it was started with.

    :raises RunbookError: it does not come back
    """
    words = [
        *pgtools.unprivileged(bindir / "postgres", data),
        str(bindir / "pg_ctl"),
        "restart",
        "--wait",
        "--mode=fast",
    ]
    words += [f"--timeout={deadline_s}", f"--pgdata={data}", f"--log={log}"]
    with tempfile.TemporaryFile() as out:
        # To a file, not a pipe: the server inherits it, and a pipe would stay open as long as the server runs.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
        out.seek(0)
        tail = " ".join(out.read().decode(errors="replace").split()[-40:])
    if done.returncode != 0:
        raise RunbookError(f"The server does not come back from its restart: {tail}; see {log}.")


def read_archiver(session: postgres.Session) -> Archiver:
    """What the server says about its archiving."""
    row = session.query(
        "SELECT current_setting('archive_mode') AS mode,"
        # As the server itself says where nothing is set. The library is of PostgreSQL 15 and later.
        " current_setting('archive_command') IN ('', '(disabled)')"
        " AND coalesce(current_setting('archive_library', true), '') = '' AS is_idle,"
        " archived_count, last_archived_wal, last_archived_time, failed_count, last_failed_wal, last_failed_time"
        " FROM pg_stat_archiver"
    )[0]
    ready = session.query(
        "SELECT count(*) AS segments, coalesce(extract(epoch FROM clock_timestamp() - min(modification)), 0)::float8"
        " AS oldest_s FROM pg_ls_archive_statusdir() WHERE name LIKE %s",
        ("%.ready",),
    )[0]
    return Archiver(
        archive_mode=row["mode"], is_idle=row["is_idle"], archived_count=row["archived_count"],
        failed_count=row["failed_count"],
        last_archived_wal=row["last_archived_wal"], last_archived_at=row["last_archived_time"],
        last_failed_wal=row["last_failed_wal"], last_failed_at=row["last_failed_time"],
        ready_segments=int(ready["segments"]), oldest_ready_s=max(float(ready["oldest_s"]), 0.0),
    )  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A WAL segment that was ended; ``archived_s`` is the seconds until it was archived, None where it was not."""

    segment: str
    archived_s: float | None


def archive_until_now(
    session: postgres.Session, *, wait_s: float, arrived: Callable[[str], bool] = lambda _segment: True
) -> Ended:
    """End the WAL segment behind a commit, and wait until it is archived, for at most ``wait_s`` seconds.

    :param arrived: asked about the segment too, once the server says that it is archived
    """
    name = _switch_wal(session)
    begun = time.monotonic()
    while True:
        if _is_archived(session, name) and arrived(name):
            return Ended(name, round(time.monotonic() - begun, 3))
        if time.monotonic() - begun > wait_s:
            return Ended(name, None)
        time.sleep(_POLL_S)


def _is_archived(session: postgres.Session, segment: str) -> bool:
    row = session.query(
        "SELECT coalesce(last_archived_wal, '') AS name,"
        " has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS may_look FROM pg_stat_archiver"
    )[0]
    if ArchivedFile(row["name"]).covers(segment):
        return True
    # A label of a backup may have followed it by now.
    done = f"{segment}.done"
    return row["may_look"] and bool(session.query("SELECT FROM pg_ls_archive_statusdir() WHERE name = %s", (done,)))


def _switch_wal(session: postgres.Session) -> str:
    """Write a commit and end the segment with it; the segment's file name.

    The commit matters: PostgreSQL stops at a time only where a later commit shows that the time was reached.
    """
    with session.transaction():
        session.query("SELECT txid_current()")
    name = session.query("SELECT pg_walfile_name(pg_current_wal_lsn()) AS name")[0]["name"]
    session.executed_queries.append("SELECT pg_switch_wal()")
    session.query("SELECT pg_switch_wal()")
    return str(name)
