"""The database that a restore makes beside the live one: unfinished, and known as such, until it is proven.

Whatever fails, it is dropped. After a kill the next restore finds it by its name or its mark, and drops it.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.backup.restore import (
    CHECK_TIMEOUT_MS,
    PURPOSE,
    analyze,
    connect,
    listed,
    marking,
    now,
)
from ansible.module_utils.runbook.drivers.postgres.postgres import silencing
from ansible.module_utils.runbook.drivers.supabase import project
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.backup.restore import Making
from ansible.module_utils.runbook.rules.backup.swap import Marker
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.backup.restore import Filler, Program
    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
    from ansible.module_utils.runbook.rules.backup.manifest import Source
    from ansible.module_utils.runbook.rules.backup.restore_rights import Selection
    from ansible.module_utils.runbook.rules.backup.swap import State

#: Seconds for a server that restarts, so that the unfinished database can be dropped after all.
_CLEANUP_PATIENCE_S = 30
#: Seconds between two looks at a database that a killed run may have left behind.
_SECOND_LOOK_S = 1.0
#: Seconds between two looks at what goes on beside the proof.
_TICK_S = 0.05


class NewDatabase:
    """One of them, from its making to its last mark."""

    def __init__(self, admin: Target, name: str, marker: Marker, silent: Mapping[str, str]) -> None:
        """Nothing is made yet.

        :param admin: the database that is connected to meanwhile
        :param silent: settings of sessions in the new one, so that no event trigger fires
        """
        self.admin, self.name, self.marker = admin, name, marker
        self._silent = silent
        #: A session in it from before the first row: it shows others that a run is at work, however long that takes.
        self._witness: Session | None = None
        #: Statements that ran.
        self.queries: list[str] = []

    @property
    def target(self) -> Target:
        """Where sessions in it connect to."""
        return replace(self.admin, database=self.name).started_with(self._silent)

    def connect(self, *, statement_timeout_ms: int = 0) -> Session:
        """A session in it."""
        return connect(self.target, statement_timeout_ms=statement_timeout_ms)

    def make(self, session: Session, source: Source) -> None:
        """Make it, with the session of the other one."""
        create(session, self.name, source, self.marker)
        self.queries += session.executed_queries

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A session is kept open in it all the while."""
        with self.connect() as self._witness:
            yield

    def look_for_crash(self) -> None:
        """See that no crash of the server can have taken rows away again: data is loaded without synchronous_commit.

        :raises UnreachableError: the session was ended, as each one is by a crash
        """
        if self._witness is None:
            return
        try:
            self._witness.query("SELECT 1")
        except (psycopg2.Error, RunbookError):
            raise UnreachableError(
                f"{self.name}: the server restarted, or ended the session that this restore keeps open, and a "
                "crash takes rows away that were loaded shortly before. Nothing is known of the backup; restore again."
            ) from None

    def run(self, statements: Sequence[sql.Composable]) -> None:
        """Run statements in it."""
        if statements:
            with self.connect(statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
                for statement in statements:
                    session.execute(statement)
                self.queries += session.executed_queries

    def disarm(self) -> list[str]:
        """Switch off what would reach other servers from it; what the server said of that."""
        with self.connect(statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            said = project.disarm(session)
            self.queries += session.executed_queries
            return said

    def mark(self, state: State) -> list[str]:
        """Change its mark; the subscriptions in it."""
        self.marker = replace(self.marker, state=state, at=now())
        with connect(self.admin, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            session.execute(marking(self.name, self.marker))
            self.queries += session.executed_queries
            return subscriptions(session, self.name)

    def drop(self) -> str:
        """Drop it, and the roles that only it needed; empty, or the sentence why it is still there."""
        left = drop_patiently(self.admin, self.name, str(self.marker))
        drop_roles(self.admin)
        return left

    def keep(self, names: Sequence[str], instead_of: Mapping[str, str]) -> tuple[str, list[str]] | None:
        """:func:`keep` it as one that failed its proof."""
        marker = replace(self.marker, state="failed", at=now())
        return keep(self.admin, self.name, names, marker, instead_of)


class Finish:
    """What goes on beside the proof: indexes and constraints, then statistics for the planner."""

    def __init__(self, database: NewDatabase, indexes: Program, clock: Clock) -> None:
        """Remember what makes the indexes; it runs."""
        self._database, self._indexes, self._clock = database, indexes, clock
        self._analyze: threading.Thread | None = None
        self._error: Exception | None = None

    def poll(self) -> None:
        """See what has ended, and start what comes next.

        :raises Failed: an index or constraint could not be made
        :raises RunbookError: the deadline has passed
        """
        self._clock.check()
        if self._analyze is None and self._indexes.is_done():
            self._clock.lap("indexes")
            self._analyze = threading.Thread(target=self._gather, daemon=True)
            self._analyze.start()

    def _gather(self) -> None:
        try:
            with self._database.connect(statement_timeout_ms=self._clock.left_ms()) as session:
                analyze(session)
        except Exception as error:
            self._error = error

    def wait(self) -> None:
        """Wait for the end of all of it."""
        while self._analyze is None or self._analyze.is_alive():
            self.poll()
            time.sleep(_TICK_S)
        if self._error is not None:
            raise self._error


def define(
    database: NewDatabase, filler: Filler, schema: Path, selection: Selection | None,
    makers: Sequence[tuple[str, str]], check: Callable[[], None],
) -> tuple[list[str], list[sql.Composable]]:  # fmt: skip
    """Make what comes before the data; the words for what comes after it, and what is to be taken back then.

    :param schema: file with the definitions
    :param selection: those that are made; None where all are
    :param makers: who must be let make objects meanwhile: schema and role
    """
    words, back = [], []
    if selection is not None:
        words = [listed(schema.with_suffix(".list"), selection.rest)]
        if selection.schemas:
            first = listed(schema.with_suffix(".first"), selection.schemas)
            # Privileges are of no section of their own: pg_restore takes them for part of the one before them.
            filler.run("pre-data", "--section=data", "--section=post-data", first, str(schema), check=check)
    if makers:
        with database.connect(statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            back = let_make(session, makers)
            database.queries += session.executed_queries
    filler.run("pre-data", *words, str(schema), check=check)
    return words, back


# The ones of earlier runs ---------------------------------------------------------------------------------------------


def left_behind(session: Session, databases: Mapping[str, str | None], database: str) -> tuple[list[str], set[str]]:
    """What killed restores of a database left behind, and copies of it in which a run is at work.

    :param databases: comments of all databases, by name
    """
    marked = {
        name
        for name, comment in databases.items()
        if (marker := Marker.read(comment)) and marker.state == "restoring" and marker.database == database
    }
    at_work = marked & busy(session)
    if marked - at_work:
        # Between the making of a database and the first session in it pass milliseconds.
        time.sleep(_SECOND_LOOK_S)
        at_work = marked & busy(session)
    return sorted(marked - at_work) + abandoned(session), at_work


def clear(
    session: Session, leftovers: Mapping[str, str], *, needed: str | None, warn: Callable[[str], None]
) -> list[str]:
    """Drop what killed restores left behind; those that went. ``warn`` is told of what cannot be dropped.

    :param leftovers: the comments by which they were known, by name
    :param needed: a name that no other one will do for
    :raises RunbookError: that one cannot be dropped
    """
    removed = []
    for name, comment in leftovers.items():
        try:
            removed += [name] if drop(session, name, comment) else []
        except RunbookError as error:
            if name == needed:
                raise
            warn(error.message)
    return removed


def copies(session: Session) -> list[dict[str, Any]]:
    """All databases with what ``rules.backup.copies`` asks of them."""
    return session.query(
        "SELECT d.datname AS name, coalesce(shobj_description(d.oid, 'pg_database'), '') AS comment,"
        " pg_get_userbyid(d.datdba) AS owner, pg_has_role(d.datdba, 'USAGE') AS is_mine,"
        " CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')"
        " THEN pg_database_size(d.oid) END AS size_bytes,"
        # Whose sessions they are everybody may know, of what kind not.
        " (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.usesysid IS NOT NULL"
        " AND coalesce(a.backend_type, 'client backend') = 'client backend')"
        " AS sessions FROM pg_database d WHERE d.datname <> current_database() ORDER BY 1"
    )


def busy(session: Session) -> set[str]:
    """Databases in which a run of pg_restore is at work."""
    rows = session.query(
        "SELECT DISTINCT datname FROM pg_stat_activity WHERE application_name = %s AND datname <> current_database()",
        (PURPOSE,),
    )
    return {row["datname"] for row in rows}


def abandoned(session: Session) -> list[str]:
    """Databases that a run was killed in making, before they had their name and their mark."""
    at_work = {
        row["pid"] for row in session.query("SELECT pid FROM pg_stat_activity WHERE application_name = %s", (PURPOSE,))
    }
    rows = session.query(
        "SELECT datname FROM pg_database WHERE NOT datallowconn AND shobj_description(oid, 'pg_database') IS NULL"
    )
    found = {row["datname"]: Making.read(row["datname"]) for row in rows}
    return sorted(name for name, made in found.items() if made and made.pid not in at_work)


# Making and dropping --------------------------------------------------------------------------------------------------


def creation(
    session: Session, name: str, source: Source, marker: Marker
) -> tuple[sql.Composable, list[sql.Composable]]:
    """The statement that makes the new database as the old one was (encoding, locale), and those of one transaction.

    Until that is committed nobody can connect to it, and it bears a name that says whose it is. Then it has its own
    name and its mark, and is closed to other users: at no moment is it unknown or open, wherever a run is killed.
    """
    made = sql.Identifier(str(Making(f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}", session.connection.get_backend_pid())))
    options = [
        sql.SQL("TEMPLATE template0"),
        sql.SQL("ALLOW_CONNECTIONS false"),
        sql.SQL("ENCODING {}").format(sql.Literal(source.encoding)),
        sql.SQL("LC_COLLATE {}").format(sql.Literal(source.collate)),
        sql.SQL("LC_CTYPE {}").format(sql.Literal(source.ctype)),
    ]
    if source.locale_provider in {"icu", "builtin"}:
        options.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.SQL(source.locale_provider)))
        keyword = "ICU_LOCALE {}" if source.locale_provider == "icu" else "BUILTIN_LOCALE {}"
        options.append(sql.SQL(keyword).format(sql.Literal(source.icu_locale)))
    if source.icu_rules:
        options.append(sql.SQL("ICU_RULES {}").format(sql.Literal(source.icu_rules)))
    return sql.SQL("CREATE DATABASE {} {}").format(made, sql.SQL(" ").join(options)), [
        sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(made),
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(made),
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(made, sql.Identifier(name)),
        marking(name, marker),
    ]


def create(session: Session, name: str, source: Source, marker: Marker) -> None:
    """Make the new database.

    :raises RunbookError: the server refuses it; nothing was changed
    """
    first, rest = creation(session, name, source, marker)
    try:
        session.execute(first)
        with session.transaction():
            for statement in rest:
                session.execute(statement)
    except BaseException as error:
        _drop_unfinished(session)
        if isinstance(error, psycopg2.errors.DuplicateDatabase):
            raise RunbookError(f"target_database: {name!r} was made by somebody else this moment; run again.") from None
        if isinstance(error, psycopg2.Error):
            raise RunbookError(
                f"target_database: {name!r} could not be made: {ServerError.of(error).reason}; nothing was changed."
            ) from None
        raise


def _drop_unfinished(session: Session) -> None:
    """Drop what this very session was making; what is left of it, the next run drops."""
    # Twice: a stop cancels whatever the session does by then, and may come as late as here.
    for _ in range(2):
        with suppress(psycopg2.Error):
            for unfinished in _making_of(session):
                session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(unfinished)))
            return


def _making_of(session: Session) -> list[str]:
    """What this very session is making."""
    rows = session.query("SELECT datname FROM pg_database WHERE NOT datallowconn")
    found = {row["datname"]: Making.read(row["datname"]) for row in rows}
    return [name for name, made in found.items() if made and made.pid == session.connection.get_backend_pid()]


def let_make(session: Session, pairs: Iterable[tuple[str, str]]) -> list[sql.Composable]:
    """Let roles make objects where they own some, and may not any more or not yet: only so can they be given any.

    :param pairs: schema and role; with an empty schema, the database is meant
    :returns: the statements that take it back when all is restored
    """
    back: list[sql.Composable] = []
    for schema, role in pairs:
        place = sql.SQL("SCHEMA {}").format(sql.Identifier(schema))
        missing = (
            "SELECT 1 FROM pg_namespace n, pg_roles r WHERE n.nspname = %s AND r.rolname = %s"
            " AND NOT has_schema_privilege(r.oid, n.oid, 'CREATE')"
        )
        if not schema:
            place = sql.SQL("DATABASE {}").format(sql.Identifier(session.target.database))
            missing = (
                "SELECT 1 FROM pg_roles r WHERE %s = '' AND r.rolname = %s"
                " AND NOT has_database_privilege(r.oid, current_database(), 'CREATE')"
            )
        if session.query(missing, (schema, role)):
            session.execute(sql.SQL("GRANT CREATE ON {} TO {}").format(place, sql.Identifier(role)))
            back.append(sql.SQL("REVOKE CREATE ON {} FROM {}").format(place, sql.Identifier(role)))
    return back


#: The comment of a role that was made so that an object could be given to it.
_ROLE_MARK = "runbook: made for a restore, without login"


def make_roles(session: Session, names: Sequence[str]) -> None:
    """Make roles that are no more than names: without login, password or right, so that objects can be theirs."""
    for name in names:
        role = sql.Identifier(name)
        # One that somebody made this moment is not ours to drop.
        with suppress(psycopg2.errors.DuplicateObject), session.transaction():
            session.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
            session.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(_ROLE_MARK)))


