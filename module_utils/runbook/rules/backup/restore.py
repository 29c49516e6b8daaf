"""Which backup is restored, into which new database, and what must be there before the first byte moves.

A restore never writes to a database that exists. It makes a new one beside the live one, marks it as unfinished in
its comment (:class:`~ansible.module_utils.runbook.rules.backup.swap.Marker`), and marks it as proven only when its
contents were compared with the backup. So a restore that fails, or is killed, leaves nothing that anybody could take
for the real thing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import proof as proofs
from ansible.module_utils.runbook.rules.backup import restore_rights
from ansible.module_utils.runbook.rules.backup.swap import Marker, dated_name
from ansible.module_utils.runbook.rules.identifiers import MAX_IDENTIFIER_BYTES
from ansible.module_utils.runbook.rules.postgres.connection_failure import ConnectionFailure
from ansible.module_utils.runbook.rules.postgres.server_error import told
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, count, size, some, to_second

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest, Object, TableEntry
    from ansible.module_utils.runbook.rules.backup.proof import Found as Contents
    from ansible.module_utils.runbook.rules.backup.proof import Proof

#: Days that a copy which failed its proof is kept, unless another one takes its place.
FAILED_DAYS = 7
#: What ``backup`` says when no particular one is meant.
LATEST = "latest"
#: Room that a database takes beyond its size: WAL, and files that sort the rows of an index.
ROOM_FACTOR = 1.2
#: What a restore keeps on the bastion's disk: the schema. A larger one is said.
TEMPORARY_BYTES = 64 << 20


# Which backup ---------------------------------------------------------------------------------------------------------


def check_options(params: Mapping[str, Any]) -> datetime | None:
    """Refuse options of any restore that mean nothing; the time that ``before`` names.

    :raises RunbookError: the first that is wrong
    """
    if not params["database"]:
        raise RunbookError("database: it is empty; name the database that was backed up.")
    if params["record_proof"] and not (params["prove"] and params["environment"]):
        raise RunbookError("record_proof: it needs prove, and the name of the environment in environment.")
    return moment.read("before", params["before"]) if params["before"] else None


def candidates(folders: Sequence[str], *, backup: str, before: datetime | None) -> list[str]:
    """Backups that are meant, the best one first; whether they are complete is not known yet.

    :param folders: names found below the database's folder
    :param backup: the name of one, or ``latest``
    :param before: only backups that began before this time
    :raises RunbookError: there is none, or the options contradict each other
    """
    found = sorted((name for name in folders if manifests.is_backup_id(name)), reverse=True)
    if backup != LATEST:
        if before is not None:
            raise RunbookError("backup and before: both are set; name a backup, or a time that it must be older than.")
        if not manifests.is_backup_id(backup):
            raise RunbookError(
                f"backup: {backup!r} names no backup; write {LATEST}, or a name such as 2026-11-23T03-00-00Z."
            )
        if backup not in found:
            raise RunbookError(f"backup: there is no {backup}; there are {_some(found)}.")
        return [backup]
    if not found:
        raise RunbookError("backup: there is none of this database; check bucket, prefix and database.")
    older = [name for name in found if before is None or (manifests.started_at(name) or before) < before]
    if not older:
        raise RunbookError(f"before: no backup began before {before:%Y-%m-%d %H:%M:%S %Z}; there are {_some(found)}.")
    return older


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} older" if len(names) > 3 else shown or "none"


@dataclass(frozen=True)
class Wanted:
    """Which backup is asked for, as :func:`candidates` and :func:`backup_origin.check_restoring` take it."""

    database: str
    backup: str
    before: datetime | None
    clusters: frozenset[str]
    from_cluster: str = ""

    @classmethod
    def of(cls, params: Mapping[str, Any], before: datetime | None, clusters: frozenset[str]) -> Wanted:
        """What the options of a restore ask for.

        :param clusters: those whose backup it may be; empty if that is not compared
        """
        return cls(params["database"], params["backup"], before, clusters, params["from_cluster"] or "")


class Found(NamedTuple):
    """A complete backup: what its manifest says, its folder, and the digest that the manifest bears."""

    manifest: Manifest
    folder: str
    sha256: str


class Backups(Protocol):
    """The backups of one database, where they are stored."""

    @property
    def home(self) -> str:
        """The folder in which they lie."""

    def names(self) -> Sequence[str]:
        """Names found there, of backups and of other things."""

    def manifest(self, folder: str) -> bytes | None:
        """The manifest in a backup's folder; None where there is none."""

    def url(self, key: str) -> str:
        """How a sentence calls an object or a folder."""


