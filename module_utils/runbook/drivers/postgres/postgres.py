"""The only code that touches psycopg2: how a database is reached, and how SQL is run and written down.

Options are those of community.postgresql (``login_host``, ``login_port`` …), or one ``dsn``. libpq's silent defaults
are never used: an empty target is an error.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from ansible.module_utils.runbook.drivers import stopping
from ansible.module_utils.runbook.drivers.postgres import pooler, tls_probe
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules import identity
from ansible.module_utils.runbook.rules.postgres.connection_failure import ConnectionFailure
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from ansible.module_utils.runbook.rules.postgres.session_settings import DECISIVE, GUARDED, PINNED, WISHED
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

CONNECT_TIMEOUT_S = 10
APPLICATION_NAME = "runbook"
#: Where ``pg_settings.source`` says so, a value is that of the role or the database, not of the server.
FROM_ROLE_OR_DATABASE = frozenset({"database", "user", "database user"})
#: First server version with login triggers, and with the setting that keeps event triggers from firing.
SILENCES_EVENT_TRIGGERS = 170000
NO_EVENT_TRIGGERS = {"event_triggers": "off"}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every module that talks to PostgreSQL; documented in ``doc_fragments/runbook_postgresql.py``."""
    return {
        "dsn": {"type": "str", "no_log": True},
        "login_host": {"type": "str"},
        "login_port": {"type": "int", "default": 5432},
        "login_user": {"type": "str"},
        "login_password": {"type": "str", "no_log": True},
        "login_db": {"type": "str"},
        "ssl_mode": {
            "type": "str",
            "default": "prefer",
            "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
        },
        "ca_cert": {"type": "path"},
        "system_identifier": {"type": "str"},
    }


