"""Which cluster and database answered, and whether it is the one that is meant.

A host name leads to whatever stands behind it today: a copied inventory, a restored machine, a name that was moved. So
the inventory pins the number that PostgreSQL gives a cluster at ``initdb``, and each session compares.
"""

from __future__ import annotations

from ansible.module_utils.runbook.errors import RunbookError


def check(
    found_identifier: str,
    found_database: str,
    *,
    system_identifier: str,
    database: str,
    pin: str = "preflight_system_identifier",
    login: str = "db_login",
) -> str:
    """The server proves that it is the one which the inventory means.

    :param found_identifier: what ``pg_control_system()`` says
    :param found_database: what ``current_database()`` says
    :param system_identifier: as pinned in the inventory
    :param database: the database's name in the inventory
    :param pin: variable in which the cluster is pinned
    :param login: what the variables begin with that say where the server is
    :raises RunbookError: nothing is pinned, or another cluster or database answered
    """
    pinned = system_identifier.strip()
    if not pinned:
        raise RunbookError(
            "system_identifier: the inventory does not say which cluster it means; if this is the right one, pin it: "
            f"{pin}: '{found_identifier}'"
        )
    if not pinned.isdigit():
        raise RunbookError(
            f"system_identifier: {pinned!r} is not a system identifier, which is a number; if this is the right "
            f"cluster, pin it: {pin}: '{found_identifier}'"
        )
    if pinned != found_identifier:
        raise RunbookError(
            f"system_identifier: the inventory means cluster {pinned}, and cluster {found_identifier} "
            f"answered; check {login}_host and {login}_port, and correct {pin} only if the "
            "cluster was replaced on purpose."
        )
    if found_database != database:
        raise RunbookError(
            f"login_db: the inventory means database {database!r}, and {found_database!r} answered; a pooler may map "
            "the name: connect to the server itself."
        )
    return f"Database {found_database} of cluster {found_identifier}, as pinned."