def choose(wanted: Wanted, backups: Backups, *, warn: Callable[[str], None]) -> Found:
    """The backup that is meant; ``warn`` is told of each that is not complete.

    :raises RunbookError: there is none, or its manifest is not to be trusted
    """
    names = candidates(backups.names(), backup=wanted.backup, before=wanted.before)
    for name in names:
        folder = f"{backups.home}{name}/"
        where = backups.url(folder)
        text = backups.manifest(folder)
        if text is None:
            warn(f"{where} has no manifest, so it is no complete backup; it is skipped.")
            continue
        manifest = manifests.parse(text, where=where + manifests.MANIFEST_NAME)
        check_manifest(manifest, folder=folder, database=wanted.database, backup_id=name)
        origins.check_restoring(manifest.source.system_identifier, wanted.clusters, wanted.from_cluster, where=where)
        if wanted.before is None or datetime.fromisoformat(manifest.source.snapshot_at) < wanted.before:
            return Found(manifest, folder, json.loads(text)["sha256"])
    raise RunbookError(
        f"backup: none of {len(names)} in {backups.url(backups.home)} that could be meant is complete; make a new one."
    )


def check_manifest(manifest: Manifest, *, folder: str, database: str, backup_id: str) -> None:
    """See that a manifest is the one of the backup that was asked for.

    :param folder: where it was found; every object lies there too
    :raises RunbookError: it is that of another database or backup
    """
    if manifest.source.database != database:
        raise RunbookError(
            f"database: the backup in {folder} is of {manifest.source.database!r}, not of {database!r}; a foreign "
            "backup is not restored: ask for its own name, or look for who put it there."
        )
    strange = [each.key for each in manifest.objects if not each.key.startswith(folder)]
    if manifest.backup_id != backup_id or strange:
        raise RunbookError(
            f"backup: the manifest in {folder} is that of {manifest.backup_id}"
            f"{f', with objects elsewhere ({strange[0]})' if strange else ''}; take another backup."
        )


def wrong_objects(manifest: Manifest, sizes: Mapping[str, int | None]) -> list[str]:
    """What is wrong with the stored objects, one sentence each.

    :param sizes: size of each object as S3 says, None where there is none
    """
    found = []
    for each in manifest.objects:
        size = sizes.get(each.key)
        if size is None:
            found.append(f"{each.key} is missing")
        elif size != each.size_bytes:
            found.append(f"{each.key} has {size:,} bytes instead of {each.size_bytes:,}")
    return found


def damage(manifest: Manifest, sizes: Mapping[str, int | None], *, where: str) -> str:
    """The sentence on what :func:`wrong_objects` finds; empty where it finds nothing."""
    wrong = wrong_objects(manifest, sizes)
    return f"The backup {where} is damaged: {'; '.join(wrong)}; take another one." if wrong else ""


# Into which server ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """The server that the new database is made on."""

    version: int
    in_recovery: bool
    role: str
    is_superuser: bool
    may_create: bool
    #: Comments of all databases, by name.
    databases: Mapping[str, str | None]
    roles: Collection[str]
    #: Version that CREATE EXTENSION would install, by name.
    extensions: Mapping[str, str]
    #: Locales of the operating system that the server knows of, as its catalogues spell them.
    locales: Collection[str]
    has_icu: bool
    #: Free room for data; None where that cannot be known from here.
    free_bytes: int | None
    #: It is a managed platform's, and this user is not its superuser.
    is_project: bool = False
    #: Roles that this user can give objects to.
    members_of: Collection[str] = ()
    #: Extensions that the server has, and that this user cannot make.
    untrusted: Collection[str] = ()
    #: Roles that are superusers.
    superusers: Collection[str] = ()