@dataclass(frozen=True)
class Target:
    """A database that was named in full. ``str()`` of it is safe to print: it holds no password."""

    host: str
    port: int
    database: str
    user: str
    password: str | None = field(repr=False)
    ssl_mode: str = "prefer"
    ca_cert: str | None = None
    #: The cluster that is meant; None where nobody said so. Every session to this target compares.
    system_identifier: str | None = None
    #: Further libpq parameters that a ``dsn`` named.
    extra: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"

    def started_with(self, settings: Mapping[str, str]) -> Target:
        """The same, reached by sessions that begin with these settings."""
        if not settings:
            return self
        more = dict(self.extra)
        more["options"] = f"{more.get('options', '')} {command_line_options(settings)}".strip()
        return replace(self, extra=tuple(sorted(more.items())))

    def parameters(self) -> dict[str, Any]:
        """As libpq takes them."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            "sslmode": self.ssl_mode,
            "sslrootcert": self.ca_cert,
            "connect_timeout": CONNECT_TIMEOUT_S,
        } | dict(self.extra)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Target:
        """Read the target from a module's options.

        :raises RunbookError: host, database or user is missing or empty, or the dsn cannot be read
        """
        named = {"host": params["login_host"], "dbname": params["login_db"], "user": params["login_user"]}
        if params.get("dsn"):
            try:
                parsed = psycopg2.extensions.parse_dsn(params["dsn"])
            except psycopg2.ProgrammingError:
                # libpq's own text quotes the dsn, password and all.
                raise RunbookError(
                    "dsn: not a connection string that libpq can read; write it as "
                    "postgresql://user:password@host:port/database, with special characters percent-encoded."
                ) from None
            source, options = "dsn", {"host": "host", "dbname": "database", "user": "user"}
        else:
            parsed = {key: str(value) for key, value in named.items() if value}
            parsed["port"] = str(params["login_port"])
            if params.get("login_password"):
                parsed["password"] = params["login_password"]
            source, options = "", {"host": "login_host", "dbname": "login_db", "user": "login_user"}
        missing = [option for key, option in options.items() if not parsed.get(key)]
        if missing:
            raise RunbookError(
                f"{source + ': ' if source else ''}{' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} empty; name the database in full, "
                "because libpq's silent defaults (local socket, name of the operating-system user) are not used."
            )
        if any(sign in parsed["host"] for sign in "@?#") or "://" in parsed["dbname"] + parsed["user"]:
            # What stands before the last @ is a part of the password.
            raise RunbookError(
                f"{source or 'login_host'}: the host is none (not repeated here, for it may hold a part of the "
                "password); in a password write @ as %40, : as %3A, / as %2F, # as %23 and ? as %3F."
            )
        known = {"host", "port", "dbname", "user", "password", "sslmode", "sslrootcert"}
        return cls(
            host=parsed["host"],
            port=int(parsed.get("port", "5432").split(",")[0]),
            database=parsed["dbname"],
            user=parsed["user"],
            password=parsed.get("password"),
            ssl_mode=parsed.get("sslmode", params["ssl_mode"]),
            ca_cert=parsed.get("sslrootcert", params["ca_cert"]),
            system_identifier=params.get("system_identifier"),
            extra=tuple(sorted((key, value) for key, value in parsed.items() if key not in known)),
        )


def silencing(session: Session) -> dict[str, str]:
    """Settings of sessions in a copy, in which no event trigger is to fire; empty where there is no such setting.

    A login trigger fires before a session can set anything, so it must begin with them. Before PostgreSQL 17 there is
    none, and the other event triggers come last in what pg_restore makes.
    """
    if session.server_version < SILENCES_EVENT_TRIGGERS or pooler.is_pooled(session.connection):
        return {}
    may = session.query("SELECT has_parameter_privilege('event_triggers', 'SET') AS may")[0]["may"]
    return NO_EVENT_TRIGGERS if may else {}


def silenced(target: Target) -> Target:
    """A copy that is there already, reached by sessions in which no event trigger fires; as it is where that cannot be.

    A session that asked first would fire a login trigger. So one begins with the setting, and is refused by servers
    below PostgreSQL 17, which have no such trigger, by poolers, and where this user may not set it.
    """
    silent = target.started_with(NO_EVENT_TRIGGERS)
    try:
        psycopg2.connect(**silent.parameters()).close()
    except psycopg2.Error as error:
        # The setting's name stands in whatever language the server speaks; old poolers name what carries it.
        if "event_triggers" in str(error) or "startup parameter" in str(error):
            return target
    return silent


def table(name: QualifiedName) -> sql.Identifier:
    """The name as SQL, quoted by the driver."""
    return sql.Identifier(name.schema, name.name)


def explain(error: psycopg2.Error, target: Target) -> RunbookError:
    """The sentence for a failure to connect: what was asked, what was found, the fix. Never a password.

    Its context has ``connection``, the kind of failure:
    :data:`~ansible.module_utils.runbook.rules.postgres.connection_failure.Kind`.
    """
    text = str(error)
    if "certificate verify failed" in text:
        why = tls_probe.verdict(target.host, target.port, target.ca_cert, timeout_s=CONNECT_TIMEOUT_S)
        text = f"verify failed: {why} {text}" if why else text
    failure = ConnectionFailure.of(text)
    family = UnreachableError if failure.kind in ("away", "full") else RunbookError
    return family(f"Cannot connect to {target}: {failure}.", connection=failure.kind)


def cluster_and_database(session: Session) -> tuple[str, str]:
    """The cluster's system identifier, and the name of the database, as the server tells them.

    :raises RunbookError: this user may not ask
    """
    may = session.query("SELECT has_function_privilege('pg_control_system()', 'EXECUTE') AS may")[0]["may"]
    if not may:
        raise RunbookError(
            f"{session.target}: user {session.target.user!r} may not ask which cluster this is; as a superuser run "
            f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() to that user."
        )
    row = session.query(
        "SELECT system_identifier::text AS identifier, current_database()::text AS name FROM pg_control_system()"
    )[0]
    return str(row["identifier"]), str(row["name"])


#: One message, sent after the connection stands: poolers refuse unknown start-up options. The path comes first, so that
#: no function of a user stands for a built-in one in the rest. What we commit must outlive a crash of the server; no
#: standby is waited for, because it may be away.
_PIN = """
    SET search_path TO pg_catalog;
    SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off';
    SELECT pinned.name, s.source, s.setting <> pinned.value AS differs,
      CASE WHEN s.context = 'user' OR current_setting('is_superuser') = 'on' THEN
        set_config(s.name, pinned.value, false) IS NOT NULL ELSE false END AS is_set
    FROM unnest(%s::text[], %s::text[]) AS pinned(name, value)
    JOIN pg_settings s ON lower(s.name) = lower(pinned.name)