def drop_roles(target: Target) -> None:
    """Drop the roles that restores made, but for those that something still belongs to.

    What cannot be dropped now the next restore drops.
    """
    with suppress(psycopg2.Error, RunbookError), connect(target, statement_timeout_ms=60_000) as session:
        for row in session.query(
            "SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = %s", (_ROLE_MARK,)
        ):
            with suppress(psycopg2.errors.DependentObjectsStillExist, psycopg2.errors.UndefinedObject):
                session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(row["rolname"])))


def dropping(name: str) -> sql.Composed:
    """The statement that drops a database."""
    return sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))


def drop(session: Session, name: str, comment: str) -> bool:
    """Drop a database if it still bears the comment by which it was known as unfinished; whether it is gone.

    :raises RunbookError: the server refuses it; the sentence names what is in the way
    """
    found = session.query(
        "SELECT oid::bigint AS oid, coalesce(shobj_description(oid, 'pg_database'), '') AS comment FROM pg_database"
        " WHERE datname = %s",
        (name,),
    )
    if not found:
        return True
    if found[0]["comment"] != comment:
        return False
    try:
        if subscriptions(session, name):
            copy = replace(session.target, database=name).started_with(silencing(session))
            with connect(copy, statement_timeout_ms=_CLEANUP_PATIENCE_S * 1000) as own:
                _drop_subscriptions(own)
        session.execute(dropping(name))
    except (psycopg2.Error, RunbookError) as error:
        why = error.message if isinstance(error, RunbookError) else ServerError.of(error).reason
        raise RunbookError(
            f"Database {name!r}, which a restore left unfinished, could not be dropped ({why.rstrip('.')}); "
            f"{_way_out(session, name)}."
        ) from None
    return True