def check_for_new_database(server: Server, manifest: Manifest, params: Mapping[str, Any]) -> None:
    """See that the backup is one that is restored into a new database here.

    :raises RunbookError: it is another module's, which the sentence names unless that would refuse these options
    """
    if server.is_project and managed.is_platform(manifest.roles):
        asked = [name for name in ("scratch", "keep_failed") if params[name]]
        way = (
            f"{' and '.join(asked)} {agree(len(asked), 'needs', 'need')} a new database."
            if asked
            else "pg_restore_project restores it into a fresh project (db_restore_into_project=true)."
        )
        raise RunbookError(
            "login_host: this server is a managed project, whose database cannot be dropped and recreated, and the "
            f"backup is of one; {way} To prove it, or to have a copy of it, name a PostgreSQL server of your own."
        )


def check_options_for_project(params: Mapping[str, Any]) -> None:
    """Refuse what is said of a new database: a project's own would be filled for good, and the words not kept.

    :raises RunbookError: such an option is set
    """
    if asked := [name for name in ("scratch", "keep_failed", "hold_days", "without_extensions") if params[name]]:
        raise RunbookError(
            f"{some(asked)}: a project's own database is filled and stays, so this means nothing there; leave out "
            f"{some(f'db_restore_{name}' for name in asked)}, or restore on a PostgreSQL server of your own."
        )


def check_for_project(server: Server, manifest: Manifest) -> None:
    """See that the server is a managed project, and the backup one of such a project.

    :raises RunbookError: it is another module's, which the sentence names
    """
    if not server.is_project:
        raise RunbookError(
            f"login_host: this server is no managed project, or login_user {server.role!r} is its superuser; "
            "pg_restore restores into a new database there (db_restore_into_project=false)."
        )
    if not managed.is_platform(manifest.roles):
        raise RunbookError(
            f"backup: {manifest.backup_id} is not of a managed project; pg_restore restores it into a new database "
            "(db_restore_into_project=false)."
        )


@dataclass(frozen=True)
class Plan:
    """What is to be restored, and where to."""

    manifest: Manifest
    folder: str
    target: str
    #: It was done before: the target is there, made from this backup, and proven.
    done_at: str | None
    #: Databases that killed restores left behind, and that are dropped first.
    leftovers: tuple[str, ...]
    warnings: tuple[str, ...]
    #: Roles that are made without login, because they own something and are missing.
    roles: tuple[str, ...] = ()
    #: Extensions that the copy does not get.
    without: tuple[str, ...] = ()

    @property
    def schema(self) -> Object:
        """The object that holds the schema; a manifest without it is refused when it is read."""
        found = self.manifest.one("schema")
        assert found is not None  # noqa: S101 - manifest.parse() refuses it
        return found

    @property
    def silenced(self) -> list[str]:
        """Of these extensions, those that act by themselves or reach other servers."""
        return [name for name in self.without if name in managed.EXTENSIONS]

    def gets(self, schema: str, _table: str) -> bool:
        """Whether the new database gets the rows of a table."""
        return not any(schema in managed.EXTENSIONS.get(name, ()) for name in self.without)

    def script_filter(self, server_version: int) -> managed.ScriptFilter | None:
        """Takes out of one data stream what the new database does not get; None where it gets all."""
        if not self.silenced:
            return None
        return managed.ScriptFilter(
            lambda schema, table: "keep" if self.gets(schema, table) else "drop", sequences=None,
            server_version=server_version,
        )  # fmt: skip

    def compare(self, found: Contents, missing: Sequence[str]) -> Proof:
        """Compare what was found with the manifest, but for what the new database does not get.

        :param missing: what else it is known to be without
        """
        proof = proofs.judge(*managed.narrowed(self.manifest, found, self.gets))
        why = {True: "which acts by itself", False: "which only a superuser can make"}
        left_out = [f"the extension {name}, {why[name in self.silenced]}" for name in self.without]
        return replace(proof, missing=(*proof.missing, *left_out, *missing))


