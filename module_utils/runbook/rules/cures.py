"""Which findings can be cured by one statement that nobody has to stop for, and why the others cannot.

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.findings import Finding

Cure = Literal["create", "drop", "rebuild"]

_STATEMENTS: Mapping[str, Cure] = {
    "CREATE INDEX CONCURRENTLY ": "create",
    "DROP INDEX CONCURRENTLY ": "drop",
    "REINDEX INDEX CONCURRENTLY ": "rebuild",
}
_CREATED = re.compile(r'CREATE INDEX CONCURRENTLY "((?:[^"]|"")+)" ON ')
#: Kinds that may have such a statement.
KINDS = (
    "bloated_index", "duplicate_index", "invalid_index", "missing_foreign_key_index", "redundant_index", "unused_index",
)  # fmt: skip
#: What to do about a kind that never has one.
_INSTEAD: Mapping[str, str] = {
    "bloated_table": "playbooks/monthly_db.yml compacts tables",
    "supabase": "Supabase's page, which the report names, has the cure",
}
_OTHERWISE = "its cure is for a person to choose; the report says what it costs"
#: Expected bytes of an entry of a new index: its key, often a UUID, its header and its item pointer, at 90 % fill.
ENTRY_BYTES = 40
#: Ids that differ by less than this share are taken for a slip of the pen.
_ALIKE = 0.85


def of_statements(ddl: Sequence[str]) -> Cure | None:
    """What the statements of a finding do, if a run may apply them; else None."""
    if len(ddl) != 1:
        return None
    return next((cure for start, cure in _STATEMENTS.items() if ddl[0].startswith(start)), None)


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


def standing(finding: str, found: Iterable[Finding]) -> Finding | None:
    """The finding of that id as it stands now; None if it does not stand any more.

    :raises RunbookError: there is none, but one whose id is nearly the same
    """
    by_id = {one.id: one for one in found}
    if finding in by_id:
        return by_id[finding]
    near = difflib.get_close_matches(finding, by_id, n=1, cutoff=_ALIKE)
    if near:
        raise RunbookError(f"finding: there is no {finding!r}; did you mean {near[0]!r}? Nothing was changed.")
    return None


def require_cure(finding: Finding) -> Cure:
    """How a finding is cured.

    :raises RunbookError: no run does that
    """
    cure = of_statements(finding.ddl)
    if cure is None:
        raise RunbookError(
            f"finding: {finding.id!r} stands, but its statements lock people out, so no run applies them; they are in "
            f"the report, for a person to run. {finding.risk}",
            finding=finding.result(),
        )
    return cure


def message(result: Mapping[str, Any], *, check_mode: bool) -> str:
    """One sentence on what became of it.

    :param result: with ``state``, ``error``, ``statement``, ``duration_s``, ``id``
    """
    finding = result["id"]
    if result["state"] == "not_standing":
        return f"Nothing to do: {finding} does not stand (any more)."
    if result["state"] == "planned":
        return f"Would apply {finding}: {result['statement']}." if check_mode else f"{finding} was not begun."
    if result["state"] == "done":
        return f"Applied {finding} in {result['duration_s']:.1f} s: {result['statement']}."
    said = {
        "locked": "stayed locked",
        "no_space": "was not begun for lack of disk",
        "not_concurrent": "cannot be done without an outage",
        "not_permitted": "is not permitted to this user; connect as the table's owner",
        "not_reached": "was not done before the deadline",
        "gone": "was not applied, because its table or index was dropped or replaced meanwhile",
        "corrupt": "was not applied: the index is CORRUPT, and is left as evidence",
    }.get(result["state"], "failed")
    error = f" ({result['error']})" if result["error"] else ""
    return f"{finding} {said}{error}; run it again when the cause is gone."
