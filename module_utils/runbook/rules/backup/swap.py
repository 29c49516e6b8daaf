"""Two databases exchange their names: a restored one takes the place of the live one, which is kept.

The server does it in one transaction, so there is no moment at which only one of the two has its new name. What belongs
to a database and not to its contents (owner, privileges, settings, connection limit, comment) is carried over from the
one that was live.

A database that was made by a restore, or that a swap replaced, bears a :class:`Marker` in its comment.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import MAX_IDENTIFIER_BYTES
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

#: ``restoring``: a run is at work in it, or was killed there. ``failed``: kept for somebody to look at. ``unproven``:
#: complete, never compared. ``proven``: equals what was backed up. ``previous``: it was the live one.
State = Literal["restoring", "failed", "unproven", "proven", "previous"]

#: Parameter by which a database says which environment it belongs to.
ENVIRONMENT = "runbook.environment"
_MARKER = re.compile(r"runbook, [a-z]+: (\{.*\})", re.DOTALL)


@dataclass(frozen=True)
class Marker:
    """What the comment of a database says that the runbook made or moved aside."""

    state: State
    #: Name of the live database that this is a copy of, or was.
    database: str
    #: When it came into this state, ISO 8601.
    at: str
    #: Name of the run that did it.
    run: str = ""
    #: Backup that it was made from; empty for one that was live.
    backup_id: str = ""
    #: ``previous``: the database that took its place, by the name it had before.
    replaced_by: str = ""
    #: Tables whose rows it does without, and extensions, by name.
    without: str = ""

    def __str__(self) -> str:
        return f"runbook, {self.state}: {json.dumps(asdict(self), ensure_ascii=False)}"

    @classmethod
    def read(cls, comment: str | None) -> Marker | None:
        """The marker in a comment; None where there is none.

        >>> Marker.read(str(Marker("proven", "app", "2026-11-23T03:00:00Z"))).state
        'proven'
        >>> Marker.read("The database of the billing team")
        """
        found = _MARKER.fullmatch(comment or "")
        if not found:
            return None
        try:
            said = json.loads(found[1])
            # One that an earlier version wrote says less.
            given = {each.name: said[each.name] if each.default is MISSING else said.get(each.name, "")
                     for each in fields(cls)}  # fmt: skip
            return cls(**{name: str(value) for name, value in given.items()})  # type: ignore[arg-type] # one text each
        except (ValueError, KeyError, TypeError):
            return None


def dated_name(database: str, infix: str, stamp: str) -> str:
    """``<database>_<infix>_<stamp>``; the first part is cut so that the whole fits into PostgreSQL's 63 bytes.

    >>> dated_name("app", "restore", "2026-11-23T03-00-00Z")
    'app_restore_2026-11-23T03-00-00Z'
    """
    tail = f"_{infix}_{stamp}"
    room = MAX_IDENTIFIER_BYTES - len(tail.encode())
    # Cut between characters, not inside one.
    return database.encode()[:room].decode(errors="ignore") + tail


class Grant(NamedTuple):
    """A privilege on a database; ``grantee`` is None for PUBLIC."""

    grantee: str | None
    privilege: str
    grantable: bool


class Setting(NamedTuple):
    """A parameter set for a database, or for one role in it; ``role`` is None for everybody."""

    role: str | None
    name: str
    value: str


@dataclass(frozen=True)
class Database:
    """A database as the catalogue describes it."""

    name: str
    oid: int
    owner: str
    #: Whether the connected role may rename it: it owns it, or is a superuser.
    is_mine: bool
    connection_limit: int
    comment: str | None
    grants: tuple[Grant, ...]
    settings: tuple[Setting, ...]
    #: Prepared transactions by name; they keep a database from being renamed.
    prepared: tuple[str, ...] = ()
    #: Subscriptions of logical replication, whose workers connect again and again.
    subscriptions: int = 0
    #: Logical replication slots; they stay with the old database.
    slots: tuple[str, ...] = ()
    #: Parameters set for it that the connected role may set for no other database.
    forbidden: tuple[str, ...] = ()
    #: Roles with parameters of their own in it, which the connected role may set for them nowhere.
    others: tuple[str, ...] = ()

    @property
    def environment(self) -> str | None:
        """The environment that the database says it belongs to."""
        return next((each.value for each in self.settings if (each.role, each.name) == (None, ENVIRONMENT)), None)

    @property
    def marker(self) -> Marker | None:
        """What the runbook said about it."""
        return Marker.read(self.comment)


@dataclass(frozen=True)
class Connected:
    """The connection that does it."""

    database: str
    role: str
    is_superuser: bool
    may_create: bool
    in_recovery: bool


@dataclass(frozen=True)
class Plan:
    """Which database gets which name."""

    live: Database
    replacement: Database
    previous_name: str
    warnings: tuple[str, ...]


def done_before(databases: Mapping[str, Database], live: str, replacement: str) -> str | None:
    """Name of the database that was swapped out when ``replacement`` took its place; None if that never happened."""
    if replacement in databases:
        return None
    aside = [
        (each.marker.at, name)
        for name, each in databases.items()
        if each.marker and each.marker.state == "previous" and each.marker.database == live
        if each.marker.replaced_by == replacement
    ]
    return max(aside)[1] if aside and live in databases else None


def plan(
    databases: Mapping[str, Database],
    connected: Connected,
    *,
    live: str,
    replacement: str,
    now: datetime,
    accept_without: Iterable[str] = (),
) -> Plan:
    """Decide whether the two may exchange their names.

    :param databases: those that bear one of the names that matter
    :param accept_without: what a person said that the replacement may be without
    :param now: the server's clock
    :raises RunbookError: something is in the way; nothing was changed
    """
    if live == replacement:
        raise RunbookError(f"replacement: {replacement!r} is the live database itself; name the restored one.")
    if connected.database in {live, replacement}:
        raise RunbookError(
            f"login_db: a database cannot be renamed over a connection to it; connect to another one than "
            f"{connected.database!r}, as a rule postgres. Where the live database is postgres itself (Supabase), "
            "names cannot be exchanged: let the application connect to the restored one (docs/howto/restore.md)."
        )
    if connected.in_recovery:
        raise RunbookError("login_host: this server is a standby; name the primary.")
    found, new = databases.get(live), databases.get(replacement)
    if found is None:
        raise RunbookError(
            f"database: there is no database {live!r} to take the place of; give the restored one its name with "
            f'ALTER DATABASE "{replacement}" RENAME TO "{live}".'
        )
    if new is None:
        raise RunbookError(f"replacement: there is no database {replacement!r}; restore one first, or check its name.")
    for option, each in (("database", found), ("replacement", new)):
        refuse_unmovable(option, each, connected)
    _refuse_unproven(new, live)
    if set(new.settings) != set(found.settings):
        refuse_settings(found, connected)
    missing = new.marker.without if new.marker else ""
    refuse_without([each for each in missing.split(", ") if each], accept_without, what=f"replacement: {replacement!r}")
    if new.environment not in {None, found.environment}:
        raise RunbookError(
            f"replacement: {replacement!r} is marked as {new.environment!r}, and {live!r} as "
            f"{found.environment or 'nothing'!r}; what may have been worked on as another environment's takes nobody's "
            "place. Restore a new one."
        )
    previous = replacement
    while previous in databases:
        # Taken only where a swap is undone within its second.
        previous, now = dated_name(live, "before", f"{now:%Y-%m-%dT%H-%M-%SZ}"), now + timedelta(seconds=1)
    warnings = tuple(
        f"Replication slot {slot} stays with {previous}; recreate it in {live} and start its reader afresh."
        for slot in found.slots
    )
    return Plan(found, new, previous, warnings)


def refuse_settings(live: Database, connected: Connected) -> None:
    """Refuse where a copy cannot be given the settings of the live database.

    :raises RunbookError: the role may not set one of them
    """
    if live.forbidden:
        name = live.forbidden[0]
        raise RunbookError(
            f"login_user: {connected.role!r} may not set {name}, which {live.name!r} carries and its copy has to; "
            "name a superuser in db_restore_login_user, or, from PostgreSQL 15 on, let one GRANT SET ON PARAMETER "
            f"{name} to this user; db_roles.yml does so for runbook_restore and the environment's mark."
        )
    if live.others:
        raise RunbookError(
            f"login_user: {connected.role!r} may not carry over what is set for {', '.join(live.others)} in "
            f"{live.name!r} (ALTER ROLE … IN DATABASE); name a superuser in db_restore_login_user."
        )


def refuse_unmovable(option: str, database: Database, connected: Connected) -> None:
    """Refuse a database that cannot be renamed.

    :param option: that names it
    :raises RunbookError: this user may not rename it, or something in it keeps it from being renamed
    """
    if not database.is_mine or not (connected.may_create or connected.is_superuser):
        raise RunbookError(
            f"login_user: {connected.role!r} may not rename {database.name!r}, which {database.owner!r} owns; connect "
            "as a superuser, or as its owner with CREATEDB."
        )
    if database.prepared:
        raise RunbookError(
            f"{option}: {database.name!r} has the prepared transaction {database.prepared[0]!r}, which keeps it from "
            "being renamed; end it with COMMIT PREPARED or ROLLBACK PREPARED there."
        )
    if database.subscriptions:
        raise RunbookError(
            f"{option}: {database.name!r} has {count(database.subscriptions, 'subscription')}, whose workers keep it "
            f"from "
            "being renamed; disable them there with ALTER SUBSCRIPTION … DISABLE."
        )


def _refuse_unproven(new: Database, live: str) -> None:
    marker = new.marker
    if marker is None:
        raise RunbookError(
            f"replacement: {new.name!r} bears no mark of a restore, so nobody knows what it holds; restore and prove "
            "one with playbooks/restore.yml."
        )
    if marker.database != live:
        raise RunbookError(
            f"replacement: {new.name!r} is a copy of {marker.database!r}, not of {live!r}; check both names."
        )
    if marker.state not in {"proven", "previous"}:
        raise RunbookError(
            f"replacement: {new.name!r} is {marker.state}, not proven; restore with the proof, and swap that one."
        )


def refuse_without(missing: Sequence[str], accepted: Iterable[str], *, what: str) -> None:
    """Refuse a copy that is no whole one, unless a person named all that it is without.

    :param missing: tables whose rows it does without, and extensions
    :param what: how the sentence calls the copy, after the option
    :raises RunbookError: something was not named
    """
    if set(missing) - set(accepted):
        tables = [each for each in missing if "." in each]
        others = [f"extension {each}" for each in missing if "." not in each]
        said = [*([f"the rows of {', '.join(tables)}"] if tables else []), *others]
        raise RunbookError(
            f"{what} is without {' and '.join(said)}, because its backup or its restore was told to leave that out; as "
            "the live database it would be lacking. Take another backup, or say that you know it: "
            f"-e db_restore_accept_without='{','.join(missing)}'."
        )


# Settings -------------------------------------------------------------------------------------------------------------

#: Parameters whose value is a list of names: each name is quoted for itself (PostgreSQL's GUC_LIST_QUOTE).
LISTS = frozenset({
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
})  # fmt: skip
_ITEM = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^,]*?))\s*(?:,|$)')


def setting_values(name: str, value: str) -> list[str]:
    """What stands behind ``SET name TO``, one text for each literal.

    >>> setting_values("search_path", 'app, "We ird", public')
    ['app', 'We ird', 'public']
    >>> setting_values("DateStyle", "ISO, DMY")
    ['ISO, DMY']
    """
    if name.lower() not in LISTS:
        return [value]
    found, position = [], 0
    while position < len(value):
        match = _ITEM.match(value, position)
        if match is None:
            return [value]
        quoted = match["quoted"]
        found.append(quoted.replace('""', '"') if quoted is not None else match["plain"])
        position = match.end()
    return found or [""]


# Words ----------------------------------------------------------------------------------------------------------------


def describe(chosen: Plan) -> str:
    """The plan for ``--diff``."""
    live, new = chosen.live, chosen.replacement
    lines = [f"{live.name} -> {chosen.previous_name}", f"{new.name} -> {live.name}", f"owner: {live.owner}"]
    lines += [
        f"setting: {each.name} = {each.value}{f' (role {each.role})' if each.role else ''}" for each in live.settings
    ]
    lines += [f"privilege: {each.privilege} to {each.grantee or 'PUBLIC'}" for each in live.grants]
    return as_lines(lines)


def sentence(chosen: Plan, *, ended: int, closed_s: float) -> str:
    """What was done, and how to undo it."""
    return (
        f"{chosen.replacement.name} is {chosen.live.name} now, and the one before is kept as {chosen.previous_name}; "
        f"{count(ended, 'session was', 'sessions were')} ended and new ones waited {closed_s:.1f} s. To undo it, "
        f"swap {chosen.previous_name} in again."
    )


def result(chosen: Plan) -> dict[str, Any]:
    """The plan as part of the module's result."""
    return {
        "database": chosen.live.name,
        "replacement": chosen.replacement.name,
        "previous": chosen.previous_name,
    }