def target_name(wanted: str | None, *, database: str, backup_id: str, scratch: bool = False) -> str:
    """Name of the new database: ``wanted``, or ``<database>_restore_<backup_id>``.

    A scratch database has a name of its own (``_proof_``), so that it never meets one that was restored to be kept.

    :raises RunbookError: it is longer than PostgreSQL's names, or the live database's own
    """
    if not wanted:
        return dated_name(database, "proof" if scratch else "restore", backup_id)
    if len(wanted.encode()) > MAX_IDENTIFIER_BYTES or "\0" in wanted:
        raise RunbookError(
            f"target_database: {wanted!r} is longer than PostgreSQL's {MAX_IDENTIFIER_BYTES} bytes; shorten it."
        )
    return wanted


def failed_name(database: str, backup_id: str) -> str:
    """Name under which a copy is kept that was restored to its end and differs from the backup."""
    return dated_name(database, "failed", backup_id)


def failed_copies(databases: Mapping[str, str | None], database: str, *, now: datetime | None = None) -> dict[str, str]:
    """Copies of a database that failed their proof, with their comments.

    :param databases: comments of all databases, by name
    :param now: only those that are older than :data:`FAILED_DAYS` then, or do not say how old they are
    """
    found = {}
    for name, comment in databases.items():
        marker = Marker.read(comment)
        # One that somebody asked to keep has another name, and is nobody's to drop.
        if marker is None or marker.state != "failed" or marker.database != database:
            continue
        if name in alternatives(failed_name(database, marker.backup_id)) and (now is None or _is_old(marker.at, now)):
            found[name] = comment or ""
    return found


def _is_old(at: str, now: datetime) -> bool:
    try:
        return now - datetime.fromisoformat(at) > timedelta(days=FAILED_DAYS)
    except (ValueError, TypeError):
        return True


_MAKING = re.compile(r"runbook_making_(?P<at>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)_(?P<pid>\d+)")


class Making(NamedTuple):
    """The name of a database until it is marked; nobody can connect to it then."""

    #: When its making began, in UTC.
    at: str
    #: The server's process that makes it.
    pid: int

    def __str__(self) -> str:
        return f"runbook_making_{self.at}_{self.pid}"

    @classmethod
    def read(cls, name: str) -> Making | None:
        """What such a name says; None where it is none.

        >>> str(Making.read("runbook_making_2026-11-23T03-00-00Z_4711"))
        'runbook_making_2026-11-23T03-00-00Z_4711'
        >>> Making.read("app")
        """
        found = _MAKING.fullmatch(name)
        return cls(found["at"], int(found["pid"])) if found else None


def alternatives(target: str) -> Iterator[str]:
    """Names for the new database: its own, and others where a leftover keeps that and cannot be dropped.

    >>> list(alternatives("app_restore"))[:2]
    ['app_restore', 'app_restore_2']
    """
    yield target
    for number in range(2, 10):
        tail = f"_{number}"
        yield target.encode()[: MAX_IDENTIFIER_BYTES - len(tail)].decode(errors="ignore") + tail


