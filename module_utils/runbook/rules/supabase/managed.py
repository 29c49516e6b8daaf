"""What a managed platform keeps for itself in a database: today Supabase's schemas, roles and extensions.

A Supabase project's owner logs in as ``postgres``, which is no superuser: schemas such as ``auth`` and ``storage``, the
event triggers and a dozen roles belong to the platform, are there in every fresh project, and cannot be made or altered
by anybody else. A backup holds them all the same. So there are two ways to restore one:

*   into a fresh project (:func:`for_project`): what the platform made is left alone, its rows and what was added to its
    tables are brought back;
*   onto a server of one's own (:func:`for_copy`): everything is made there, the platform's roles too, without login.

Either way nothing acts by itself afterwards: scheduled jobs, webhooks and connections to other servers stay off.

Sources: the public documentation of Supabase (roles, schemas, "Backup and restore", "Restricted schemas"), and the
format of ``pg_restore --list`` and of ``pg_dump``'s scripts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from ansible.module_utils.runbook.rules.postgres.server_error import told
from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.backup.manifest import Extension, Manifest
    from ansible.module_utils.runbook.rules.backup.proof import Found

#: The user that a project's owner has.
OWNER = "postgres"
#: The platform's superuser, whom initdb made.
SUPERUSER = "supabase_admin"
#: Roles of the API, which a project's owner may give rights to.
API_ROLES = frozenset({"anon", "authenticated", "service_role", "authenticator"})
#: Whose objects are the platform's.
PLATFORM_OWNERS = frozenset({
    SUPERUSER, "supabase_auth_admin", "supabase_storage_admin", "supabase_realtime_admin", "supabase_functions_admin",
    "supabase_replication_admin", "supabase_etl_admin", "supabase_read_only_user", "supabase_privileged_role",
    "dashboard_user", "pgbouncer", "pgsodium_keyholder", "pgsodium_keyiduser", "pgsodium_keymaker", "pgtle_admin",
})  # fmt: skip
#: Every role that is there in a fresh project.
PLATFORM_ROLES = PLATFORM_OWNERS | API_ROLES | {OWNER, "cli_login_postgres"}
#: Schemas in which a project's owner can make nothing.
SCHEMAS = frozenset({
    "auth", "storage", "realtime", "_realtime", "pgbouncer", "vault", "graphql", "graphql_public", "net", "cron",
    "supabase_functions", "pgsodium", "pgsodium_masks", "pgtle", "_analytics", "_supavisor", "repack",
})  # fmt: skip
#: Extensions that act by themselves, or whose key lies outside of the database, and where their objects are. A copy on
#: another server has none of them.
EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "pg_cron": ("cron",),
    "pg_net": ("net",),
    "pg_graphql": ("graphql",),
    "supabase_vault": ("vault",),
    "pgsodium": ("pgsodium", "pgsodium_masks"),
}
#: Schemas whose rows a project's owner may write, but for the tables that the platform fills.
_ROWS_IN = frozenset({"auth", "storage"})
_PLATFORM_ROWS = frozenset({
    ("auth", "schema_migrations"), ("storage", "migrations"), ("storage", "buckets_vectors"),
    ("storage", "vector_indexes"),
})  # fmt: skip
#: Rows that mean nothing in another project: queues, histories, what lives for hours.
_TRANSIENT = frozenset({"realtime", "_realtime", "net", "supabase_functions", "pgbouncer", "_analytics", "_supavisor"})
#: Settings of the API's roles that a project's owner makes. The platform has its own of others.
_SETTINGS = re.compile(
    r"statement_timeout|lock_timeout|idle_in_transaction_session_timeout|pgrst\..*|pgaudit\..*|track_io_timing"
)
#: What a function says that calls another server: by pg_net, by the extension http, by dblink. Python and PostgreSQL
#: read it alike.
CALLS_OUT = (
    r'(^|[^a-zA-Z0-9_])("?net"?\s*[.]\s*"?http_|http_(get|post|put|patch|delete|head)"?\s*[(]|http"?\s*[(]'
    r'|dblink[a-z_]*"?\s*[(])'
)
#: The schema of our own lease and heartbeat.
OURS = "runbook"


def is_platform(roles: Collection[str]) -> bool:
    """Whether a database with these roles is a project of the platform.

    >>> is_platform(("anon", "supabase_admin", "supabase_auth_admin"))
    True
    >>> is_platform(("app", "supabase_admin"))
    False
    """
    return len(PLATFORM_OWNERS.intersection(roles)) > 1


def left_out(extensions: Iterable[Extension]) -> tuple[str, ...]:
    """Extensions of a backup that a copy on another server does not get."""
    return tuple(sorted(each.name for each in extensions if each.name in EXTENSIONS))


# What pg_restore --list shows -----------------------------------------------------------------------------------------

#: Kinds of more than one word that are told apart here; what else there is begins with its one word.
_KINDS = (
    "ACCESS METHOD", "CHECK CONSTRAINT", "DEFAULT ACL", "EVENT TRIGGER", "FK CONSTRAINT", "FOREIGN DATA WRAPPER",
    "FOREIGN SERVER", "FOREIGN TABLE", "INDEX ATTACH", "LARGE OBJECT", "MATERIALIZED VIEW DATA", "MATERIALIZED VIEW",
    "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURAL LANGUAGE", "PUBLICATION TABLES IN SCHEMA", "PUBLICATION TABLE",
    "ROW SECURITY", "SECURITY LABEL", "SEQUENCE OWNED BY", "SEQUENCE SET", "SHELL TYPE", "STATISTICS DATA",
    "SUBSCRIPTION TABLE", "TABLE ATTACH", "TABLE DATA", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "USER MAPPING", "BLOB METADATA", "DATABASE PROPERTIES",
)  # fmt: skip
_LINE = re.compile(r"(?P<id>\d+); \d+ \d+ (?P<rest>.*)")


class Entry(NamedTuple):
    """One object of an archive."""

    #: As pg_restore wrote it, and wants it back.
    line: str
    kind: str
    #: Empty where the object is in none.
    schema: str
    #: Its name; that of a trigger or a policy stands behind its table's.
    tag: str
    owner: str

    @property
    def name(self) -> str:
        """How it is called in a sentence."""
        where = f"{self.schema}." if self.schema else ""
        if self.kind in {"TRIGGER", "POLICY"}:
            table, _, own = self.tag.partition(" ")
            return f"{self.kind.lower()} {own} on {where}{table}"
        return f"{self.kind.lower()} {where}{self.tag.removeprefix(f'{self.kind} ')}"


def read_list(text: str, schemas: Iterable[str] = ()) -> list[Entry]:
    """Read what ``pg_restore --list`` wrote.

    :param schemas: names of schemas beside the managed ones; only one with a space in it needs to be known

    >>> read_list("3573; 2620 17250 TRIGGER auth users on_new supabase_auth_admin")[0].name
    'trigger on_new on auth.users'
    """
    known = sorted({*SCHEMAS, *schemas}, key=len, reverse=True)
    found = []
    for line in text.splitlines():
        read = _LINE.fullmatch(line)
        if not read:
            continue
        rest = read["rest"]
        kind = next((each for each in _KINDS if rest.startswith(f"{each} ")), rest.split(" ", 1)[0])
        rest = rest[len(kind) + 1 :]
        schema = next((each for each in known if rest.startswith(f"{each} ")), rest.split(" ", 1)[0])
        tag, _, owner = rest[len(schema) + 1 :].rpartition(" ")
        found.append(Entry(line, kind, "" if schema == "-" else schema, tag, owner))
    return found


# Onto a server of one's own -------------------------------------------------------------------------------------------


#: What a copy does without: what reaches other servers, and what only a superuser may own.
NOT_IN_COPIES = frozenset({"USER MAPPING", "SUBSCRIPTION", "EVENT TRIGGER"})


def for_copy(entries: Sequence[Entry], without: Collection[str]) -> list[Entry]:
    """What is restored onto a server of one's own.

    Left out are some extensions with everything that is in their schemas, and what :data:`NOT_IN_COPIES` names.

    :param without: names of the extensions
    """
    gone = {schema for name in without for schema in EXTENSIONS[name]}
    made = {each.tag for each in entries if each.kind == "SCHEMA"}

    def is_kept(each: Entry) -> bool:
        if each.kind in NOT_IN_COPIES or each.kind == "SUBSCRIPTION TABLE":
            return False
        if each.kind == "EXTENSION":
            return each.tag not in without
        if each.schema:
            return each.schema not in gone
        what, _, name = each.tag.partition(" ")
        if what == "EXTENSION":
            return name.strip('"') not in without
        if each.tag.startswith("EVENT TRIGGER ") or what == "SUBSCRIPTION":
            return False
        # Of a schema that an extension made there is no definition, but its privileges are.
        return not (what == "SCHEMA" and name in gone and name not in made)

    return [each for each in entries if is_kept(each)]


def makeable(manifest: Manifest, *, scratch: bool) -> frozenset[str]:
    """Roles that a superuser makes without login where they are missing.

    :param scratch: the copy is dropped again, so what owns something in it need not be more than a name
    """
    if scratch:
        return frozenset(manifest.roles)
    return frozenset(manifest.roles) & PLATFORM_ROLES if is_platform(manifest.roles) else frozenset()


# Into a fresh project -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    """A project's database before anything is restored into it."""

    owner: str
    schemas: Collection[str]
    extensions: Collection[str]
    publications: Collection[str]
    roles: Collection[str]
    #: ``schema table name`` of what is on the platform's tables already.
    triggers: Collection[str]
    policies: Collection[str]
    #: ``schema name`` of indexes in managed schemas.
    indexes: Collection[str]
    #: Objects that somebody made outside of the platform's schemas: a fresh project has none.
    own: Sequence[str]
    #: Managed tables, by schema and name, that this user may write to, and whether they hold rows.
    tables: Mapping[tuple[str, str], bool]
    #: Managed sequences that this user may set.
    sequences: Collection[tuple[str, str]]
    #: Whether triggers can be kept from firing while rows are loaded.
    may_replicate: bool


