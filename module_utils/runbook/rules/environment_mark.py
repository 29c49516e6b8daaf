"""A database says itself to which environment it belongs.

An inventory can be copied, renamed, or given a variable on the command line; then what it says of itself is wrong. So
the database carries a mark too, as a bucket carries its tag. It is a setting of the database alone, ``ALTER DATABASE …
SET runbook.environment``: everybody may read it in ``pg_db_role_setting``, a dump does not carry it into another
environment, and no setting of a role or a session hides it.

Only a superuser may set it, or, from PostgreSQL 15 on, the database's owner who was granted SET ON PARAMETER: to own
the database is not enough, with CREATEROLE neither (seen on 14 to 18). Where there is no superuser, as on a managed
platform, the comment of the schema ``runbook`` says it in the same words. Of the two the setting counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The setting's name.
SETTING = "runbook.environment"
#: The playbooks that set the mark, and so meet databases without one.
MARKING_PLAYBOOKS = frozenset({"db_roles.yml"})


def parse(settings: Sequence[str]) -> str | None:
    """The environment among a database's settings; None where it carries no mark.

    >>> parse(["work_mem=4MB", "runbook.environment=production"])
    'production'
    """
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == SETTING:
            return value
    return None


def check(found: str | None, *, environment: str, database: str, playbook: str) -> str:
    """The mark is there, and says what the inventory says.

    :param found: as :func:`parse` gives it
    :param playbook: file name of the playbook that runs
    :returns: the sentence for the record
    :raises RunbookError: no mark, or another environment's
    """
    if found is None and playbook in MARKING_PLAYBOOKS:
        return f"Database {database} carries no mark yet; this playbook sets it to {environment}."
    if found is None:
        raise RunbookError(
            f"environment: database {database!r} carries no mark of its environment, so nothing is written to it; if "
            f"it is {environment}, run playbooks/db_roles.yml, or (on a server of proofs too) as a superuser: "
            f"ALTER DATABASE {_quoted(database)} SET {SETTING} = '{environment}'"
        )
    if found != environment:
        raise RunbookError(
            f"environment: the inventory says {environment}, and database {database!r} carries the mark {found!r} "
            f"({SETTING}); use the inventory of that environment. Only where the mark itself is wrong, set it again as "
            "a superuser, or, where the comment of the schema runbook bears it, as that schema's owner."
        )
    return f"Database {database} carries the mark {found}."


def _quoted(name: str) -> str:
    """A name as a person types it into psql."""
    return '"' + name.replace('"', '""') + '"'