def plan(
    manifest: Manifest,
    server: Server,
    *,
    folder: str,
    target: str,
    leftovers: Sequence[str],
    busy: Collection[str],
    scratch: bool = False,
    without_extensions: Sequence[str] = (),
    is_named: bool = False,
) -> Plan:
    """Decide whether this server can take the backup.

    :param target: name of the new database
    :param leftovers: databases marked as being restored in which nobody is at work any more
    :param busy: databases marked as being restored in which a run is at work
    :param scratch: the database is to be dropped at the end, so one that is there already is never taken for it
    :param without_extensions: extensions that are left out because somebody said so
    :param is_named: the name was asked for, so that no other one will do
    :raises RunbookError: something is missing, with all that is; nothing was changed
    """
    done = () if scratch or target not in server.databases else (target,) if is_named else alternatives(target)
    for name in done:
        marker = Marker.read(server.databases.get(name))
        if marker and marker.state == "proven" and marker.backup_id == manifest.backup_id:
            return Plan(manifest, folder, name, marker.at, (), ())
    if target in server.databases and target not in leftovers:
        if target in busy:
            raise RunbookError(
                f"target_database: {target!r} is being restored by another run; wait until that has ended, or name "
                "another database."
            )
        raise RunbookError(
            f"target_database: {target!r} exists, and is never overwritten; drop it first, or name another one."
        )
    makeable = managed.makeable(manifest, scratch=scratch) if server.is_superuser else frozenset()
    roles = tuple(sorted(makeable - set(server.roles)))
    is_platform = managed.is_platform(manifest.roles)
    strange = sorted(set(without_extensions) - set(managed.EXTENSIONS))
    if strange:
        raise RunbookError(
            f"without_extensions: {', '.join(strange)} cannot be left out, because others' objects may need it; "
            f"{', '.join(sorted(managed.EXTENSIONS))} can."
        )
    without = managed.left_out(manifest.extensions)
    if not (is_platform or scratch):
        without = tuple(name for name in without if name in without_extensions)
    without += restore_rights.lacking(manifest.extensions, server.untrusted)
    problems = list(_problems(manifest, server, roles=roles, without=without))
    if problems:
        raise RunbookError(f"This backup cannot be restored here: {'; '.join(problems)}.", problems=problems)
    cautions = [*_cautions(manifest, server), *([] if scratch else _left_to_superusers(manifest, without, target))]
    return Plan(manifest, folder, target, None, tuple(leftovers), tuple(cautions), roles, without)


def plan_project(manifest: Manifest, server: Server, project: managed.Project, *, folder: str, target: str) -> Plan:
    """Decide whether a project's database can take the backup; it must be a fresh one.

    :raises RunbookError: something is in the way, with all that is; nothing was changed
    """
    marker = Marker.read(server.databases.get(target))
    if marker and marker.state == "proven" and marker.backup_id == manifest.backup_id:
        return Plan(manifest, folder, target, marker.at, (), ())
    found = [*_version_problems(manifest, server), *managed.problems(manifest, project, user=server.role)]
    if found:
        raise RunbookError(
            f"target_database: this backup cannot be restored into {target!r}: {'; '.join(found)}.", problems=found
        )
    return Plan(manifest, folder, target, None, (), tuple(manifest.warnings))


def _version_problems(manifest: Manifest, server: Server) -> Iterator[str]:
    source = manifest.source
    if server.in_recovery:
        yield "this server is a standby; name the primary in login_host"
    if server.version // 10000 < source.server_version_num // 10000:
        yield (
            f"it was made from PostgreSQL {source.server_version_num // 10000} and this server is "
            f"{server.version // 10000}; restore into that version or a newer one"
        )


def _problems(manifest: Manifest, server: Server, *, roles: Collection[str], without: Collection[str]) -> Iterator[str]:
    source = manifest.source
    yield from _version_problems(manifest, server)
    if not (server.is_superuser or server.may_create):
        yield f"login_user {server.role!r} may not create databases; give it CREATEDB"
    missing = sorted(set(manifest.roles) - set(server.roles) - set(roles))
    if managed.is_platform(manifest.roles) and not server.is_superuser:
        yield (
            f"it is of a managed project, whose roles own what is in it, and login_user {server.role!r} is no "
            "superuser; log in as one, who makes the roles that are missing, without login"
        )
    elif missing:
        globals_object = manifest.one("globals")
        hint = f", as {globals_object.key} has them" if globals_object else ""
        role, are, them = ("role", "is", "it") if len(missing) == 1 else ("roles", "are", "them")
        yield f"the {role} {', '.join(missing)} {are} missing; create {them} first{hint}"
    for extension in manifest.extensions:
        if extension.name in without:
            continue
        offered = server.extensions.get(extension.name)
        if offered is None:
            yield f"the extension {extension.name} {extension.version} is not installed on this server; install it"
        elif extension.name in server.untrusted:
            yield (
                f"only a superuser can make the extension {extension.name}, which is not trusted, and login_user "
                f"{server.role!r} is none; log in as one"
            )
        elif is_older(offered, extension.version):
            yield (
                f"the extension {extension.name} is {offered} on this server and was {extension.version}; install the "
                "newer one"
            )
    if source.locale_provider == "icu" and not server.has_icu:
        yield f"it uses the ICU locale {source.icu_locale!r} and this server was built without ICU"
    if server.free_bytes is not None and server.free_bytes < source.size_bytes:
        yield (
            f"the database had {size(source.size_bytes)} and only {size(server.free_bytes)} are free where this server "
            "keeps its data; make room"
        )