@dataclass(frozen=True)
class Selection:
    """What of an archive's definitions goes into a project."""

    kept: Sequence[Entry]
    #: What was added to the platform's tables; done last, each on its own.
    added: Sequence[Entry]
    #: What a project's owner cannot make there, and that is not there.
    left_out: Sequence[Entry]


def for_project(entries: Sequence[Entry], project: Project) -> Selection:
    """What of the definitions is restored into a fresh project."""
    kept, added, gone = [], [], []
    for each in entries:
        verdict = _verdict(each, project)
        if verdict == "keep":
            kept.append(each)
        elif verdict == "add":
            added.append(each)
        elif verdict == "miss":
            gone.append(each)
    return Selection(kept, added, gone)


def _verdict(each: Entry, project: Project) -> str:
    what, _, name = each.tag.partition(" ")
    if each.schema == OURS or (each.tag in {OURS, f"SCHEMA {OURS}"} and not each.schema):
        return "keep" if OURS not in project.schemas else "skip"
    if each.kind == "EXTENSION":
        return "skip" if each.tag in project.extensions else "keep"
    if what == "EXTENSION" and not each.schema:
        return "skip"
    if each.kind in {"USER MAPPING", "SUBSCRIPTION"}:
        return "miss"
    if each.schema in SCHEMAS:
        return _managed(each, project)
    if each.owner in PLATFORM_OWNERS:
        return "skip"
    if each.kind == "SCHEMA" or (not each.schema and what == "SCHEMA" and name != "public"):
        return "skip" if (each.tag if each.kind == "SCHEMA" else name) in project.schemas else "keep"
    if each.kind == "PUBLICATION" or (not each.schema and what == "PUBLICATION"):
        return "skip" if (each.tag if each.kind == "PUBLICATION" else name) in project.publications else "keep"
    return "keep"


