"""Rolling a database back: to which point, by which way, what it costs, and what would be lost.

There are three ways. Recovery to a point in time (``pitr``) reaches any moment of the archive; a logical backup
(``backup``) reaches the moment of its snapshot; Supabase (``supabase``) takes its own project back, in place. The first
two make a copy beside the live database, and the copy takes its name only when a person said so; then the way back
(``undo``) is the same exchange of names once more.

What is lost are the rows that were written after the point. Before a copy exists the live database alone can be
asked: by the commit timestamps of its rows, where the server keeps them, or by columns such as ``updated_at``. Both see
rows that are there, so what was deleted since, and will come back, is never among them. A column says at least so many:
an application may have left it as it was. A commit timestamp may say too many: pg_repack, ALTER TABLE and a restore
rewrite rows. Where neither is there, it is not known. Once the copy exists, every table of both is counted and
hashed.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.backup import swap
from ansible.module_utils.runbook.rules.backup.swap import dated_name
from ansible.module_utils.runbook.rules.postgres.content_hash import compare
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest
    from ansible.module_utils.runbook.rules.backup.proof import Found
    from ansible.module_utils.runbook.rules.postgres.content_hash import Column

Method = Literal["pitr", "backup", "supabase", "undo"]

#: Names of columns that applications set when they write a row; an inventory may name others.
TIMESTAMP_COLUMNS = (
    "updated_at", "modified_at", "changed_at", "last_modified", "created_at", "inserted_at", "occurred_at",
    "recorded_at",
)  # fmt: skip
#: Room that a database takes beyond its size while it is made, as for every restore: WAL, sorted rows of an index.
ROOM_FACTOR = 1.2
#: Tables that one sentence names.
_NAMED = 5
#: Not a table of the application: the lease changes with every run.
LEASE_TABLE = ("runbook", "lease")
#: Where the copy of a restored server lies on its way into the live one; never among the backups themselves.
COPIES = "rollback"

# Where to -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What was asked for; exactly one of the first four is set."""

    target_time: datetime | None = None
    #: Name of a backup, or ``latest``.
    backup: str = ""
    before: datetime | None = None
    #: Database that a swap replaced, and is to be the live one again.
    undo: str = ""


def _moment(option: str, text: str, now: datetime) -> datetime:
    """Read a time that lies in the past.

    :raises RunbookError: it cannot be read, does not say in which time zone, or lies in the future
    """
    named = moment.read(option, text)
    if named > now:
        raise RunbookError(f"{option}: {text} lies in the future; the server's clock says {_utc(now)}.")
    return named


def parse_request(*, target_time: str, backup: str, before: str, undo: str, now: datetime) -> Request:
    """Read the options of a point.

    :param now: the server's clock
    :raises RunbookError: none is set, or more than one, or a time cannot be used
    """
    named = {"target_time": target_time, "backup": backup, "before": before, "undo": undo}
    given = [option for option, value in named.items() if value]
    if len(given) != 1:
        raise RunbookError(
            f"{' and '.join(given) or 'target_time, backup, before and undo'}: "
            f"{'more than one is set' if given else 'none is set'}; say to where: -e db_rollback_target_time=<time>, "
            "-e db_rollback_backup=<name>, -e db_rollback_before=<time>, or -e db_rollback_undo=<database>."
        )
    return Request(
        target_time=_moment("target_time", target_time, now) if target_time else None,
        backup=backup,
        before=_moment("before", before, now) if before else None,
        undo=undo,
    )


def choose_method(request: Request, *, supabase: bool, restore_path: str) -> Method:
    """By which way the point is reached.

    :param supabase: the inventory names a project at Supabase
    :param restore_path: folder for a restored server; empty where none is named
    :raises RunbookError: there is no way
    """
    if request.undo:
        return "undo"
    if request.target_time is None:
        return "backup"
    if supabase:
        return "supabase"
    if not restore_path:
        raise RunbookError(
            f"target_time: {request.target_time.isoformat()} is reached by recovery to a point in time, and there is "
            "no folder for it; set db_rollback_restore_path, or take the last backup before that time with -e "
            f"db_rollback_before={request.target_time.isoformat()}."
        )
    return "pitr"


