"""Which rights the project's SQL roles have, and no more.

``runbook_read``
    Figures: statistics, sizes, how full pages are, the last number of each sequence, the lease. No row of any other
    table.
``runbook_maintain``
    The weekly and monthly work: moves audit records to their archive, vacuums, analyzes and reindexes every table,
    holds the lease, writes the heartbeat. From PostgreSQL 17 on it reads no table but those it moves
    rows between, and the project's own; of tables whose old rows it deletes, times and keys.
    Where row-level security keeps those, a policy of its own opens them to it; it never gets BYPASSRLS.
``runbook_backup``
    Reads every table, past row-level security, and holds the lease. It writes to no other table.
``runbook_restore``
    Makes databases to restore into, and ends the sessions that are in the way. What is restored belongs to whom it
    belonged, and only members of a role can give it an object: so it is a member of everybody who owns something in
    the database, and may do all that they may. It never becomes a member of a superuser. Its users read past row-level
    security, since a proof compares every row.

They are groups without login; people and bastions log in as members of them.

How full pages are is asked of the extension pgstattuple, which shows no row. The planner's statistics would do too, but
the server shows them only to those who may read the table, and for whom no row-level security is active.

What is made later is covered too: default privileges of those who own tables give ``runbook_read`` their sequences,
``runbook_maintain`` their schemas, and ``runbook_backup`` their large objects, for which default privileges came with
PostgreSQL 18.

Before PostgreSQL 17 only the owner of a table may vacuum it. So there ``runbook_maintain`` becomes a member of the
owners, and may do all that they may: the reason to upgrade. It never becomes a member of a superuser. From 17 on it is
a member of pg_maintain; where nobody may grant that, as on a managed platform, it gets MAINTAIN on each table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.cleanup import Need

READ, MAINTAIN, BACKUP, RESTORE = "runbook_read", "runbook_maintain", "runbook_backup", "runbook_restore"
GROUPS = (READ, MAINTAIN, BACKUP, RESTORE)

#: First server version (as ``server_version_num``) with the right MAINTAIN and the role pg_maintain.
HAS_MAINTAIN = 170000
#: First server version with the role pg_read_all_data.
HAS_READ_ALL = 140000
#: First server version with privileges on parameters.
HAS_PARAMETERS = 150000
#: First server version with default privileges for large objects; there each GRANT on one keeps a lock, too.
HAS_LARGE_OBJECT_DEFAULTS = 180000
#: So many large objects are opened in one run, before it has too many locks, or lasts too long.
MOST_LARGE_OBJECTS = 5_000
MOST_LARGE_OBJECTS_WITHOUT_LOCKS = 100_000
#: Settings that keep the text of statements, and the value with which none keeps a password's verifier.
UNLOGGED = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_min_error_statement": "panic",
    "pg_stat_statements.track": "none",
    "pg_stat_statements.track_utility": "off",
    "track_activities": "off",
}
#: Of these the one that counts when a transaction begins.
SAMPLED = "log_transaction_sample_rate"
#: First server version where who makes a role becomes a member of it, unless he is a superuser.
MAKER_JOINS = 160000


@dataclass(frozen=True)
class Grant:
    """Privileges on one object, as GRANT takes them."""

    privileges: tuple[str, ...]
    kind: Literal["DATABASE", "SCHEMA", "TABLE"]
    #: One part for a database or schema, two for a table.
    name: tuple[str, ...]
    grantee: str
    #: Of a table: only these; all where there are none.
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Default:
    """What one role's later objects of one kind grant, as ALTER DEFAULT PRIVILEGES takes it."""

    owner: str
    privilege: str
    kind: Literal["TABLES", "SEQUENCES", "SCHEMAS", "LARGE OBJECTS"]
    grantee: str


@dataclass(frozen=True)
class Membership:
    """``member`` has the rights of ``role``."""

    role: str
    member: str


@dataclass(frozen=True)
class Owner:
    """Somebody who owns tables of the database."""

    name: str
    superuser: bool
    #: It is the group that is to join it, or a member of that, so the group cannot become a member of it.
    ours: bool = False
    #: Who makes the roles may set its default privileges.
    obeys: bool = True