def _managed(each: Entry, project: Project) -> str:
    """Of what lies in a schema of the platform."""
    there = f"{each.schema} {each.tag}"
    if each.kind == "TRIGGER":
        return "skip" if there in project.triggers else "add"
    if each.kind == "POLICY":
        return "skip" if there in project.policies else "add"
    if each.kind == "INDEX":
        return "skip" if there in project.indexes else "miss"
    return (
        "miss" if each.owner not in PLATFORM_OWNERS and each.kind in {"TABLE", "VIEW", "FUNCTION", "TYPE"} else "skip"
    )


def rows_go(schema: str, table: str, project: Project) -> str:
    """Where rows of a table go: ``keep``, ``drop`` (the platform's own, or nobody's), ``miss``, ``cron``, ``vault``.

    ``miss`` are those that would be wanted, and cannot be written.
    """
    if schema == OURS:
        return "keep" if OURS not in project.schemas else "drop"
    if schema not in SCHEMAS:
        return "keep"
    if (schema, table) == ("cron", "job"):
        return "cron"
    if (schema, table) == ("vault", "secrets"):
        return "vault"
    if schema in _TRANSIENT or (schema, table) in _PLATFORM_ROWS or schema == "cron":
        return "drop"
    return "keep" if schema in _ROWS_IN and (schema, table) in project.tables else "miss"


