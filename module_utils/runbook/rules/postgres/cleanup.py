"""What a cleanup may delete: rows that are over, by a time that stands in them, and never what somebody has to keep.

A rule of the inventory names a table, a column, and how old that column has to be. Expired sessions are rows whose
``expires_at`` is some days ago, soft-deleted ones those whose ``deleted_at`` is; a row without that time is never old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import entries
from ansible.module_utils.runbook.rules.identifiers import QualifiedName, parse_qualified
from ansible.module_utils.runbook.rules.postgres.archive_tables import TIME_TYPES, names_of
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.rules.postgres.archive_tables import ForeignKey, Table

#: Never cleaned up, whoever owns them: the server's own, this project's, and what a platform keeps for itself.
SCHEMAS = managed.SCHEMAS | {"pg_catalog", "information_schema", "pg_toast", managed.OURS}
#: Records of who did what are archived (pg_archive), and kept for as long as the law says.
_KEPT = "audit"
_KEPT_BY_INVENTORY = "is kept by the inventory (kept)"
_RUN_DB_ROLES = "run playbooks/db_roles.yml, which gives runbook_maintain what the rules need, with a policy of its own"
_KEYS = ("table", "column", "older_than_days", "max_rows")
_MAX_ROWS = 100_000


@dataclass(frozen=True)
class Rule:
    """Rows of one table that are over."""

    table: QualifiedName
    column: str
    older_than_days: int
    #: Nothing is deleted anywhere if more rows than that are over, those that a foreign key takes along included.
    max_rows: int


@dataclass(frozen=True)
class Need:
    """What a role has to be granted on one table to follow a rule: no more than times and keys are read."""

    table: QualifiedName
    columns: tuple[str, ...]
    #: Its rows are deleted; those that a foreign key takes along, the server deletes by itself.
    deletes: bool

    def lacking(self, table: Table) -> list[str]:
        """What the connected role lacks of it.

        :param table: as the catalog has it
        """
        found = [each for each in ("USAGE", *(("DELETE",) if self.deletes else ())) if each not in table.rights]
        unread = [each for each in self.columns if not table.named(each).readable]
        return found + ([f"SELECT ({', '.join(unread)})"] if unread else [])


def read(
    given: Sequence[Any], *, kept: Sequence[str], held: Sequence[str], option: str = "rules"
) -> tuple[list[Rule], list[Rule]]:
    """The rules of an inventory: those that are followed, and those of tables under a legal hold.

    :param given: dictionaries with ``table``, ``column``, ``older_than_days``, perhaps ``max_rows``
    :param kept: tables that are never cleaned up
    :param held: tables under a legal hold
    :param option: the module's option that they stand in
    :raises RunbookError: a mistake, or a table that is never cleaned up
    """
    if not given:
        raise RunbookError(f"{option}: there is none, so nothing is cleaned up; say in the inventory what is over.")
    rules = [_read(option, number, entry) for number, entry in enumerate(given, 1)]
    never = {parse_qualified(each, option="kept") for each in kept}
    holds = {parse_qualified(each, option="held") for each in held}
    seen: set[tuple[QualifiedName, str]] = set()
    for rule in rules:
        if (rule.table, rule.column) in seen:
            raise RunbookError(f"{option}: {rule.table} has two rules for {rule.column!r}; keep one of them.")
        seen.add((rule.table, rule.column))
        why = never_cleaned(rule.table) or (_KEPT_BY_INVENTORY if rule.table in never else "")
        if why:
            raise RunbookError(f"{option}: {rule.table} {why}; take the rule out.")
    return [each for each in rules if each.table not in holds], [each for each in rules if each.table in holds]


def _read(option: str, number: int, entry: Any) -> Rule:
    where = f"{option}, entry {number}"
    if not isinstance(entry, dict):
        raise RunbookError(f"{where}: {entry!r} is no dictionary; give table, column and older_than_days.")
    entries.refuse_unknown(where, entry, _KEYS)
    entries.require(where, entry, ("table", "column", "older_than_days"))
    table = parse_qualified(str(entry["table"]), option=f"{where}: table")
    where = f"{option}: {table}"
    for key, least, most in (("older_than_days", 1, 36_500), ("max_rows", 1, 100_000_000)):
        value = entry.get(key, _MAX_ROWS)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise RunbookError(f"{where}: {key}: {value!r} is out of bounds; give a number from {least} to {most:,}.")
    return Rule(table, str(entry["column"]), entry["older_than_days"], entry.get("max_rows", _MAX_ROWS))


def never_cleaned(table: QualifiedName) -> str:
    """Why a table is never cleaned up, by its name; empty where it may be."""
    if table.schema in SCHEMAS or table.schema.startswith("pg_"):
        return f"stands in schema {table.schema!r}, whose rows are not ours to delete"
    if _KEPT in table.name.lower() or _KEPT in table.schema.lower():
        return "is a record of who did what, which is archived (pg_archive) and never cleaned up"
    return ""


def require(
    rule: Rule, table: Table | None, names: Sequence[str], roles: Sequence[str], *, option: str = "rules"
) -> Table:
    """The table of a rule, which must be there, with the column and a key.

    :param table: as the catalog has it; None where there is none of that name
    :param names: the tables that there are, as ``schema.table``
    :param roles: roles of a managed platform that the server has
    :raises RunbookError: one sentence with the fix
    """
    where = f"{option}: {rule.table}"
    if table is None:
        raise RunbookError(f"{where}: there is no such table; {entries.choose(str(rule.table), names[:200])}")
    if table.kind not in "rp":
        raise RunbookError(f"{where} is a view or a foreign table; name the table that holds the rows.")
    if managed.is_platform(roles) and table.owner in managed.PLATFORM_OWNERS:
        raise RunbookError(f"{where} belongs to the platform ({table.owner}), which keeps its own rows; take it out.")
    column = table.column(rule.column)
    if column is None:
        known = [each.name for each in table.columns]
        raise RunbookError(f"{where}: there is no column {rule.column!r}; {entries.choose(rule.column, known)}")
    if column.base_type not in TIME_TYPES:
        raise RunbookError(f"{where}: {rule.column!r} is of type {column.type}; name a column of time.")
    if not table.key:
        raise RunbookError(f"{where} has no primary key, by which rows are deleted in batches; give it one.")
    return table


def refuse(rule: Rule, table: Table, need: Need, user: str) -> None:
    """Refuse a table whose rows cannot be deleted safely, before any row is.

    :param need: what the rule reads and deletes of it
    :param user: as whom this session is logged in
    :raises RunbookError: one sentence with the fix
    """
    where = f"rules: {rule.table}"
    if table.children or table.foreign_partitions or table.rules:
        raise RunbookError(
            f"{where} has {names_of([*table.children, *table.foreign_partitions, *table.rules])} (tables that inherit, "
            "foreign partitions or rules), which do other things than a delete of its rows; delete them by hand."
        )
    if table.row_security:
        raise RunbookError(
            f"{where}: row security hides rows from {user!r}, so what is counted is not all; {_RUN_DB_ROLES}. A policy "
            "that restricts has to go first, or connect as a role with BYPASSRLS."
        )
    lacking = need.lacking(table)
    if lacking:
        raise RunbookError(f"{where}: {user!r} lacks {' and '.join(lacking)}; {_RUN_DB_ROLES}.")
    if table.subscriptions:
        raise RunbookError(f"{where} is filled by a subscription, which brings the rows back; delete at the publisher.")
    if table.triggers:
        raise RunbookError(
            f"{where}: deleting fires triggers ({names_of(table.triggers)}), and what they do elsewhere is not "
            "seen here; delete these rows by a job of the application, which knows them."
        )
    refuse_keys(where, table.referencing_keys)


def refuse_related(
    where: str, related: Sequence[QualifiedName], *, kept: Sequence[str], held: Sequence[str]
) -> None:  # fmt: skip
    """Refuse rows that stand in a table which has to be kept, too: in a partition, or in what it is a partition of.

    :param related: those tables
    :raises RunbookError: one of them has to be kept
    """
    never = {parse_qualified(each, option="kept") for each in [*kept, *held]}
    for name in related:
        why = "is under a legal hold or kept by the inventory" if name in never else never_cleaned(name)
        if why:
            raise RunbookError(
                f"{where}: its rows are rows of {name}, too, which {why}; name tables that share no row with it."
            )


def refuse_keys(where: str, keys: Sequence[ForeignKey]) -> None:
    """Refuse foreign keys that stop a delete, or change rows of others.

    :raises RunbookError: there is one, with the table that refers
    """
    for key in keys:
        if key.on_delete != "CASCADE":
            raise RunbookError(
                f"{where}: rows of {key.table} refer to it ({key.name}, ON DELETE {key.on_delete}), so a delete would "
                "fail or change them; clean that table up first by a rule of its own, and give the key ON DELETE "
                "CASCADE if they belong together."
            )


def refuse_cascade(
    rule: Rule, child: Table | None, key: ForeignKey, need: Need, *, kept: Sequence[str], held: Sequence[str]
) -> None:
    """Refuse to take rows of another table along that has to be kept, or whose rows cannot be counted.

    :param child: the table that refers, as the catalog has it; None where it was dropped meanwhile
    :param need: what is read of it
    :raises RunbookError: one sentence with the fix
    """
    where = f"rules: {rule.table}: its rows take those of {key.table} along ({key.name}, ON DELETE CASCADE)"
    if child is None or child.row_security or need.lacking(child):
        raise RunbookError(f"{where}, and this role cannot count these; {_RUN_DB_ROLES}.")
    never = {parse_qualified(each, option="kept") for each in [*kept, *held]}
    why = "is under a legal hold or kept by the inventory" if child.name in never else never_cleaned(child.name)
    if why:
        raise RunbookError(f"{where}, and {child.name} {why}; take the rule out, or change the key.")
    if child.referencing_keys or child.triggers or child.rules:
        told = names_of([*(each.table for each in child.referencing_keys), *child.triggers, *child.rules])
        raise RunbookError(
            f"{where}, and these would take others along or fire triggers or rules ({told}); clean {key.table} up by a "
            "rule of its own first, and drop the cascade."
        )


def without_index(rule: Rule, child: Table | None, need: Need) -> list[str]:
    """A sentence where the server reads a whole table for each row that takes rows of it along; none where it does not.

    :param child: the table that refers, as the catalog has it
    :param need: the columns of its foreign key
    """
    columns = need.columns
    if child is None or any(set(index.columns[: len(columns)]) == set(columns) for index in child.indexes):
        return []
    named = ", ".join(columns)
    said = f"{child.name} has no index on {named}, so each row of {rule.table} that goes reads all of it"
    return [f"{said}; CREATE INDEX CONCURRENTLY ON {child.name} ({named})."]


def refuse_many(rule: Rule, rows: int, along: Mapping[str, int]) -> None:
    """Refuse a plan that is larger than its cap.

    :param along: rows that foreign keys take along, by table
    :raises RunbookError: it is
    """
    total = rows + sum(along.values())
    if total > rule.max_rows:
        taken = (
            f", {count(sum(along.values()), 'row')} of {names_of(sorted(along))} included"
            if any(along.values())
            else ""
        )
        raise RunbookError(
            f"rules: {rule.table}: {count(total, 'row')} would be deleted{taken}, and max_rows admits "
            f"{rule.max_rows:,}; nothing was deleted anywhere. Look at the rows, then raise max_rows of this rule."
        )