def keep(
    target: Target, name: str, to: Sequence[str], marker: Marker, instead_of: Mapping[str, str]
) -> tuple[str, list[str]] | None:
    """Keep a copy that failed its proof under another name; only then do earlier ones go.

    :param to: the name that it gets, and those that it may have while that one is taken
    :param instead_of: earlier ones that go, with the comments by which they were known
    :returns: its name, and those that went; None where it could not be kept
    """

    def rename(session: Session, old: str, new: str) -> None:
        renaming = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
        while True:
            try:
                session.execute(renaming)
                return
            except psycopg2.errors.ObjectInUse:
                # Server processes of programs that were ended go within a moment.
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    end = time.monotonic() + _CLEANUP_PATIENCE_S
    try:
        with connect(target, statement_timeout_ms=_CLEANUP_PATIENCE_S * 1000) as session:
            taken = {row["datname"] for row in session.query("SELECT datname FROM pg_database")}
            kept = next(each for each in to if each not in taken)
            rename(session, name, kept)
            # Until then it bears the mark of an unfinished one, which the next restore drops.
            session.execute(marking(kept, marker))
            gone = []
            for earlier, comment in instead_of.items():
                # One that cannot be dropped costs room, and the next one that is kept tries again.
                with suppress(psycopg2.Error, RunbookError):
                    gone += [earlier] if drop(session, earlier, comment) else []
            if kept != to[0] and to[0] in gone:
                with suppress(psycopg2.Error):
                    rename(session, kept, to[0])
                    kept = to[0]
            return kept, gone
    except (psycopg2.Error, RunbookError, StopIteration):
        # The reason why it failed its proof is the one that counts.
        return None