def problems(manifest: Manifest, project: Project, *, user: str) -> Iterator[str]:
    """Why this backup cannot be restored into this project, one clause each."""
    if project.owner != user:
        yield f"the database belongs to {project.owner}; log in as that user"
    taken = [".".join(name) for name, has_rows in sorted(project.tables.items()) if has_rows and name[0] in _ROWS_IN]
    wanted = {
        f"{each.schema}.{each.name}" for each in manifest.tables if rows_go(each.schema, each.name, project) == "keep"
    }
    found = [*project.own, *(name for name in taken if name in wanted)]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        yield (
            f"it is not fresh: there are {', '.join(found[:3])}{more}; make a new project, because a restore never "
            "writes over what is there"
        )
    if not project.may_replicate:
        yield "this user may not set session_replication_role, so the platform's triggers would fire on every row"


_CALLS = re.compile(r"EXECUTE (?:FUNCTION|PROCEDURE) (?P<name>.*?)\(")


def calls_out(trigger: str, definitions: str) -> bool:
    """Whether a trigger calls another server: a webhook, or a function of one's own that uses pg_net.

    On the platform's tables it could not be switched off, once it is there.

    :param trigger: its definition
    :param definitions: those of all functions, as pg_restore writes them
    """
    calls = _CALLS.search(trigger)
    if not calls:
        return False
    if calls["name"].startswith("supabase_functions."):
        return True
    _, _, function = definitions.partition(f"CREATE FUNCTION {calls['name']}(")
    return bool(re.search(CALLS_OUT, function.partition("\n-- Name: ")[0], re.IGNORECASE))


# The rows -------------------------------------------------------------------------------------------------------------