@dataclass(frozen=True)
class Admin:
    """Who makes the roles."""

    name: str
    superuser: bool
    #: May grant pg_maintain.
    grants_maintain: bool = True


@dataclass(frozen=True)
class User:
    """A role that is there already."""

    name: str
    superuser: bool
    login: bool
    createdb: bool
    inherit: bool
    bypassrls: bool
    #: Attributes that no user of the project needs.
    extra: tuple[str, ...] = ()
    #: Why nobody can log in as it, though it may; empty where one can.
    shut: str = ""


def joins(owner: Owner, *, server_version: int, admin: Admin) -> bool:
    """Whether a group of ours can become a member of an owner.

    A superuser's rights are no limits. A role cannot become a member of its own member: neither of a user of the
    project that owns tables, nor, from 16 on, of the owner that makes the group itself.
    """
    makes_it = owner.name == admin.name and server_version >= MAKER_JOINS
    return not owner.superuser and not owner.ours and not makes_it


def memberships(server_version: int, owners: Iterable[Owner], admin: Admin) -> list[Membership]:
    """Who belongs to what, without the login users."""
    wanted = [
        # Replication lag and the progress of others are shown to its members only; it may measure pages, too.
        Membership("pg_monitor", READ),
        Membership(READ, MAINTAIN),
        Membership(READ, BACKUP),
        Membership(READ, RESTORE),
        Membership("pg_signal_backend", RESTORE),
    ]
    if server_version >= HAS_READ_ALL:
        wanted.append(Membership("pg_read_all_data", BACKUP))
    if server_version < HAS_MAINTAIN:
        joined = (owner for owner in owners if joins(owner, server_version=server_version, admin=admin))
        return wanted + [Membership(owner.name, MAINTAIN) for owner in joined]
    return [*wanted, Membership("pg_maintain", MAINTAIN)] if admin.grants_maintain else wanted


#: The project's own tables, in schema ``runbook``.
TABLES = ("lease", "heartbeat")


def keeper(server_version: int, owner: Owner, *, database_owner: Owner, is_table: bool) -> str | None:
    """To whom an object of the project's own goes, which a superuser made; None where it stays.

    A superuser's objects can be restored by a superuser only. Before 17 ``runbook_maintain`` could not vacuum them
    either.
    """
    if not owner.superuser:
        return None
    if is_table and server_version < HAS_MAINTAIN:
        return MAINTAIN
    return RESTORE if database_owner.superuser else database_owner.name


def restored_for(
    server_version: int, owners: Iterable[Owner], admin: Admin, own: Mapping[str, str]
) -> tuple[list[Membership], list[str]]:
    """The owners that ``runbook_restore`` joins, and a sentence for each that it cannot join.

    :param owners: who owns anything in the database; ``ours`` says whether it is in ``runbook_restore``
    :param own: by superuser, what it owns there, in words
    """
    wanted, said = [], []
    for owner in owners:
        if owner.superuser:
            if owner.name in own:
                said.append(
                    f"{owner.name} is a superuser and owns {own[owner.name]}, so {RESTORE} cannot restore that: "
                    "give it to a role that is none (ALTER … OWNER TO), or restore as a superuser."
                )
        elif joins(owner, server_version=server_version, admin=admin):
            wanted.append(Membership(owner.name, RESTORE))
        elif not owner.ours or owner.name == admin.name:
            said.append(
                f"{owner.name}, who makes {RESTORE}, is by that a member of it, so that {RESTORE} cannot join it and "
                f"restore what it owns: name {owner.name} in db_restore_login_user, or run this playbook as a "
                "superuser."
            )
    return wanted, said