def check_replace(replace: str, *, method: Method, database: str, project_ref: str) -> bool:
    """Whether a person said that the live database may be replaced, by typing its name.

    :raises RunbookError: another name was typed
    """
    wanted = project_ref if method == "supabase" else database
    if replace and replace != wanted:
        raise RunbookError(
            f"replace: {replace!r} was typed, and what would be replaced is {wanted!r}; type that, or leave it out to "
            "stop before the replacement."
        )
    return bool(replace)


def copy_name(method: Method, database: str, *, point: datetime | None, backup_id: str) -> str:
    """Name of the copy: another point, another way, another name.

    >>> copy_name("pitr", "app", point=datetime(2026, 11, 23, 14, 29, tzinfo=UTC), backup_id="")
    'app_pitr_2026-11-23T14-29-00Z'
    """
    if method == "backup":
        return dated_name(database, "rollback", backup_id)
    if point is None:
        return ""
    fraction = f".{point:%f}" if point.microsecond else ""
    return dated_name(database, "pitr", f"{point.astimezone(UTC):%Y-%m-%dT%H-%M-%S}{fraction}Z")


_OURS = re.compile(r"_(?:rollback|pitr)_\d{4}-\d\d-\d\dT[\d.-]+Z")


# The plan -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """The way to the point, and what is to be done on it."""

    method: Method
    database: str
    #: The moment whose contents come back; None with ``undo``.
    point: datetime | None
    #: The backup that is restored; empty with another method.
    backup_id: str
    #: The database that takes the live one's place; empty at Supabase.
    replacement: str
    #: An earlier run made and proved the copy.
    is_ready: bool
    #: The copy is the live database already; this is the name of the one before.
    previous: str | None
    #: Whether the live database is replaced in this run.
    replaces: bool
    #: Folder of a server that is restored beside the live one; empty where the inventory names none.
    restore_path: str = ""

    @property
    def steps(self) -> dict[str, bool]:
        """What is to be done, step by step.

        A copy that is there was made by a run that took the snapshot first, and its swap keeps the live database
        whole, so no second snapshot keeps it waiting.
        """
        todo = self.previous is None
        makes = todo and self.method != "undo" and not self.is_ready
        beside = todo and self.method != "supabase"
        return {
            "snapshot": makes,
            "pitr": makes and self.method == "pitr",
            "backup": makes and self.method == "backup",
            "supabase": self.method == "supabase",
            "compare": beside,
            "integrity": beside and self.method != "undo",
            "swap": beside and self.replaces,
            "replace_project": self.method == "supabase" and self.replaces,
            # What a killed run left there goes, whichever way this one takes.
            "clean": bool(self.restore_path),
        }


def plan(
    request: Request,
    method: Method,
    databases: Mapping[str, swap.Database],
    connected: swap.Connected,
    *,
    point: datetime | None,
    backup_id: str,
    replaces: bool,
    maintenance_db: str,
    restore_path: str,
) -> Plan:
    """Put the plan together.

    :param databases: every database of the server
    :param connected: the connection to the live one
    :param point: the moment whose contents come back
    :param maintenance_db: the database that is connected to while names are exchanged
    :param restore_path: folder of a restored server; empty where there can be none
    :raises RunbookError: another copy waits, or what is there cannot be taken, or this user may not do it
    """
    database = connected.database
    if method == "supabase":
        return Plan(method, database, point, "", "", is_ready=False, previous=None, replaces=replaces)
    if database == maintenance_db:
        raise RunbookError(
            f"login_db: the live database is {database!r} itself, which no copy can replace by name (so it is at "
            "Supabase): use playbooks/supabase_restore.yml, or restore beside it with playbooks/restore.yml."
        )
    if not connected.is_superuser and not (connected.may_create and databases[database].is_mine):
        raise RunbookError(
            f"login_user: {connected.role!r} may not make or rename {database!r}, which {databases[database].owner!r} "
            "owns; name a member of runbook_restore (db_roles.yml), or a superuser, in db_restore_login_user."
        )
    name = request.undo or copy_name(method, database, point=point, backup_id=backup_id)
    marker = databases[name].marker if name in databases else None
    previous = swap.done_before(databases, database, name)
    if previous is None and method == "undo":
        _refuse_stranger(databases, database, name)
    elif previous is None:
        _refuse_pending(databases, database, name)
        swap.refuse_settings(databases[database], connected)
        if replaces:
            # Before the snapshot and the copy are made, which may take hours.
            swap.refuse_unmovable("login_db", databases[database], connected)
    is_ready = marker is not None and marker.database == database and marker.state in {"proven", "previous"}
    return Plan(
        method, database, point, backup_id, name, is_ready=is_ready, previous=previous,
        replaces=replaces or method == "undo", restore_path=restore_path,
    )  # fmt: skip