"""


def command_line_options(settings: Mapping[str, str]) -> str:
    r"""Settings as libpq's ``options``, which a program finds in ``PGOPTIONS``.

    >>> command_line_options({"DateStyle": "ISO, YMD", "jit": "off"})
    '-c DateStyle=ISO,\\ YMD -c jit=off'
    """
    quoted = {name: value.replace("\\", r"\\").replace(" ", r"\ ") for name, value in settings.items()}
    return " ".join(f"-c {name}={value}" for name, value in quoted.items())


class Session:
    """One connection, and the list of what it executed.

    Autocommit is on: a transaction is what :meth:`transaction` wraps. ``search_path`` is ``pg_catalog`` alone, so that
    no object of a user shadows a built-in one; every other name must be qualified. Every setting that we rely on is
    set, whatever role and database have (``rules/postgres/session_settings.py``).
    """

    def __init__(self, target: Target, *, lock_timeout_ms: int, statement_timeout_ms: int, purpose: str = "") -> None:
        """Connect.

        :param lock_timeout_ms: longest wait for a lock, in milliseconds; 0 is refused: every wait is bounded
        :param statement_timeout_ms: longest statement, in milliseconds; 0 means no bound, for VACUUM and the like
        :param purpose: shown in ``pg_stat_activity.application_name`` behind ``runbook``
        :raises RunbookError: no connection; the sentence names the fix
        """
        if lock_timeout_ms <= 0:
            raise RunbookError(f"lock_timeout_ms: {lock_timeout_ms} would wait for ever; give a number above 0.")
        self.target = target
        self.executed_queries: list[str] = []
        parameters: dict[str, Any] = {
            "application_name": f"{APPLICATION_NAME} {purpose}".strip(),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "client_encoding": "UTF8",
        } | target.parameters()

        def connect() -> Any:
            return psycopg2.connect(**parameters)

        try:
            self.connection = connect()
            if self.connection.get_parameter_status("standard_conforming_strings") == "off":
                # psycopg2 chooses how it quotes when a connection begins, so this one cannot be set afterwards.
                self.connection.close()
                options = f"{parameters.get('options', '')} -c standard_conforming_strings=on".strip()
                self.connection = psycopg2.connect(**(parameters | {"options": options}))
            self.connection.autocommit = True
            # Before anything is set: a transaction pooler would hand our settings on to an application.
            pooler.require_session(self.connection, connect, str(target))
        except psycopg2.Error as error:
            raise explain(error, target) from None
        stopping.register(self)
        self._tool_settings: dict[str, str] = {}
        self._overridden: list[str] = []
        #: Where it was set that transactions only read: ``database``, ``user`` … as ``pg_settings.source`` says it.
        self.frozen_by = ""
        try:
            self._pin(lock_timeout_ms, statement_timeout_ms)
            if target.system_identifier is not None:
                self._prove(target.system_identifier)
        except BaseException:
            self.close()
            raise

    def _pin(self, lock_timeout_ms: int, statement_timeout_ms: int) -> None:
        """Set what we rely on.

        :raises RunbookError: this user may not set a setting that loses data in silence
        """
        tools = PINNED | GUARDED | WISHED
        pinned = tools | {
            "lock_timeout": str(lock_timeout_ms),
            "statement_timeout": str(statement_timeout_ms),
            "idle_in_transaction_session_timeout": "60s",
        }
        values = [list(pinned), list(pinned.values())]
        for row in self.query(_PIN, values):
            name = row["name"]
            if row["is_set"]:
                if name in tools:
                    self._tool_settings[name] = tools[name]
            elif row["differs"] and name in GUARDED:
                raise RunbookError(
                    f"login_user: {name} is not {tools[name]!r} for {self.target.user!r} in {self.target.database!r}, "
                    f"and only a superuser may set it; take it back with ALTER ROLE … RESET {name} or ALTER DATABASE "
                    f"… RESET {name}, whichever set it."
                )
            if row["differs"] and name == "default_transaction_read_only" and row["source"] != "client":
                self.frozen_by = row["source"]
            if row["differs"] and name in DECISIVE and row["source"] in FROM_ROLE_OR_DATABASE:
                self._overridden.append(name)

    def _prove(self, system_identifier: str) -> None:
        """See that this is the cluster and the database that are meant, before anything is asked of them.

        :raises RunbookError: it is another one, or this user may not ask
        """
        found = cluster_and_database(self)
        identity.check(*found, system_identifier=system_identifier, database=self.target.database)

    def tool_options(self, **settings: str) -> str:
        """What a program that we start on this target finds in ``PGOPTIONS``; empty through a pooler.

        The server sets it no bounds: whoever starts it does, and ends it. What it was doing in the server ends with it.

        :param settings: further ones, which the server must know and this user may set
        :raises RunbookError: it goes through a pooler, which passes none on, and the role's or the database's own would
            change what the program does
        """
        if pooler.is_pooled(self.connection):
            if self._overridden:
                raise RunbookError(
                    f"login_host: {self.target} is a connection pooler, which passes no settings on, and "
                    f"{', '.join(sorted(self._overridden))} of this user or database would change what is written; "
                    "use the server's own address."
                )
            return ""
        more = {
            "lock_timeout": "0",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            # Of the role's, pg_dump would make the encoding of its dump.
            "client_encoding": self.connection.get_parameter_status("server_encoding"),
        }
        if self.server_version >= 140000:
            more["client_connection_check_interval"] = "2s"
        own = dict(self.target.extra).get("options", "")
        return f"{own} {command_line_options(self._tool_settings | more | settings)}".strip()

    @property
    def server_version(self) -> int:
        """As PostgreSQL's ``server_version_num``: 150018 is 15.18."""
        return int(self.connection.server_version)

    def query(
        self, statement: str | sql.Composable, values: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run a statement that only reads (or sets up the session); its rows as dictionaries."""
        with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(self._with_places(statement, values), values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def execute(self, statement: str | sql.Composable, values: Sequence[Any] | Mapping[str, Any] | None = None) -> int:
        """Run a statement that changes something and note it; the number of rows touched (-1: not applicable)."""
        with self.connection.cursor() as cursor:
            self.executed_queries.append(self.render(statement))
            cursor.execute(self._with_places(statement, values), values)
            return int(cursor.rowcount)

    def _with_places(self, statement: str | sql.Composable, values: object) -> str | sql.Composable:
        """The statement as the driver takes it beside values: it reads a % in a name as the place of one."""
        return statement if values is None or isinstance(statement, str) else self._doubled(statement)

    def _doubled(self, statement: sql.Composable) -> sql.Composable:
        if isinstance(statement, sql.Composed):
            return sql.Composed([self._doubled(part) for part in statement.seq])
        if isinstance(statement, sql.SQL | sql.Placeholder):
            return statement
        return sql.SQL(statement.as_string(self.connection).replace("%", "%%"))

    def require_primary(self) -> None:
        """Refuse a standby.

        :raises RunbookError: the server is one
        """
        if self.query("SELECT pg_is_in_recovery() AS standby")[0]["standby"]:
            raise RunbookError(
                f"{self.target} is a read-only standby, where nothing can be changed; name the primary in login_host."
            )

    def system_identifier(self) -> str:
        """The number that initdb gave the cluster."""
        return str(self.query("SELECT system_identifier::text AS id FROM pg_control_system()")[0]["id"])

    def render(self, statement: str | sql.Composable) -> str:
        """The statement's text with quoted identifiers; bound values stay placeholders."""
        text = statement if isinstance(statement, str) else statement.as_string(self.connection)
        return " ".join(text.split())

    def unfreezing(self) -> str:
        """The statement that takes back what :attr:`frozen_by` says."""
        database, role = sql.Identifier(self.target.database), sql.Identifier(self.target.user)
        way = {
            "database": sql.SQL("ALTER DATABASE {} RESET").format(database),
            "user": sql.SQL("ALTER ROLE {} RESET").format(role),
            "database user": sql.SQL("ALTER ROLE {} IN DATABASE {} RESET").format(role, database),
        }.get(self.frozen_by, sql.SQL("ALTER SYSTEM RESET"))
        return f"{self.render(way)} default_transaction_read_only"

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block did, or roll all of it back when it raises."""
        self.connection.autocommit = False
        try:
            yield
            self.connection.commit()
        except BaseException:
            if not self.connection.closed:
                self.connection.rollback()
            raise
        finally:
            if not self.connection.closed:
                self.connection.autocommit = True

    def interrupt(self) -> None:
        """Cancel what the server does for this session just now; may be called from another thread."""
        if not self.connection.closed:
            self.connection.cancel()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self.connection.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def cause(error: psycopg2.Error) -> str:
    """Why a statement failed, without the content of a row."""
    return ServerError.of(error).reason


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """Turn what the driver raises in the block into one sentence."""
    try:
        yield
    except psycopg2.Error as error:
        raise RunbookError(f"{target}: {cause(error)}.") from None