_NAME = rb'(?:"(?:[^"\n]|"")+"|[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)'
_COPY = re.compile(rb"COPY (?P<schema>" + _NAME + rb")\.(?P<table>" + _NAME + rb") \((?P<columns>.*)\) FROM stdin;\n")
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('(?P<schema>[a-z_]+)\.(?P<name>[a-z0-9_$]+)', ")
_END = b"\\.\n"
#: Where jobs are kept until they are scheduled.
JOBS = "pg_temp.runbook_jobs"


def _unquoted(name: bytes) -> str:
    text = name.decode()
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


class ScriptFilter:
    """Takes out of a script of ``pg_restore --section=data`` what does not go into a project, piece by piece.

    Memory holds one piece and the rest of a line.
    """

    def __init__(
        self, goes: Callable[[str, str], str], *, sequences: Collection[tuple[str, str]] | None, server_version: int
    ) -> None:
        """Nothing was read yet.

        :param goes: where rows of a table go, by schema and name: see :func:`rows_go`
        :param sequences: the platform's sequences that are set; None for those of schemas whose rows go anywhere
        """
        self._table_goes, self._sequences = goes, sequences
        # A newer pg_restore sets it, and an older server stops at that.
        self._unknown = b"SET transaction_timeout = 0;\n" if server_version < 170000 else b""
        self._rest = b""
        self._goes = ""
        self._table = ("", "")
        self._in_line = False
        #: Rows by table that did not go through, and those of jobs.
        self.held: dict[tuple[str, str], int] = {}

    def feed(self, piece: bytes) -> bytes:
        """What of the script so far may go on."""
        self._rest += piece
        out: list[bytes] = []
        while self._rows(out) if self._goes else self._statement(out):
            pass
        return b"".join(out)

    def end(self) -> bytes:
        """The last words, which end without a new line."""
        rest, self._rest = self._rest, b""
        return rest if not self._goes else b""

    def _statement(self, out: list[bytes]) -> bool:
        end = self._rest.find(b"\n") + 1
        if not end:
            return False
        line, self._rest = self._rest[:end], self._rest[end:]
        copy, setval = _COPY.fullmatch(line), _SETVAL.match(line)
        if copy:
            self._table = (_unquoted(copy["schema"]), _unquoted(copy["table"]))
            self._goes = self._table_goes(*self._table)
            if self._goes == "cron":
                columns = copy["columns"]
                kinds = b", ".join(column + b" text" for column in columns.split(b", "))
                line = b"CREATE TEMPORARY TABLE %b (%b) ON COMMIT DROP;\nCOPY %b (%b) FROM stdin;\n" % (
                    JOBS.encode(), kinds, JOBS.encode(), columns,
                )  # fmt: skip
            if self._goes in {"keep", "cron"}:
                out.append(line)
        elif line != self._unknown and (not setval or self._is_set(setval["schema"].decode(), setval["name"].decode())):
            out.append(line)
        return True

    def _is_set(self, schema: str, name: str) -> bool:
        if self._sequences is None:
            return self._table_goes(schema, name) == "keep"
        return schema not in SCHEMAS or (schema, name) in self._sequences

    def _rows(self, out: list[bytes]) -> bool:
        if not self._rest:
            return False
        if not self._in_line and self._rest.startswith(_END):
            self._rest = self._rest[len(_END) :]
            if self._goes in {"keep", "cron"}:
                out.append(_END)
            self._goes = ""
            return True
        found = self._rest.find(b"\n" + _END)
        # Behind the last new line may be the beginning of the end.
        end = found + 1 if found >= 0 else self._rest.rfind(b"\n") + 1
        if not end:
            if not self._in_line and len(self._rest) < len(_END):
                return False
            end = len(self._rest)
        data, self._rest = self._rest[:end], self._rest[end:]
        self._in_line = bool(data) and not data.endswith(b"\n")
        if self._goes != "keep":
            self.held[self._table] = self.held.get(self._table, 0) + data.count(b"\n")
        if self._goes in {"keep", "cron"}:
            out.append(data)
        return found >= 0


# Roles ----------------------------------------------------------------------------------------------------------------

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_ALTER = re.compile(rf"ALTER ROLE (?P<role>{_IDENTIFIER}) WITH (?P<words>[A-Z ]+)(?: CONNECTION LIMIT \d+)?.*;")
_SET = re.compile(rf"ALTER ROLE (?P<role>{_IDENTIFIER}) SET (?P<name>\S+) TO .*;")
_GRANT = re.compile(rf"(?P<grant>GRANT (?P<role>{_IDENTIFIER}) TO (?P<member>{_IDENTIFIER}))(?P<rest>.*);")
#: Attributes that only the platform can give.
_BEYOND = ("SUPERUSER", "CREATEROLE", "REPLICATION", "BYPASSRLS")


@dataclass
class Roles:
    """What of ``pg_dumpall --globals-only`` is done in a project."""

    #: Statements that must succeed: roles without which nothing can be restored.
    made: list[str] = field(default_factory=list)
    #: Statements that may be refused, each with how it is called then: values of settings may be secret.
    tried: list[tuple[str, str]] = field(default_factory=list)
    #: Statements at the end, which take back what only the restore needed.
    undone: list[str] = field(default_factory=list)
    #: What is left for a person.
    listed: list[str] = field(default_factory=list)


def roles(script: str, project: Project) -> Roles:
    """Roles of one's own, their memberships and settings, from the script that a backup holds.

    Passwords are in no backup. Attributes that only the platform can give are listed.
    """
    found = Roles()
    lines = script.splitlines()
    custom = []
    for line in lines:
        alter = _ALTER.fullmatch(line)
        if not alter:
            continue
        name, words = alter["role"], alter["words"].split()
        if _plain(name) in PLATFORM_ROLES or _plain(name).startswith("pg_"):
            continue
        custom.append(name)
        if _plain(name) not in project.roles:
            given = [word for word in words if word in {"LOGIN", "NOINHERIT", "CREATEDB"}]
            found.made.append(f"CREATE ROLE {' '.join([name, *given])};")
        lacks = [word for word in _BEYOND if word in words]
        if lacks:
            found.listed.append(f"role {name}: {', '.join(lacks)}")
        if "LOGIN" in words:
            found.listed.append(f"role {name}: its password")
    members = {(read["role"], read["member"]): read["grant"] for line in lines if (read := _GRANT.fullmatch(line))}
    for name in custom:
        # Who gives an object away must be a member of whom it is given to.
        found.made.append(f"GRANT {name} TO CURRENT_USER;")
        if (name, OWNER) not in members:
            found.undone.append(f"REVOKE {name} FROM CURRENT_USER;")
    found.tried += [
        (grant, f"{grant};")
        for (role, member), grant in members.items()
        if (member in custom or role in custom) and member != OWNER
    ]
    for line in lines:
        setting = _SET.fullmatch(line)
        if not setting:
            continue
        if setting["role"] in custom or _is_owners(setting["role"], setting["name"]):
            found.tried.append((f"role {setting['role']}: its setting {setting['name']}", line))
    return found


def _is_owners(role: str, setting: str) -> bool:
    """Whether a project's owner made this setting of one of the platform's roles."""
    return _plain(role) in API_ROLES | {OWNER} and bool(_SETTINGS.fullmatch(setting.strip('"')))


_OF_DATABASE = re.compile(
    rf"ALTER (?:DATABASE {_IDENTIFIER}|(?P<who>ROLE (?P<role>{_IDENTIFIER}) IN DATABASE) {_IDENTIFIER})"
    r" SET (?P<name>\S+) (?P<value>TO .*);"
)


def settings(script: str, *, database: str) -> list[tuple[str, str]]:
    """Settings of a database, and of roles in it, from what ``pg_restore --create`` writes.

    The mark of an environment is not among them: it belongs to the database that was backed up.

    :param database: the one that they are for, quoted
    :returns: how each is called, and its statement
    """
    found = []
    for line in script.splitlines():
        read = _OF_DATABASE.fullmatch(line)
        if not read or read["name"].strip('"').startswith(f"{OURS}."):
            continue
        role = read["role"]
        if role and _plain(role) in PLATFORM_ROLES and not _is_owners(role, read["name"]):
            continue
        called = f"role {role}: its setting {read['name']} here" if role else f"the database's setting {read['name']}"
        found.append((called, f"ALTER {read['who'] or 'DATABASE'} {database} SET {read['name']} {read['value']};"))
    return found


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


# What psql says -------------------------------------------------------------------------------------------------------

#: Stands before what is tried, in psql's own words to us.
MARK = "runbook-"
#: Stands in the server's warnings before a statement that switches on what was switched off.
OFF = "runbook switched off:"
#: Stands there before what was not brought back.
LEFT = "runbook left out:"
_PSQL = re.compile(r"psql:[^:]*:\d+: (?:ERROR|FATAL|PANIC): +(?P<text>.*)|psql: error: (?P<own>.*)")


def said_errors(lines: Sequence[str]) -> list[str]:
    r"""Errors of statements that had to succeed, without anything of a row.

    >>> said_errors(["runbook-1", "psql:<stdin>:3: ERROR:  must be owner of table objects", "runbook-"])
    []
    >>> said_errors(["psql:<stdin>:9: ERROR:  invalid input syntax for type json: \"x\""])
    ['invalid input syntax for type json']
    """
    found, label = [], ""
    for line in lines:
        if line.startswith(MARK):
            label = line[len(MARK) :]
            continue
        read = _PSQL.match(line)
        if read and not label:
            found.append(read["own"] or _nameless(read["text"]))
    return found


def refused(lines: Sequence[str]) -> dict[str, str]:
    """What was tried and refused: the first reason by label."""
    found: dict[str, str] = {}
    label = ""
    for line in lines:
        if line.startswith(MARK):
            label = line[len(MARK) :]
        elif label and (read := _PSQL.match(line)):
            found.setdefault(label, read["own"] or _nameless(read["text"]))
    return found


def switched_off(lines: Sequence[str]) -> list[str]:
    """Statements that switch on what was switched off."""
    return [line.partition(OFF)[2].strip() for line in lines if OFF in line]


def not_brought(lines: Sequence[str]) -> list[str]:
    """What the server was asked to leave out, and said so."""
    return [line.partition(LEFT)[2].strip() for line in lines if LEFT in line]


def _nameless(text: str) -> str:
    """An error without the content of a row."""
    return told(text) or "its text stays in the server's log"


# What is not in it ----------------------------------------------------------------------------------------------------


def missing(manifest: Manifest, project: Project, held: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """Rows that a project does not get though they would be wanted, and what is in no backup of a database.

    :param held: rows by table that were held back
    """
    for (schema, table), rows in sorted(held.items()):
        where = rows_go(schema, table, project)
        if where == "vault":
            yield f"{rows:,} secret{'s' if rows > 1 else ''} of the vault, whose key is in no database: enter again"
        elif where == "miss":
            yield f"{count(rows, 'row')} of {schema}.{table}: this user may not write there"
    if any((each.schema, each.name) == ("storage", "objects") and each.rows != 0 for each in manifest.tables):
        yield "the files of storage, which are in no database: copy them from their mirror"


def narrowed(manifest: Manifest, found: Found, is_wanted: Callable[[str, str], bool]) -> tuple[Manifest, Found]:
    """A manifest and what was found, with nothing but the tables and sequences that are to be equal.

    :param is_wanted: whether the rows of a table, by schema and name, were to be restored
    """
    sequences = manifest.sequences
    if sequences is not None:
        sequences = tuple(each for each in sequences if is_wanted(each.schema, each.name))
    return (
        replace(
            manifest,
            tables=tuple(each for each in manifest.tables if is_wanted(each.schema, each.name)),
            sequences=sequences,
        ),
        replace(
            found,
            contents={name: content for name, content in found.contents.items() if is_wanted(*name)},
            errors={name: why for name, why in found.errors.items() if is_wanted(*name)},
        ),
    )


#: So many things are named in a sentence; the result has them all.
_NAMED = 8


def sentence(without: Sequence[str], to_arm: Sequence[str]) -> str:
    """What a restored database does without, and what is switched off in it; empty where it is whole."""
    words = ""
    if without:
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        words += f" Without {', '.join(without[:_NAMED])}{more}."
    if to_arm:
        armed = count(len(to_arm), "job or webhook", "jobs or webhooks")
        words += f" {armed} {agree(len(to_arm), 'is', 'are')} switched off; to_arm holds what switches them on."
    return words