def grants(
    *,
    database: str,
    database_owner: Owner,
    schemas: Iterable[str],
    archives: Sequence[tuple[QualifiedName, QualifiedName]],
) -> list[Grant]:
    """Rights on objects.

    :param database_owner: runs the playbook that gives them, where no superuser does; for that it takes the lease
    :param schemas: schemas that hold tables; VACUUM needs to look its table up there
    :param archives: pairs of source and archive, both of which exist
    """
    wanted = [Grant(("CONNECT",), "DATABASE", (database,), group) for group in GROUPS]
    wanted += [
        Grant(("USAGE",), "SCHEMA", ("runbook",), READ),
        Grant(("SELECT",), "TABLE", ("runbook", "lease"), READ),
        *(
            Grant(("INSERT", "UPDATE", "DELETE"), "TABLE", ("runbook", "lease"), group)
            for group in (MAINTAIN, BACKUP, RESTORE)
        ),
        *(
            []
            if database_owner.superuser
            else [Grant(("SELECT", "INSERT", "UPDATE", "DELETE"), "TABLE", ("runbook", "lease"), database_owner.name)]
        ),
        Grant(("SELECT", "INSERT", "DELETE"), "TABLE", ("runbook", "heartbeat"), MAINTAIN),
    ]
    wanted += [Grant(("USAGE",), "SCHEMA", (schema,), MAINTAIN) for schema in sorted(schemas)]
    for source, archive in archives:
        wanted.append(Grant(("SELECT", "DELETE"), "TABLE", tuple(source), MAINTAIN))
        wanted.append(Grant(("SELECT", "INSERT"), "TABLE", tuple(archive), MAINTAIN))
    return wanted


def cleanup_grants(need: Need) -> list[Grant]:
    """Rights to delete what is over: the text of a row is read by nobody for it."""
    read = Grant(("SELECT",), "TABLE", tuple(need.table), MAINTAIN, need.columns)
    return [read, *([Grant(("DELETE",), "TABLE", tuple(need.table), MAINTAIN)] if need.deletes else [])]


def defaults(server_version: int, owners: Iterable[Owner], admin: Admin) -> list[Default]:
    """Rights on what the owners of tables make later."""
    wanted = []
    for owner in owners:
        if not owner.obeys or owner.ours:
            continue
        wanted += [Default(owner.name, "SELECT", "SEQUENCES", READ), Default(owner.name, "USAGE", "SCHEMAS", MAINTAIN)]
        if server_version >= HAS_LARGE_OBJECT_DEFAULTS:
            wanted.append(Default(owner.name, "SELECT", "LARGE OBJECTS", BACKUP))
        if server_version >= HAS_MAINTAIN and not admin.grants_maintain:
            wanted.append(Default(owner.name, "MAINTAIN", "TABLES", MAINTAIN))
    return wanted


def large_objects(server_version: int, closed: Mapping[str, tuple[int, bool]]) -> tuple[int, list[str]]:
    """How many large objects this run opens to ``runbook_backup``, and what is said of the rest.

    :param closed: for each owner how many it cannot read, and whether this user may grant it that
    """
    most = MOST_LARGE_OBJECTS if server_version >= HAS_LARGE_OBJECT_DEFAULTS else MOST_LARGE_OBJECTS_WITHOUT_LOCKS
    ours = sum(number for number, may in closed.values() if may)
    said = [
        f"{count(number, 'large object')} of {owner} may not be read by {BACKUP}, and no backup is made before; let "
        f"{owner} GRANT SELECT ON LARGE OBJECT … TO {BACKUP}, or run this playbook as a superuser."
        for owner, (number, may) in closed.items()
        if not may
    ]
    if ours > most:
        said.append(
            f"One run gives {BACKUP} SELECT on {count(most, 'large object')}, and "
            f"{count(ours - most, 'is', 'are')} left; run this playbook again."
        )
    return min(ours, most), said


def maintained(
    server_version: int, tables: Iterable[tuple[QualifiedName, bool]], admin: Admin
) -> tuple[list[Grant], list[str]]:
    """MAINTAIN on each table, where pg_maintain cannot be granted; and the tables on which this user may not grant it.

    :param tables: name, and whether this user has the owner's rights
    """
    if server_version < HAS_MAINTAIN or admin.grants_maintain:
        return [], []
    known = list(tables)
    given = [Grant(("MAINTAIN",), "TABLE", tuple(name), MAINTAIN) for name, owned in known if owned]
    return given, [str(name) for name, owned in known if not owned]