def subscriptions(session: Session, name: str) -> list[str]:
    """Subscriptions of a database; their slots are those of the database that it is a copy of."""
    rows = session.query(
        "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = %s"
        " ORDER BY s.subname",
        (name,),
    )
    return [row["subname"] for row in rows]


def _drop_subscriptions(session: Session) -> None:
    """Drop the subscriptions of an unfinished copy; one that named its slot would take the live one's along."""
    for name in subscriptions(session, session.target.database):
        for act in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                    "DROP SUBSCRIPTION {}"):  # fmt: skip
            session.execute(sql.SQL(act).format(sql.Identifier(name)))


def _way_out(session: Session, name: str) -> str:
    """What has to be done before a database can be dropped."""
    try:
        (found,) = session.query(
            "SELECT (SELECT min(gid) FROM pg_prepared_xacts WHERE database = d.datname) AS prepared,"
            " (SELECT min(slot_name) FROM pg_replication_slots WHERE datoid = d.oid AND active) AS slot,"
            " d.datistemplate AS is_template, pg_get_userbyid(d.datdba) AS owner FROM pg_database d WHERE datname = %s",
            (name,),
        )
    except (psycopg2.Error, ValueError):
        return "the next restore tries again"
    if found["prepared"]:
        return f"end the prepared transaction {found['prepared']!r} there with ROLLBACK PREPARED"
    if found["slot"]:
        return f"end whoever reads from its replication slot {found['slot']!r}"
    if left := subscriptions(session, name):
        return (
            f"there, as a superuser, run ALTER SUBSCRIPTION … DISABLE, ALTER SUBSCRIPTION … SET (slot_name = NONE), "
            f"then DROP SUBSCRIPTION, for {', '.join(left)}"
        )
    if found["is_template"]:
        return f'it is a template: ALTER DATABASE "{name}" IS_TEMPLATE false'
    return f"drop it as its owner {found['owner']!r} or as a superuser"


def drop_patiently(target: Target, name: str, comment: str) -> str:
    """Drop the unfinished database over a connection of its own; the server may just be restarting.

    :returns: empty, or the sentence why it is still there
    """
    end = time.monotonic() + _CLEANUP_PATIENCE_S
    while True:
        try:
            with connect(target, statement_timeout_ms=_CLEANUP_PATIENCE_S * 1000) as session:
                if drop(session, name, comment):
                    return ""
                return f"Database {name!r} was changed by somebody else meanwhile, and was left alone."
        except (psycopg2.Error, RunbookError) as error:
            if time.monotonic() > end:
                why = error.message if isinstance(error, RunbookError) else ServerError.of(error).reason
                return f"Database {name!r} is unfinished and could not be dropped ({why}); the next restore drops it."
        time.sleep(0.5)