def _refuse_stranger(databases: Mapping[str, swap.Database], database: str, name: str) -> None:
    markers = {each: found.marker for each, found in databases.items()}
    aside = [each for each, said in markers.items() if said and (said.state, said.database) == ("previous", database)]
    if name not in aside:
        there = f"these are: {', '.join(sorted(aside))}" if aside else "none is"
        raise RunbookError(f"undo: {name!r} is no database that was swapped out for {database!r}; {there}.")


def _refuse_pending(databases: Mapping[str, swap.Database], database: str, name: str) -> None:
    waiting = []
    for each, found in databases.items():
        said = found.marker
        if said and said.database == database and said.state in {"proven", "unproven"} and _OURS.search(each):
            waiting.append(each)
    waiting = sorted(each for each in waiting if each != name)
    if waiting:
        first, said = waiting[0], databases[waiting[0]].marker
        finish = ""
        if said and said.state == "proven":
            finish = (
                f"Swap it in by the same command, its point replaced by {_point_of(first, said)} "
                f"{_extra('db_rollback_replace', database)}, or drop it"
            )
        quoted = first.replace('"', '""')
        raise RunbookError(
            f"A rollback is pending: {', '.join(waiting)} was made for another point and nobody swapped it in. "
            f'{finish or "It was not proven; drop it"} with DROP DATABASE "{quoted}" and run again.'
        )


def _point_of(copy: str, marker: swap.Marker) -> str:
    """The variable by which an earlier run was told the point that a copy was made for.

    >>> _point_of("app_pitr_2026-11-23T14-29-00.5Z", swap.Marker("proven", "app", ""))
    '-e db_rollback_target_time=2026-11-23T14:29:00.5Z'
    """
    method, _, stamp = _OURS.search(copy)[0][1:].partition("_")  # type: ignore[index] # it was found by this
    if method == "rollback":
        return _extra("db_rollback_backup", marker.backup_id or stamp)
    day, _, clock = stamp.partition("T")
    return _extra("db_rollback_target_time", f"{day}T{clock.replace('-', ':')}")


@dataclass(frozen=True)
class Room:
    """Free bytes where the copy is made, and where a restored server works; None where that cannot be known."""

    data_free_bytes: int | None
    path_free_bytes: int | None
    #: Whether both are the same file system.
    is_shared: bool = False


def check_room(room: Room, *, database_bytes: int, cluster_bytes: int) -> list[str]:
    """See that a whole server fits into the folder and the copy beside the live database; cautions where unknown.

    :param database_bytes: size of the live database
    :param cluster_bytes: size of all databases of its server
    :raises RunbookError: there is not enough room; nothing was changed
    """
    copy = int(database_bytes * ROOM_FACTOR)
    wanted = [("the server keeps its data", room.data_free_bytes, copy),
              ("db_rollback_restore_path lies", room.path_free_bytes, cluster_bytes)]  # fmt: skip
    if room.is_shared:
        wanted = [
            ("the server keeps its data, and db_rollback_restore_path lies", room.data_free_bytes, copy + cluster_bytes)
        ]
    cautions = []
    for where, free, needed in wanted:
        if free is None:
            cautions.append(f"The free room where {where} is unknown from here; {needed:,} bytes are needed.")
        elif free < needed:
            raise RunbookError(f"Where {where}, {free:,} bytes are free and {needed:,} are needed; make room.")
    return cautions