def _cautions(manifest: Manifest, server: Server) -> Iterator[str]:
    source = manifest.source
    yield from manifest.warnings
    if source.locale_provider == "libc":
        known = {normal_locale(each) for each in server.locales}
        for name in sorted({source.collate, source.ctype}):
            if normal_locale(name) not in known:
                yield f"This server's catalogues do not list the locale {name}; if it has none, nothing is restored."
    if server.free_bytes is None:
        yield (
            f"The free room on the server is unknown from here; the database needs about "
            f"{size(source.size_bytes * ROOM_FACTOR)}."
        )
    elif server.free_bytes < source.size_bytes * ROOM_FACTOR:
        yield f"Only {size(server.free_bytes)} is free on the server, hardly more than the database needs."


def _left_to_superusers(manifest: Manifest, without: Collection[str], target: str) -> Iterator[str]:
    lacking = restore_rights.statements(manifest.extensions, set(without) & restore_rights.INSPECTING)
    if lacking:
        yield (
            f"{target} does without extensions that only a superuser can make and that hold no rows; before it takes "
            f"the live one's place, run there as one: {'; '.join(lacking)}."
        )


def normal_locale(name: str) -> str:
    """A locale's name in one spelling.

    >>> normal_locale("en_US.UTF-8") == normal_locale("en_US.utf8")
    True
    >>> normal_locale("POSIX")
    'c'
    """
    text = name.lower().replace("-", "")
    return "c" if text == "posix" else text


def is_older(offered: str, wanted: str) -> bool:
    """Whether one version of an extension comes before another; of spellings that cannot be compared, no.

    >>> is_older("1.9", "1.10")
    True
    >>> is_older("3.4.2", "3.4")
    False
    """
    numbers = [[int(part) for part in re.findall(r"\d+", version)] for version in (offered, wanted)]
    return bool(numbers[0] and numbers[1]) and numbers[0] < numbers[1]


def choose_client(found: Mapping[str, int], *, dumped_by: int, server: int) -> str:
    """The folder whose pg_restore fits best: able to read the archive, and of the server's own version if possible.

    :param found: major version of pg_restore by folder
    :param dumped_by: major version of the pg_dump that made the archives
    :param server: major version of the server
    :raises RunbookError: none is new enough
    """
    able = {folder: version for folder, version in found.items() if version >= dumped_by}
    if not able:
        newest = max(found.values(), default=0)
        raise RunbookError(
            f"bindir: the backup was made by pg_dump {dumped_by}, and the newest pg_restore found here is "
            f"{newest or 'none'}; install PostgreSQL's client programs {dumped_by} or newer, or name their folder."
        )
    # An older client than the server's own is second best, and so is a newer one, which sets unknown parameters.
    return min(able, key=lambda folder: (able[folder] != server, abs(able[folder] - server)))


def major(version: str) -> int:
    """The major version in what a program or a manifest says.

    >>> major("pg_dump (PostgreSQL) 18.6")
    18
    """
    found = re.search(r"\d+", version)
    return int(found[0]) if found else 0


# What programs say ----------------------------------------------------------------------------------------------------

#: A pg_restore that is newer than the server sets this first, and an older server knows nothing of it.
_HARMLESS = re.compile(r'unrecognized configuration parameter "transaction_timeout"')
_SAID = re.compile(r"^pg_restore: (?:error|fatal): (?P<text>.*)$")
#: What the server said, behind the program's own words.
_SERVER = re.compile(r"^(?P<head>.*?)(?:ERROR|FATAL|PANIC):\s+(?P<text>.*)$")
#: What the program was at, without the number and the owner.
_ENTRY = re.compile(r"^pg_restore: from TOC entry \d+; \d+ \d+ (?P<what>.*) \S+$")
#: The step that no row takes part in.
DEFINITIONS = "the definitions"


