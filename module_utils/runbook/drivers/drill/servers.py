"""Servers of a drill: those that it makes on this machine and kills, and the one that dumps are restored to."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.backup import archiver, heartbeat, restored_server
from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, command_line
from ansible.module_utils.runbook.drivers.sandbox.demo_database import fill
from ansible.module_utils.runbook.drivers.sandbox.sandbox import choose_port, end_process
from ansible.module_utils.runbook.errors import RunbookError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.drill.state import State
    from ansible.module_utils.runbook.rules.sandbox.demo_database import Step

_SETTINGS = {
    "wal_level": "replica",
    "autovacuum": "off",
    "max_wal_size": "2GB",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def connect(target: postgres.Target, *, statement_timeout_ms: int = 600_000) -> postgres.Session:
    """A session for the drill."""
    return postgres.Session(
        target, lock_timeout_ms=10_000, statement_timeout_ms=statement_timeout_ms, purpose="dr_drill"
    )


# --- which server -----------------------------------------------------------------------------------------------------


def own(params: Mapping[str, Any], port: int, database: str) -> postgres.Target:
    """A server that the drill made on this machine, as its superuser.

    :param params: options of a module, ``login_user`` and ``login_password`` among them
    """
    return postgres.Target("127.0.0.1", port, database, params["login_user"], params["login_password"])


def primary(state: State, params: Mapping[str, Any], database: str | None = None) -> postgres.Target:
    """The server that a drill in the sandbox kills.

    :param params: as of :func:`own`
    """
    return own(params, state.primary.port if state.primary else 0, database or state.database)


def destination(state: State, params: Mapping[str, Any]) -> postgres.Target:
    """The server that dumps are restored to, on its maintenance database.

    :param params: as of :func:`own`, and ``target`` for a server that the drill did not make
    """
    there = state.destination
    if there is not None and there.port is not None:
        return replace(own(params, there.port, "postgres"), system_identifier=there.system_identifier)
    return postgres.Target.from_params(params["target"] | {"login_db": "postgres"})


def restored(state: State, params: Mapping[str, Any]) -> postgres.Target:
    """What was restored, reached so that no event trigger of it fires.

    :param params: as of :func:`destination`
    :raises RunbookError: no server was
    """
    if state.chosen is not None and state.chosen.way == "pitr":
        port = restored_server.RestoreDir(Path(state.restore_path)).state().get("port")
        if not port:
            raise RunbookError(f"restore_path: {state.restore_path} holds no restored server.")
        return postgres.silenced(own(params, int(port), state.database))
    name = state.destination.database if state.destination else ""
    return postgres.silenced(replace(destination(state, params), database=name))


# --- making and breaking ----------------------------------------------------------------------------------------------


def make_server(folder: Path, bindir: Path, password: str | None) -> Cluster:
    """Make and start a cluster in a folder."""
    cluster = Cluster(bindir, folder / "data", choose_port(None, None))
    cluster.init(password=password)
    cluster.start(**_SETTINGS)
    return cluster


def begin_archiving(cluster: Cluster) -> None:
    """Restart a server of :func:`make_server` so that its WAL can be archived from now on.

    What filled it is not archived: a base backup would wait for those hundreds of segments.
    """
    cluster.stop("fast")
    cluster.start(**_SETTINGS, archive_mode="on")


def fill_primary(
    admin: postgres.Target, database: str, steps: Sequence[Step], on_step: Callable[[str, int, int], None]
) -> postgres.Target:
    """Make the drill's database: what the application has, and the table that clients write to."""
    target = replace(admin, database=database)
    with connect(admin) as session:
        session.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(database))
        )
    with connect(target) as session:
        fill(session.connection, steps, on_step)
        for statement in heartbeat.TABLE:
            session.execute(statement)
        if session.query("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'"):
            session.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")
        session.execute("CHECKPOINT")
    return target


def identity(session: postgres.Session) -> str:
    """The cluster's system identifier."""
    return str(session.query("SELECT system_identifier::text AS id FROM pg_control_system()")[0]["id"])


def kill(cluster: Cluster, admin: postgres.Target, lost: Path) -> None:
    """The disaster: SIGKILL to every process of the server, and its data folder is gone.

    :raises RunbookError: a process is still there
    """
    pid = cluster.pid()
    if pid is None:
        raise RunbookError(f"The server in {cluster.data} has no process here; it may run in another container.")
    with connect(admin) as session:
        pids = {int(row["pid"]) for row in session.query("SELECT pid FROM pg_stat_activity")}
    # What the server says of itself may be the numbers of another container.
    here = [each for each in map(process.find, sorted(pids)) if each and "postgres" in command_line(each.pid)]
    family = process.children(pid) or here
    postmaster = process.find(pid)
    for each in [*([postmaster] if postmaster else []), *family]:
        each.send(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(each.life() == "alive" for each in family) or cluster.is_running():
        if time.monotonic() > deadline:
            raise RunbookError(f"The server in {cluster.data} does not end, not even by SIGKILL.")
        time.sleep(0.01)
    closed(lost)
    cluster.data.rename(lost / "data")


def answers(target: postgres.Target, question: sql.Composed | str) -> bool:
    """Whether a server answers a question as the application would ask it."""
    try:
        connection = psycopg2.connect(
            host=target.host,
            port=target.port,
            dbname=target.database,
            user=target.user,
            password=target.password,
            sslmode=target.ssl_mode,
            connect_timeout=2,
            options="-c statement_timeout=2000",
        )
    except psycopg2.Error:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            row = cursor.fetchone()
        return bool(row and row[0])
    except psycopg2.Error:
        return False
    finally:
        connection.close()


def archive_delay_s(session: postgres.Session) -> float | None:
    """How long the archiver took for the last file, in seconds, of which a part is counted as one.

    The server notes when a file is ready to be archived, and when the last one was.

    :returns: None where nothing was archived, that note is gone with its segment, or the user may not see it
    """
    may = session.query("SELECT has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS may")
    if not may[0]["may"]:
        return None
    found = session.query(
        "SELECT extract(epoch FROM a.last_archived_time - d.modification)::float8 AS delay_s"
        " FROM pg_stat_archiver a JOIN pg_ls_archive_statusdir() d ON d.name = a.last_archived_wal || '.done'"
    )
    return max(0.0, float(found[0]["delay_s"])) if found else None


def archive_now(session: postgres.Session, *, deadline_s: float) -> None:
    """End the WAL segment and wait until it is archived.

    :raises RunbookError: it was not, in that time
    """
    ended = archiver.archive_until_now(session, wait_s=deadline_s)
    if ended.archived_s is None:
        raise RunbookError(
            f"Segment {ended.segment} was not archived within {deadline_s:.0f} s; the server's log says why."
        )


def end_server(data: Path) -> bool:
    """End the server of a data folder at once; whether it ran."""
    cluster = Cluster(Path(), data, 0)
    pid = cluster.pid()
    if pid is not None:
        end_process(pid, signal.SIGQUIT, still_there=cluster.is_running)
    return pid is not None


def drop_database(admin: postgres.Target, name: str) -> bool:
    """Drop a database of a drill; whether it was there."""
    with connect(admin) as session:
        if not session.query("SELECT 1 FROM pg_database WHERE datname = %s", (name,)):
            return False
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    return True