def restore_folder(base: str, *, system_identifier: str, database: str) -> str:
    """Folder of the restored server below ``base``: nobody else's, so what a killed run left there may go.

    >>> restore_folder("/srv/restore", system_identifier="7", database="a/b")
    '/srv/restore/rollback-7-a%2Fb'
    """
    return f"{base.rstrip('/')}/rollback-{system_identifier}-{quote(database, safe='')}" if base else ""


def copies_prefix(prefix: str) -> str:
    """Prefix in the bucket for the copy of a restored server."""
    return "/".join(part for part in (prefix.strip("/"), COPIES) if part)


def is_archived(moment: datetime | None, last_archived_at: datetime | None) -> bool:
    """Whether a segment was archived after that moment, so that the archive may reach it."""
    return moment is None or (last_archived_at is not None and last_archived_at > moment)


def check_copies_prefix(prefix: str) -> None:
    """See that a copy does not go to where backups lie: the next restore would take it for the latest one.

    :raises RunbookError: it does
    """
    if prefix.rpartition("/")[2] != COPIES:
        raise RunbookError(
            f"prefix: the copy of a restored server would go to {prefix!r}, among the backups; leave out -e "
            "backup_prefix, and set it in the inventory."
        )


@dataclass(frozen=True)
class Restored:
    """The server that answers on the port of a restored one."""

    data_dir: str
    #: ``recovery_target_time`` as it was configured; empty where it was restored to no time.
    target_time: str


def check_restored(found: Restored, *, data_dir: str, target_time: str) -> None:
    """See that a server is the one that was restored for this point, and not the live one.

    :raises RunbookError: it is another one
    """
    try:
        is_there = datetime.fromisoformat(found.target_time) == datetime.fromisoformat(target_time)
    except (ValueError, TypeError):
        is_there = False
    if not data_dir or found.data_dir != data_dir or not is_there:
        raise RunbookError(
            f"data_dir and target_time: meant is the server in {data_dir or '?'} that was restored to "
            f"{target_time or '?'}, and one in {found.data_dir} answers that was restored to "
            f"{found.target_time or 'no time'}; leave out -e db_login_host and db_login_port, and set them in the "
            "inventory."
        )


def snapshot_at(manifest: Manifest) -> datetime:
    """The moment whose contents a backup holds."""
    return datetime.fromisoformat(manifest.source.snapshot_at)


# What is lost ---------------------------------------------------------------------------------------------------------

Evidence = Literal["commit_timestamp", "column", "backup", "none"]


@dataclass(frozen=True)
class Counted:
    """What one pass over a table gave."""

    table: str
    rows: int | None
    #: The columns that were asked, in order; empty where the table has none.
    columns: tuple[str, ...] = ()
    #: Rows that a column dates after the point.
    by_column: int | None = None
    #: Rows that were committed after the point, and the oldest commit that the server still knows of.
    by_commit: int | None = None
    oldest_commit: datetime | None = None
    #: Why it was not counted.
    error: str = ""


@dataclass(frozen=True)
class Loss:
    """What the live database says would be lost of one table."""

    table: str
    rows: int | None
    #: Rows written after the point; None where that is not known.
    newer_rows: int | None
    evidence: Evidence
    columns: tuple[str, ...] = ()
    #: There may be more.
    at_least: bool = False
    reason: str = ""


