"""Which findings can be fixed by one statement that nobody has to stop for, and why the others cannot.

Only what PostgreSQL does ``CONCURRENTLY`` on one index is applied by a run: it waits within bounds, holds nobody up,
and what a failure leaves behind is an invalid index, which can be dropped. All else is for a person, or for another
playbook.

>>> of_statements(['DROP INDEX CONCURRENTLY "public"."messages_old_idx"'])
'drop'
>>> of_statements(['ALTER TABLE "public"."messages" DROP CONSTRAINT "messages_old_key"']) is None
True
>>> created_name('CREATE INDEX CONCURRENTLY "say ""hi""_idx" ON "public"."t" ("a")')
'say "hi"_idx'
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import finding_id
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.reindex import Index, Priority, Work
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.findings import Finding, Unknown
    from ansible.module_utils.runbook.rules.postgres.indexes import Table

Fix = Literal["create", "drop", "rebuild"]

_STATEMENTS: Mapping[str, Fix] = {
    "CREATE INDEX CONCURRENTLY ": "create",
    "DROP INDEX CONCURRENTLY ": "drop",
    "REINDEX INDEX CONCURRENTLY ": "rebuild",
}
_CREATED = re.compile(r'CREATE INDEX CONCURRENTLY "((?:[^"]|"")+)" ON ')
#: Kinds that may have such a statement.
KINDS = (
    "bloated_index", "duplicate_index", "invalid_index", "missing_foreign_key_index", "redundant_index", "unused_index",
)  # fmt: skip
#: Of these, kinds whose index is dropped.
_DROPPED = ("duplicate_index", "redundant_index", "unused_index")
#: What to do about a kind that never has one.
_INSTEAD: Mapping[str, str] = {
    "bloated_table": "playbooks/monthly_db.yml compacts tables",
    "wraparound": "playbooks/weekly_db.yml freezes what is old",
    "supabase": "Supabase's page, which the report names, has the fix",
}
_OTHERWISE = "its fix is for a person to choose; the report says what it costs"
#: Expected bytes of an entry of a new index: its key, often a UUID, its header and its item pointer, at 90 % fill.
ENTRY_BYTES = 40
#: An id must be so much like another for that one to be named.
_ALIKE = 0.85
_DIGITS = "0123456789"


def of_statements(ddl: Sequence[str]) -> Fix | None:
    """What the statements of a finding do, if a run may apply them; else None."""
    if len(ddl) != 1:
        return None
    return next((fix for start, fix in _STATEMENTS.items() if ddl[0].startswith(start)), None)


def created_name(statement: str) -> str:
    """Name of the index that a statement creates, without its quotes.

    :raises RunbookError: it creates none
    """
    match = _CREATED.match(statement)
    if match is None:
        raise RunbookError(f"{statement!r} creates no index.")
    return match[1].replace('""', '"')


def require_kind(finding: str) -> str:
    """Kind of a finding that may be applied, by its id.

    :raises RunbookError: it is no id, or of a kind that is never applied
    """
    kind, _, rest = finding.partition(":")
    if not kind or not rest:
        raise RunbookError(
            f"finding: {finding!r} is no id of a finding; copy one from the report, as in "
            "unused_index:public.messages.messages_old_idx."
        )
    if kind not in KINDS:
        raise RunbookError(
            f"finding: {finding!r} is of a kind that no run applies: {_INSTEAD.get(kind, _OTHERWISE)}. Applied are "
            f"{', '.join(KINDS)}."
        )
    return kind


def doubts(finding: str, unknown: Iterable[Unknown], names: Iterable[Sequence[str]]) -> list[Unknown]:
    """Why a finding may stand though it was not found.

    :param unknown: everything about indexes that could not be judged
    :param names: schema, table and name of every index; what is no more is in no doubt
    """
    kind = finding.partition(":")[0]
    there = any(finding_id(kind, *name) == finding for name in names)
    return [one for one in unknown if one.kind == "locked_tables" or (one.kind == kind and there)]


def work(
    finding: str,
    found: Iterable[Finding],
    unknown: Sequence[Unknown],
    *,
    indexes: Iterable[Index],
    tables: Iterable[Table],
) -> tuple[Finding, Work] | None:
    """The finding as it stands now, and what is to be done about it; None if it does not stand any more.

    A drop that was stopped half-way has made its index invalid. Then it is that which stands, and the drop is finished.
    An index that was to be created and came to no end is invalid too, and is built to its end.

    :param found: everything that stands now
    :param unknown: why it may stand though it is not among them
    :param indexes: all indexes, as :mod:`reindex` knows them
    :raises RunbookError: its statements lock people out, or nobody can tell whether it stands
    """
    by_id = {one.id: one for one in found}
    kind, _, rest = finding.partition(":")
    stands = by_id.get(finding)
    fix = of_statements(stands.ddl) if stands is not None else None
    if stands is None and kind in _DROPPED and f"invalid_index:{rest}" in by_id:
        stands, fix = by_id[f"invalid_index:{rest}"], "drop"
    if stands is None and unknown:
        raise RunbookError(
            f"finding: nobody can tell now whether {finding!r} stands, so it is not applied: {unknown[0].msg}",
            status=Status.UNKNOWN,
        )
    if stands is None:
        return None
    if fix is None:
        raise RunbookError(
            f"finding: {finding!r} stands, but its statements lock people out, so no run applies them; they are in the "
            f"report, for a person to run. {stands.risk}",
            finding=stands.result(),
        )
    by_name = {str(one.name): one for one in indexes}
    if fix == "create":
        half = _half_built(stands, by_id.values())
        if half is not None and half.object in by_name:
            return stands, Work(by_name[half.object], "rebuild", half.msg, Priority.INVALID)
        table = next(one for one in tables if str(one.name) == stands.object)
        return stands, Work(_new_index(stands.ddl[0], table), "create", stands.msg, Priority.REST, stands.ddl[0])
    if stands.object not in by_name:
        return None
    priority = Priority.BLOAT if kind == "bloated_index" else Priority.INVALID
    return stands, Work(by_name[stands.object], fix, stands.msg, priority)


def _half_built(wanted: Finding, found: Iterable[Finding]) -> Finding | None:
    """What an earlier attempt left of the index that a finding wants: the same name, but for a number at its end."""
    name = created_name(wanted.ddl[0]).rstrip(_DIGITS)
    for one in found:
        own = one.object.rpartition(".")[2].rstrip(_DIGITS) == name
        if one.kind == "invalid_index" and one.evidence.get("table") == wanted.object and own:
            return one
    return None


def nearest(finding: str, found: Iterable[Finding]) -> str | None:
    """The id nearest to one that does not stand: it may have been meant."""
    near = difflib.get_close_matches(finding, [one.id for one in found if one.kind in KINDS], n=1, cutoff=_ALIKE)
    return near[0] if near else None


def _new_index(statement: str, table: Table) -> Index:
    """What an index that is to be made is expected to be."""
    return Index(
        oid=0,
        name=QualifiedName(table.name.schema, created_name(statement)),
        table_oid=table.oid,
        table=table.name,
        access_method="btree",
        size_bytes=table.live_rows * ENTRY_BYTES,
        table_bytes=table.size_bytes or 0,
        is_valid=True,
        is_unique=False,
        is_exclusion=False,
        is_catalog=False,
        is_leftover=False,
        outdated_collations=(),
        permitted=True,
        bloat=None,
    )


def message(result: Mapping[str, Any]) -> str:
    """One sentence on what became of it.

    :param result: with ``id``, ``state``, ``nearest``, ``error``, ``statement``, ``duration_s``
    """
    finding = result["id"]
    if result["state"] == "not_standing":
        near = f" The nearest that stands is {result['nearest']}." if result["nearest"] else ""
        return (
            f"Not applied: {finding} does not stand (any more). It was fixed meanwhile, or the id is mistyped; review "
            f"again (playbooks/performance.yml), and take an id from that report.{near}"
        )
    if result["state"] == "planned":
        return f"Would apply {finding}: {result['statement']}."
    if result["state"] == "done":
        return f"Applied {finding} in {result['duration_s']:.1f} s: {result['statement']}."
    said = {
        "locked": "stayed locked",
        "no_space": "was not started for lack of disk",
        "not_concurrent": "cannot be done without an outage",
        "not_permitted": "is not permitted to this user; connect as the table's owner",
        "not_reached": "was not done before the deadline",
        "gone": "was not applied, because its table or index was dropped or replaced meanwhile",
        "corrupt": "was not applied: the index is CORRUPT, and is left as evidence",
    }.get(result["state"], "failed")
    error = f" ({result['error']})" if result["error"] else ""
    return f"{finding} {said}{error}; run it again when the cause is gone."
