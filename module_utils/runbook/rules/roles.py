"""Which rights the project's SQL roles have, and no more.

``runbook_read``
    Figures: statistics, sizes, the lease. No row of any other table.
``runbook_maintain``
    Weekly maintenance: moves audit records to their archive, vacuums and analyzes every table, holds the lease, writes
    the heartbeat. It reads no table but those it moves rows between, and the project's own.
``runbook_backup``
    Reads every table, past row-level security, and holds the lease. It writes to no other table.
``runbook_restore``
    Makes databases to restore into, and ends the sessions that are in the way.

They are groups without login; people and bastions log in as members of them.

Before PostgreSQL 17 only the owner of a table may vacuum it. So there ``runbook_maintain`` becomes a member of the
owners, and may do all that they may: the reason to upgrade. It never becomes a member of a superuser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

READ, MAINTAIN, BACKUP, RESTORE = "runbook_read", "runbook_maintain", "runbook_backup", "runbook_restore"
GROUPS = (READ, MAINTAIN, BACKUP, RESTORE)

#: First server version (as ``server_version_num``) with the right MAINTAIN and the role pg_maintain.
HAS_MAINTAIN = 170000
#: First server version with the role pg_read_all_data.
HAS_READ_ALL = 140000


@dataclass(frozen=True)
class Grant:
    """Privileges on one object, as GRANT takes them."""

    privileges: tuple[str, ...]
    kind: Literal["DATABASE", "SCHEMA", "TABLE"]
    #: One part for a database or schema, two for a table.
    name: tuple[str, ...]
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


def memberships(server_version: int, owners: Iterable[Owner]) -> list[Membership]:
    """Who belongs to what, without the login users."""
    wanted = [
        # Replication lag and the progress of others are shown to members of this role only.
        Membership("pg_read_all_stats", READ),
        Membership(READ, MAINTAIN),
        Membership(READ, BACKUP),
        Membership("pg_signal_backend", RESTORE),
    ]
    if server_version >= HAS_READ_ALL:
        wanted.append(Membership("pg_read_all_data", BACKUP))
    if server_version >= HAS_MAINTAIN:
        return [*wanted, Membership("pg_maintain", MAINTAIN)]
    return wanted + [Membership(owner.name, MAINTAIN) for owner in owners if not owner.superuser]


#: The project's own tables, in schema ``runbook``.
TABLES = ("lease", "heartbeat")


def hands_over(server_version: int, owner: Owner) -> bool:
    """Whether a table of the project's own goes to ``runbook_maintain``, which could not vacuum it otherwise."""
    return server_version < HAS_MAINTAIN and owner.superuser


def grants(
    *, database: str, schemas: Iterable[str], archives: Sequence[tuple[QualifiedName, QualifiedName]]
) -> list[Grant]:
    """Rights on objects.

    :param schemas: schemas that hold tables; VACUUM needs to look its table up there
    :param archives: pairs of source and archive, both of which exist
    """
    wanted = [Grant(("CONNECT",), "DATABASE", (database,), group) for group in GROUPS]
    wanted += [
        Grant(("USAGE",), "SCHEMA", ("runbook",), READ),
        Grant(("SELECT",), "TABLE", ("runbook", "lease"), READ),
        *(Grant(("INSERT", "UPDATE", "DELETE"), "TABLE", ("runbook", "lease"), group) for group in (MAINTAIN, BACKUP)),
        Grant(("SELECT", "INSERT", "DELETE"), "TABLE", ("runbook", "heartbeat"), MAINTAIN),
    ]
    wanted += [Grant(("USAGE",), "SCHEMA", (schema,), MAINTAIN) for schema in sorted(schemas)]
    for source, archive in archives:
        wanted.append(Grant(("SELECT", "DELETE"), "TABLE", tuple(source), MAINTAIN))
        wanted.append(Grant(("SELECT", "INSERT"), "TABLE", tuple(archive), MAINTAIN))
    return wanted


def warnings(server_version: int, owners: Iterable[Owner]) -> list[str]:
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
    for owner in owners:
        if owner.superuser:
            found.append(
                f"PostgreSQL {major} lets only owners vacuum, and {owner.name} is a superuser, so {MAINTAIN} does not "
                "join it and cannot vacuum its tables; give them to a role that is none, or upgrade to 17."
            )
        else:
            found.append(
                f"PostgreSQL {major} lets only owners vacuum, so {MAINTAIN} is now a member of {owner.name} and may do "
                "all that this role may; from 17 on it needs no more than pg_maintain."
            )
    return found
