"""What pg_archive refuses, before anything is moved: each refusal names what was found, and the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres.archive_tables import STAMP, TIME_TYPES, names_of, with_subscribers
from ansible.module_utils.runbook.rules.supabase import managed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.archive_plan import Plan
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Column, Partition, Publication, Schema, Table


def refuse(
    source: Table,
    archive: Table | None,
    schema: Schema,
    archive_name: QualifiedName,
    column: str,
) -> None:
    """Refuse what must not be moved, before anything is.

    :raises RunbookError: one sentence that names what was found, and the fix
    """
    found = _refuse_managed(source, schema, archive_name) or _refuse_source(source, column)
    if found is None and archive is None:
        found = _refuse_making(source, schema, archive_name)
    elif found is None and archive is not None:
        found = _refuse_archive(source, archive) or _refuse_drift(source, archive)
    if found is not None:
        raise RunbookError(found)


def refuse_taking(source: Table, schema: Schema, column: str) -> None:
    """Refuse a table whose old rows are taken out to somewhere that is no table.

    :raises RunbookError: one sentence that names what was found, and the fix
    """
    found = _refuse_managed(source, schema, source.name) or _refuse_source(source, column)
    if found is not None:
        raise RunbookError(found)


def refuse_triggers(source: Table, archive: Table | None, allowed: Sequence[str] = ()) -> None:
    """Refuse triggers whose work is not seen by comparing rows: they may do anything to anything.

    They fire where rows are moved one by one; a partition that is moved whole fires none.

    :param allowed: names of triggers that somebody has looked at, and that may fire
    :raises RunbookError: others would fire
    """
    unseen = [each for each in source.triggers if each.name not in allowed]
    if unseen:
        raise RunbookError(
            f"source: taking rows out of {source.name} fires triggers ({names_of(unseen)}), and what they do elsewhere "
            "is not seen here; look at them, then name them in allow_triggers or disable them."
        )
    after = [each for each in archive.triggers if not each.before_row] if archive else []
    unseen = [each for each in after if each.name not in allowed]
    if archive and unseen:
        raise RunbookError(
            f"archive: rows put into {archive.name} fire triggers ({names_of(unseen)}) once they are stored, and what "
            "they do then is not seen here; look at them, then name them in allow_triggers or disable them."
        )


def refuse_missing_on_subscribers(plan: Plan, schema: Schema, archive: QualifiedName) -> None:
    """Refuse to make an archive and fill it in one go where subscribers would be told of its rows.

    :raises RunbookError: they cannot have the table yet, and would stop; the server then keeps all WAL for them
    """
    telling = with_subscribers(schema.publications)
    if telling and plan.make_archive and plan.walk:
        raise RunbookError(
            f"archive: {telling} would publish {archive}, which is not there yet, and a subscriber stops at the first "
            "row of a table that it lacks; make it with playbooks/db_roles.yml, make it on each subscriber, and run "
            "again."
        )


def refuse_local_objects(partitions: Iterable[Partition]) -> None:
    """Refuse partitions that have something which they cannot leave behind.

    :raises RunbookError: one sentence that names the partition and the fix
    """
    for name, own in ((each.name, each.local_objects) for each in partitions):
        if own and own.undroppable_publications:
            raise RunbookError(
                f"source: partition {name} is published by itself ({names_of(own.undroppable_publications)}), would "
                "stay so in the archive, and this role may not end it; ALTER PUBLICATION … DROP TABLE it first."
            )
        given = [str(right) for right in own.rights if right.by] if own else []
        if given:
            raise RunbookError(
                f"source: on partition {name} {names_of(given)}, which the archive does not give, and its owner may "
                "not revoke what others granted; have them REVOKE it first."
            )
        if own and own.unlogged:
            raise RunbookError(
                f"source: partition {name} is unlogged, so a crash of the server would empty it in the archive too; "
                "ALTER TABLE … SET LOGGED first."
            )


def _refuse_managed(source: Table, schema: Schema, archive: QualifiedName) -> str | None:
    if not managed.is_platform(schema.platform_roles):
        return None
    if source.owner in managed.PLATFORM_OWNERS or source.name.schema in managed.SCHEMAS:
        return (
            f"source: {source.name} is the platform's ({source.owner} owns it), which alters and empties its own "
            "tables; name a table of your own, and keep what you need of this one by a job that copies it there."
        )
    if archive.schema in managed.SCHEMAS:
        return (
            f"archive: the platform keeps schema {archive.schema!r} for itself; put the archive into a schema of your "
            f"own, as archive.{archive.name} after CREATE SCHEMA archive."
        )
    return None


def _refuse_source(source: Table, column: str) -> str | None:
    if source.kind not in "rp":
        kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
        return f"source: {source.name} is {kinds.get(source.kind, 'no table')}; name the table that holds the rows."
    if source.children:
        return (
            f"source: tables inherit from {source.name} ({names_of(source.children)}), and their rows would go along; "
            "archive each of them by itself, or make it a partitioned table."
        )
    if source.foreign_partitions:
        return (
            f"source: partitions of {source.name} are foreign tables ({names_of(source.foreign_partitions)}), "
            "which cannot be moved in one transaction; detach them first."
        )
    if source.rules:
        return f"source: {source.name} has rules ({names_of(source.rules)}) that rewrite what is done; drop them first."
    if source.row_security:
        return (
            f"source: row security hides rows of {source.name} from this role, so old rows would be left out unseen; "
            "run playbooks/db_roles.yml, which gives runbook_maintain a policy of its own there (one that restricts "
            "has to go first), or connect as a role with BYPASSRLS."
        )
    missing = sorted({"USAGE", "SELECT", "DELETE"} - source.rights)
    if missing:
        return _missing_right("source", source.name, missing)
    found = source.column(column)
    if found is None:
        return (
            f"timestamp_column: {source.name} has no column {column!r}; "
            f"it has {names_of([each.name for each in source.columns])}."
        )
    if found.base_type not in TIME_TYPES:
        return (
            f"timestamp_column: {column!r} of {source.name} is of type {found.type}; "
            "name a column of type timestamptz, timestamp or date."
        )
    return _refuse_source_ties(source)


def _refuse_source_ties(source: Table) -> str | None:
    if source.referencing_keys:
        keys = names_of([f"{key.name} of {key.table} {key.actions}" for key in source.referencing_keys])
        return (
            f"source: foreign keys point at {source.name} or its tree ({keys}), so rows that are taken out of it would "
            "be missed, or take others with them; archive the referring tables first and drop those keys."
        )
    if source.subscriptions:
        return (
            f"source: {source.name} or its tree is filled by a subscription ({names_of(source.subscriptions)}): its "
            "publisher keeps the rows, changes them without the archive, and sends them again when the subscription is "
            "refreshed; archive them at the publisher, or drop the subscription first."
        )
    return None


def _refuse_making(source: Table, schema: Schema, name: QualifiedName) -> str | None:
    if not schema.exists:
        return f"archive: there is no schema {name.schema!r} for {name}; create it, or name another."
    return _refuse_wider_publishing(name, source, schema.publications)


def _refuse_archive(source: Table, archive: Table) -> str | None:
    return (
        _refuse_place(source, archive)
        or _refuse_ties(archive)
        or _refuse_wider_publishing(archive.name, source, archive.publications)
        or _refuse_rights(source, archive)
    )


def _refuse_place(source: Table, archive: Table) -> str | None:
    if archive.name == source.name:
        return f"archive: {archive.name} is the source itself; name another table."
    if archive.kind not in "rp":
        return f"archive: {archive.name} is not a table; name a table, or a name that is still free."
    if archive.tree & source.tree:
        return (
            f"archive: {archive.name} and {source.name} stand in one tree of partitions or inheritance; "
            "name a table outside it."
        )
    if archive.persistence != "p" and source.persistence == "p":
        return (
            f"archive: {archive.name} is unlogged, so a crash of the server would empty it; "
            "ALTER TABLE … SET LOGGED first."
        )
    return None


def _refuse_ties(archive: Table) -> str | None:
    if archive.children:
        return (
            f"archive: tables inherit from {archive.name} ({names_of(archive.children)}), and rows in them would be "
            "taken for its own; name a table that nothing inherits from."
        )
    if archive.foreign_partitions:
        return (
            f"archive: partitions of {archive.name} are foreign tables ({names_of(archive.foreign_partitions)}), "
            "which cannot be written in one transaction with it; detach them first."
        )
    if archive.cascading_keys:
        keys = names_of([f"{key.name} to {key.table} {key.actions}" for key in archive.cascading_keys])
        return (
            f"archive: foreign keys of {archive.name} ({keys}) delete or change what is archived when the row that "
            "they point at is deleted or gets another key; drop them first."
        )
    if archive.subscriptions:
        return (
            f"archive: {archive.name} or its tree is filled by a subscription ({names_of(archive.subscriptions)}), so "
            "its publisher may change, delete or truncate what is archived; name a table that no subscription fills."
        )
    if archive.rules:
        return (
            f"archive: {archive.name} has rules ({names_of(archive.rules)}) that rewrite what is done; drop them first."
        )
    return None


def _refuse_rights(source: Table, archive: Table) -> str | None:
    if archive.row_security:
        return (
            f"archive: row security is active on {archive.name} for this role; run playbooks/db_roles.yml, which gives "
            "runbook_maintain a policy of its own there, or connect as a role with BYPASSRLS."
        )
    missing = sorted({"USAGE", "SELECT", "INSERT"} - archive.rights)
    if missing:
        return _missing_right("archive", archive.name, missing)
    if source.key and not archive.has_key_on(source.key) and not archive.owned:
        return (
            f"archive: {archive.name} has no unique index on {names_of(source.key)}, so rows that it already holds "
            f"could not be told, and this role may not make one; CREATE UNIQUE INDEX as its owner {archive.owner!r}."
        )
    return None


def _refuse_wider_publishing(archive: QualifiedName, source: Table, publications: Sequence[Publication]) -> str | None:
    of_source = {each.name for each in source.publications if each.inserts and not each.filtered}
    wider = [each.name for each in publications if each.inserts and each.name not in of_source]
    if not wider:
        return None
    return (
        f"archive: {names_of(wider)} would publish what is put into {archive}, and does not publish all of "
        f"{source.name}, so subscribers would get rows that they were never to have; leave the archive out of it."
    )


def _missing_right(option: str, name: QualifiedName, missing: Sequence[str]) -> str:
    if "USAGE" in missing:
        return f"{option}: this role lacks USAGE on the schema of {name}; grant it."
    return f"{option}: this role lacks {names_of(missing)} on {name}; grant it."


def _refuse_drift(source: Table, archive: Table) -> str | None:
    there = {column.name: column for column in archive.columns}
    here = {column.name: column for column in source.columns}
    drift: list[str] = []
    missing = [name for name in here if name not in there]
    if missing:
        drift.append(f"the archive lacks {names_of(missing)}")
    extra = [name for name in there if name not in here and name != STAMP]
    if extra:
        drift.append(f"only the archive has {names_of(extra)}")
    for name, column in here.items():
        other = there.get(name)
        if other is None:
            continue
        if (column.type, column.collation) != (other.type, other.collation):
            drift.append(f"{name} is {_typed(column, other)} in the source and {_typed(other, column)} in the archive")
        elif other.not_null and not column.not_null:
            drift.append(f"{name} may be null in the source and not in the archive")
        elif other.generated and other.generated != column.generated:
            drift.append(f"{name} is generated in the archive and not the same way in the source")
    stamp = there.get(STAMP)
    if stamp and STAMP not in here and stamp.base_type not in TIME_TYPES:
        drift.append(f"{STAMP} of the archive is {stamp.type} and not a timestamptz")
    if not drift:
        return None
    return (
        f"archive: the columns of {archive.name} differ from those of {source.name}: {'; '.join(drift)}; "
        "alter the archive so that it has the same columns."
    )


def _typed(column: Column, other: Column) -> str:
    if column.type == other.type and column.collation != other.collation:
        return f"{column.type} COLLATE {column.collation}"
    return column.type