def timestamp_columns(columns: Iterable[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """Of a table's columns those that say when a row was written, in the order of ``names``."""
    fitting = {
        each.name: each
        for each in columns
        if each.type_schema == "pg_catalog" and each.type_name in {"timestamptz", "timestamp"}
    }
    return tuple(fitting[name] for name in names if name in fitting)


def judge_losses(counted: Sequence[Counted], point: datetime, then: Collection[str] | None) -> list[Loss]:
    """What is lost, table by table, with the evidence for it.

    :param then: tables of the backup that is restored; None where no backup is. Of a table that is not among them every
        row is lost.

    Commit timestamps are complete if the server kept them at the point already: then some row of the database bears
    one that is not newer. They are kept without a gap from the moment on at which they were switched on.
    """
    oldest = min((each.oldest_commit for each in counted if each.oldest_commit), default=None)
    complete = oldest is not None and oldest <= point
    return [
        Loss(each.table, each.rows, each.rows, "backup")
        if then is not None and each.table not in then and each.rows is not None
        else _loss(each, complete=complete)
        for each in counted
    ]


def _loss(each: Counted, *, complete: bool) -> Loss:
    if each.error:
        return Loss(each.table, each.rows, None, "none", each.columns, reason=each.error)
    if complete and each.by_commit is not None:
        return Loss(each.table, each.rows, each.by_commit, "commit_timestamp")
    commits = each.by_commit or 0
    if commits and commits >= (each.by_column or 0):
        return Loss(each.table, each.rows, commits, "commit_timestamp", at_least=True)
    if each.by_column is not None:
        return Loss(each.table, each.rows, each.by_column, "column", each.columns, at_least=True)
    if each.rows == 0:
        return Loss(each.table, 0, 0, "none")
    reason = "no column says when a row was written, and the server keeps no commit timestamps since that point"
    return Loss(each.table, each.rows, None, "none", reason=reason)


def loss_sentence(losses: Sequence[Loss]) -> str:
    """How many rows would be lost, as far as the live database can say."""
    newer = sum(each.newer_rows or 0 for each in losses)
    touched = sorted((each for each in losses if each.newer_rows), key=lambda each: -(each.newer_rows or 0))
    unknown = [each.table for each in losses if each.newer_rows is None]
    least = "at least " if unknown or any(each.at_least for each in losses) else ""
    if touched:
        named = ", ".join(f"{each.table} {each.newer_rows:,}" for each in touched[:_NAMED])
        more = f" and {count(len(touched) - _NAMED, 'more table')}" if len(touched) > _NAMED else ""
        said = f"{least}{count(newer, 'row was', 'rows were')} written after that point ({named}{more})"
    elif unknown:
        said = "no row is known to have been written after that point"
    else:
        said = f"{'as far as columns say, ' if least else ''}no row was written after that point"
    if unknown:
        said += f"; of {len(unknown)} of {count(len(losses), 'table')} it is not known"
    return said[0].upper() + said[1:] + "."


# Live and copy ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One table in the live database and in the copy."""

    table: str
    status: Literal["equal", "differs", "only_live", "only_copy", Status.UNKNOWN]
    live_rows: int | None
    copy_rows: int | None
    reason: str = ""


def differences(live: Found, copy: Found) -> list[Difference]:
    """Every table of either, compared by number of rows and content; the lease is left out."""
    found = []
    names = {*live.contents, *live.errors, *copy.contents, *copy.errors}
    for name in sorted(name for name in names if tuple(name) != LEASE_TABLE):
        here, there = live.contents.get(name), copy.contents.get(name)
        error = live.errors.get(name) or copy.errors.get(name) or ""
        rows = (here.rows if here else None, there.rows if there else None)
        if error:
            found.append(Difference(str(name), Status.UNKNOWN, *rows, error))
        elif here is None or there is None:
            found.append(Difference(str(name), "only_copy" if here is None else "only_live", *rows))
        else:
            found.append(Difference(str(name), compare(there, here), *rows))
    large = (live.large_objects, copy.large_objects)
    if large[0] is None or large[1] is None:
        error = live.large_objects_error or copy.large_objects_error or "they were not read"
        found.append(Difference("large objects", Status.UNKNOWN, None, None, error))
    elif large[0].rows or large[1].rows:
        found.append(Difference("large objects", compare(large[1], large[0]), large[0].rows, large[1].rows))
    return found


def difference_sentence(found: Sequence[Difference], copy: str) -> str:
    """What the swap would change, in one sentence."""
    named = {
        "differs": lambda each: f"{each.table} ({count(each.live_rows, 'row')} now, {each.copy_rows:,} in the copy)",
        "only_live": lambda each: f"{each.table} ({count(each.live_rows, 'row')} now, not in the copy)",
        "only_copy": lambda each: f"{each.table} (not there now, {count(each.copy_rows, 'row')} in the copy)",
    }
    changed = [each for each in found if each.status in named]
    unknown = [each for each in found if each.status == Status.UNKNOWN]
    said = f"{len(changed)} of {count(len(found), 'comparison')} between the live database and {copy} "
    said += agree(len(changed), "differs", "differ")
    if changed:
        shown = "; ".join(named[each.status](each) for each in changed[:_NAMED])
        said += f": {shown}{f'; and {len(changed) - _NAMED} more' if len(changed) > _NAMED else ''}"
    said += "."
    if unknown:
        said += f" Not known of {len(unknown)}: {unknown[0].table}: {unknown[0].reason}."
    return said


# Words ----------------------------------------------------------------------------------------------------------------


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """A span of time for people.

    >>> duration(11_520)
    '3 h 12 min'
    """
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    days, rest = divmod(minutes, 1440)
    hours, minutes = divmod(rest, 60)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    return " ".join(part for part in parts if part)


def words(chosen: Plan) -> list[str]:
    """What would be done, a line each, in order."""
    if chosen.previous is not None:
        return [f"nothing: {chosen.replacement} is {chosen.database} already, the one before is {chosen.previous}"]
    steps = chosen.steps
    lines = {
        "snapshot": f"back {chosen.database} up as it is now",
        "pitr": f"restore its server to {chosen.point and chosen.point.isoformat()} beside it, and bring the database "
        f"from there to {chosen.replacement}",
        "backup": f"restore the backup {chosen.backup_id} into {chosen.replacement}",
        "compare": f"compare every table of {chosen.database} with {chosen.replacement}",
        "integrity": f"check that {chosen.replacement} is whole",
        "swap": f"let {chosen.replacement} take the name {chosen.database}, and keep the one before",
        "replace_project": "let Supabase replace the live database",
    }
    return [text for step, text in lines.items() if steps[step]]


def _extra(name: str, value: str) -> str:
    """A variable as it is typed for ansible-playbook; one with spaces and the like as JSON.

    >>> print(_extra("db_rollback_undo", "my db"))
    -e '{"db_rollback_undo": "my db"}'
    """
    plain = re.fullmatch(r"[\w.:+-]+", value, re.ASCII)
    return f"-e {name}={value}" if plain else f"-e {shlex.quote(json.dumps({name: value}, ensure_ascii=False))}"


def next_step(chosen: Plan) -> str:
    """What was left undone on purpose, and what to type for it; empty where nothing was."""
    if chosen.previous is not None:
        return f"To undo it: the same command, its point replaced by {_extra('db_rollback_undo', chosen.previous)}"
    if chosen.method == "undo" or chosen.replaces:
        return ""
    if chosen.method == "backup":
        where = _extra("db_rollback_backup", chosen.backup_id)
    else:
        where = _extra("db_rollback_target_time", chosen.point.isoformat() if chosen.point else "")
    what = _extra("db_rollback_replace", chosen.database)
    if chosen.method == "supabase":
        what = "-e db_rollback_replace=<reference of the project>"
    return f"{chosen.database} is as it was. To replace it: the same command with {where} {what}"


def sentence(chosen: Plan, losses: Sequence[Loss], *, now: datetime) -> str:
    """The plan in a few words."""
    if chosen.previous is not None:
        return (
            f"{chosen.database} was rolled back already: {chosen.replacement} has its name, and the one before is "
            f"{chosen.previous}; nothing to do."
        )
    if chosen.method == "undo":
        return (
            f"{chosen.replacement} becomes {chosen.database} again; what was written since the swap stays in the other "
            "one."
        )
    assert chosen.point is not None  # noqa: S101 - every other method has a point
    span = duration((now - chosen.point).total_seconds())
    how = {
        "pitr": "by recovery to a point in time",
        "backup": f"from the backup {chosen.backup_id}",
        "supabase": "by Supabase, in place",
        "undo": "",
    }[chosen.method]
    ready = f" The copy {chosen.replacement} is there already." if chosen.is_ready else ""
    return (
        f"{chosen.database} goes back to {_utc(chosen.point)}, {span} ago, {how}.{ready} {loss_sentence(losses)} Rows "
        "deleted since then come back."
    )


def as_result(found: Iterable[Loss | Difference]) -> list[dict[str, Any]]:
    """As a module returns it."""
    return [{name: list(value) if isinstance(value, tuple) else value for name, value in vars(each).items()}
            for each in found]  # fmt: skip