def warnings(server_version: int, owners: Iterable[Owner], admin: Admin) -> list[str]:
    """What the person who sets up the roles should know."""
    if server_version >= HAS_MAINTAIN:
        return []
    major = server_version // 10000
    found = []
    if server_version < HAS_READ_ALL:
        found.append(
            f"PostgreSQL {major} has no role pg_read_all_data, so {BACKUP} cannot read the tables; back up as their "
            "owner, or upgrade to 14 or newer."
        )
    joined = []
    for owner in owners:
        if owner.superuser:
            found.append(
                f"PostgreSQL {major} lets only owners vacuum, and {owner.name} is a superuser, so {MAINTAIN} does not "
                "join it and cannot vacuum its tables; give them to a role that is none, or upgrade to 17."
            )
        elif owner.ours:
            found.append(
                f"PostgreSQL {major} lets only owners vacuum, and tables belong to {owner.name}, which is a member of "
                f"{MAINTAIN}, so only that user itself can vacuum them; give them to the application's owner with "
                "ALTER TABLE … OWNER TO, or upgrade to 17."
            )
        elif not joins(owner, server_version=server_version, admin=admin):
            found.append(
                f"PostgreSQL {major} lets only owners vacuum, and {owner.name}, who makes {MAINTAIN}, is by that a "
                f"member of it, so that {MAINTAIN} cannot join it and cannot vacuum its tables; run this playbook as a "
                "superuser or as another role with CREATEROLE, or upgrade to 17."
            )
        else:
            joined.append(owner.name)
    if joined:
        found.append(
            f"PostgreSQL {major} lets only owners vacuum, so {MAINTAIN} has to be a member of {some(joined, most=10)}, "
            "and may do all that they may; from 17 on it needs no more than pg_maintain."
        )
    return found


def keepers_of_passwords(found: Mapping[str, str], may: Collection[str]) -> dict[str, list[str]]:
    """Where the verifier of a new password would stay: the place, and the settings that keep it there.

    An error's text is no such place: a password is set for a role that was made just before, which is not refused.

    :param found: what the server has of :data:`UNLOGGED`
    :param may: those that this user may set

    >>> keepers_of_passwords({"log_statement": "ddl", "log_min_duration_statement": "-1"}, set())
    {"the server's log": ['log_statement']}
    """
    logs = ("log_statement", "log_min_duration_statement", "log_min_duration_sample", SAMPLED)
    logged = [name for name in logs if name in found and name not in may and found[name] != UNLOGGED[name]]
    counts = ("pg_stat_statements.track", "pg_stat_statements.track_utility")
    counted = all(name in found and name not in may and found[name] != UNLOGGED[name] for name in counts)
    places = {"the server's log": logged, "pg_stat_statements": [counts[1]] if counted else []}
    return {place: names for place, names in places.items() if names}


def passwords_told(login: str, users: Iterable[str], kept: Mapping[str, Sequence[str]]) -> str:
    """What is said where :func:`keepers_of_passwords` found a place."""
    names = some([name for each in kept.values() for name in each])
    return (
        f"{login} may not set {names}, so the SCRAM verifiers of the passwords of {some(users)} stay in "
        f"{' and in '.join(kept)}, and who reads one can guess at the password; make these users as a superuser, or "
        f"let one GRANT SET ON PARAMETER {names} TO {login} first (PostgreSQL 15 and newer)."
    )


def attributes(user: User, *, role: str) -> list[str]:
    """Attributes that a login user lacks, as ALTER ROLE takes them; not BYPASSRLS, which not everybody may give.

    >>> attributes(User("x", superuser=False, login=False, createdb=False, inherit=True, bypassrls=False), role="read")
    ['LOGIN']
    """
    return [
        *([] if user.login else ["LOGIN"]),
        *(["CREATEDB"] if role == "restore" and not user.createdb else []),
    ]


def unsafe_attributes(user: User, *, role: str) -> list[str]:
    """What a user who was there already has beyond what its group needs, or cannot log in for."""
    extra = [
        *user.extra,
        *(["CREATEDB"] if user.createdb and role != "restore" else []),
        *(["BYPASSRLS"] if user.bypassrls and role not in {"backup", "restore"} else []),
    ]
    found = []
    if extra:
        undone = " ".join(f"NO{each}" for each in extra)
        found.append(
            f"User {user.name} was there before, with {' and '.join(extra)}, which the project does not need; "
            f'ALTER ROLE "{user.name}" {undone} takes that away.'
        )
    if user.shut:
        found.append(f"Nobody can log in as {user.name}: {user.shut}.")
    return found