def said_errors(lines: Sequence[str], *, has_rows: bool = True) -> list[str]:
    """Errors that pg_restore told, without those that mean nothing and without anything of a row.

    :param has_rows: the server may have quoted a row; where it works on definitions alone it cannot

    >>> said_errors(['pg_restore: error: could not execute query: ERROR:  role "app" does not exist', 'DETAIL: x'])
    ['could not execute query: ERROR: role "app" does not exist']
    >>> said_errors(['pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type json: "x"'])
    ['COPY failed for table "t": ERROR: invalid input syntax for type json']
    >>> said_errors(['pg_restore: from TOC entry 9; 1259 16 INDEX public i app',
    ...              'pg_restore: error: could not execute query: ERROR:  4711 is no age'])
    ["could not execute query: ERROR: its text stays in the server's log, at INDEX public i"]
    """
    found, entry = [], ""
    for line in lines:
        at = _ENTRY.match(line)
        entry = at["what"] if at else entry
        said = _SAID.match(line)
        if not said or _HARMLESS.search(line):
            continue
        server = _SERVER.match(said["text"])
        if not server:
            found.append(" ".join(said["text"].split()))
            continue
        text = told(server["text"]) if has_rows else " ".join(server["text"].split())
        text = text or f"its text stays in the server's log{f', at {entry}' if entry else ''}"
        found.append(f"{server['head']}ERROR: {text}")
    return found


def errors(program_said: Sequence[str], *, has_rows: bool = True) -> list[str]:
    """Errors that pg_restore or psql told; see :func:`said_errors`."""
    return said_errors(program_said, has_rows=has_rows) or managed.said_errors(program_said)


def is_of_backup(program_said: Sequence[str]) -> bool:
    """Whether pg_restore failed for what is in the backup, and not for the server or the way to it."""
    text = " ".join(program_said)
    return not re.search(
        r"No space left|could not extend file|could not write|server closed the connection|terminating connection|"
        r"connection to server|could not connect|no connection to|ended by signal",
        text,
    )


def explain(program_said: Sequence[str], *, step: str, target: str, without: Sequence[str] = ()) -> str:
    """One sentence for a program that failed.

    :param without: extensions that the copy does without, because this user cannot make them
    """
    failure = ConnectionFailure.of_program("\n".join(program_said))
    if failure is not None:
        return f"pg_restore cannot connect for {step} of {target}: {failure}."
    told_errors = errors(program_said, has_rows=step != DEFINITIONS)
    text = " ".join(told_errors[0].split()).rstrip(".") if told_errors else "it ended without a word"
    fix = "look at the server's log"
    for pattern, better in (
        (r"No space left|could not extend file|could not write", "make room on the server"),
        (r"can only create extension in database", "restore without it: db_restore_without_extensions"),
        (r"(?:function|relation|type|operator) .* does not exist",
         "where a function calls it without a schema, ALTER FUNCTION … SET search_path and make a new backup"),
        (r"role .* does not exist", "create the role"),
        (r"tablespace .* does not exist", "create the tablespace"),
        (r"extension .* is not available", "install the extension on the server"),
        (r"permission denied to create extension", "switch the extension on for the project first"),
        (r"permission denied|must be (?:owner|superuser|member)", "connect as a superuser"),
        (r"server closed the connection|terminating connection|connection to server|could not connect|no connection to",
         "see that the server is up, and run again"),
        (r"unsupported version|input file|archive", "the backup may be damaged; verify it, and take another one"),
    ):  # fmt: skip
        if re.search(pattern, text):
            fix = better
            break
    if without and "does not exist" in text:
        fix = f"where it needs {', '.join(without)}, which only a superuser can make, connect as one"
    return f"pg_restore failed with {step} of {target}: {text}; {fix}."


# The result -----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a restore so far."""

    plan: Plan
    #: Tables whose rows are wanted.
    tables: Sequence[TableEntry]
    jobs: int
    #: Folder of pg_restore.
    client: str
    restored_bytes: int = 0
    temporary_bytes: int = 0
    proof: Proof | None = None
    #: What the database does without, in words: what the proof's own sentence names, and the rest.
    not_proven: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    #: Statements that switch on what is switched off in it.
    to_arm: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows that are wanted."""
        return sum(each.rows or 0 for each in self.tables)

    def figures(self, *, duration_s: float, phases: Mapping[str, float], proof_key: str | None) -> dict[str, Any]:
        """The result, but for its sentence and what was done on the server.

        :param phases: seconds by phase
        :param proof_key: the object that holds the proof
        """
        plan, manifest = self.plan, self.plan.manifest
        return {
            "backup_id": manifest.backup_id,
            "manifest_key": plan.folder + manifests.MANIFEST_NAME,
            "database": manifest.source.database,
            "target_database": plan.target,
            "snapshot_at": manifest.source.snapshot_at,
            "tables": len(self.tables),
            "rows": self.rows,
            "size_bytes": manifest.size_bytes,
            "restored_bytes": self.restored_bytes,
            "temporary_bytes": self.temporary_bytes,
            "duration_s": round(duration_s, 3),
            "rate_bytes_s": round(self.restored_bytes / duration_s, 1),
            "phases": phases,
            "proof": self.proof.figures() if self.proof else None,
            "proof_key": proof_key,
            "left_out": [*self.not_proven, *self.left_out],
            "to_arm": self.to_arm,
            "plan": {
                "streams": len(manifest.data_streams()),
                "jobs": self.jobs,
                "client": self.client,
                "source_size_bytes": manifest.source.size_bytes,
            },
        }

    def sentence(self, duration_s: float, *, is_kept: bool = True) -> str:
        """What was restored, and what the proof says of it.

        :param is_kept: the database stays, so that something can be switched on in it
        """
        source, proof = self.plan.manifest.source, self.proof
        words = proof.sentence() if proof else "It was not compared with the backup."
        # The sentence of a proof that is ok has named the others.
        without = self.left_out if proof and proof.status is Status.OK else [*self.not_proven, *self.left_out]
        words += managed.sentence(without, self.to_arm if is_kept else [])
        return (
            f"Restored {source.database} as of {to_second(source.snapshot_at)} into {self.plan.target}: "
            f"{count(len(self.tables), 'table')}, {count(self.rows, 'row')}, {size(self.restored_bytes)} in "
            f"{duration_s:.1f} s. {words}"
        )

    def sentence_of_plan(self) -> str:
        """What would be restored, or was before."""
        source, target = self.plan.manifest.source, self.plan.target
        if self.plan.done_at:
            return (
                f"{target} was restored from {self.plan.manifest.backup_id} and proven at "
                f"{to_second(str(self.plan.done_at))}; nothing to do."
            )
        return (
            f"Would restore {source.database} as of {to_second(source.snapshot_at)} into {target}: "
            f"{count(len(self.tables), 'table')}, {size(self.plan.manifest.size_bytes)} as stored."
        )

    def conclude(self, msg: str, figures: Mapping[str, Any], *, unwritten: str) -> dict[str, Any]:
        """The result of a restore that came to its end.

        :param unwritten: why the proof could not be written; empty if it was, or was not to be
        :raises RunbookError: a proof was asked for, and could not be made or written
        """
        result = {**figures, "changed": True}
        if self.proof is not None and self.proof.status is not Status.OK:
            raise RunbookError(msg, **(result | {"status": Status.UNKNOWN}))
        if unwritten:
            raise RunbookError(msg, **result)
        return result | {"status": Status.OK if self.proof else Status.UNKNOWN, "msg": msg}


def describe(chosen: Plan, jobs: int) -> str:
    """The plan for ``--diff``."""
    manifest = chosen.manifest
    lines = [
        f"backup: {chosen.folder} ({to_second(manifest.source.snapshot_at)}, {size(manifest.size_bytes)})",
        f"into: {chosen.target}",
        f"streams: {len(manifest.data_streams())}, {min(jobs, len(manifest.data_streams()))} at a time",
        *(f"drop the leftover {name}" for name in chosen.leftovers),
        *(f"make the role {name}, without login" for name in chosen.roles),
        *(f"leave out the extension {name}" for name in chosen.without),
    ]
    return as_lines(lines)
