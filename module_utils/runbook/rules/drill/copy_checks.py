"""What is asked of a restored copy: contents, schema, commits, clock and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

#: Clocks that are further apart, in seconds, are said to be so.
CLOCK_STEP_S = 1.0


def judge_contents(wanted: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[Any]]) -> Check:
    """Compare tables that nobody wrote to: rows and hash of each, before and after.

    :param wanted: by table, its rows and its digest
    :param found: the same of the copy; a table that could not be read has the sentence why in place of its digest and
        no rows
    """
    wrong = []
    for table, (rows, digest) in sorted(wanted.items()):
        if table not in found:
            wrong.append(f"{table} is not there")
            continue
        there, other = found[table]
        if there is None:
            wrong.append(f"{table} cannot be read ({other})")
        elif there != rows:
            wrong.append(f"{table} has {count(there, 'row')} instead of {rows:,}")
        elif other != digest:
            wrong.append(f"{table} has other contents")
    if not wanted:
        return Check.unknown("contents", "Nothing is known that the copy could be compared with.")
    if wrong:
        return Check.breach(
            "contents",
            f"{len(wrong)} of {count(len(wanted), 'table')} {agree(len(wrong), 'differs', 'differ')}: "
            f"{'; '.join(wrong[:5])}.",
        )
    rows = sum(int(each[0]) for each in wanted.values())
    return Check.ok("contents", f"All tables ({len(wanted):,}) are as they were, {count(rows, 'row')}.")


def judge_schema(wanted: Collection[str], found: Collection[str]) -> Check:
    """Compare the columns that the application expects with those of the copy.

    :param wanted: as ``schema.table.column type``
    """
    missing = sorted(set(wanted) - set(found))
    if missing:
        return Check.breach(
            "schema",
            f"The copy has an older schema than the application expects: {', '.join(missing[:5])} missing"
            f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}.",
        )
    return Check.ok("schema", f"Every column that the application expects is there ({len(wanted):,}).")


def judge_altered(altered: int, surviving: int) -> Check:
    """Whether commits that survived hold what was written."""
    commits = count(surviving, "surviving commit")
    if altered:
        return Check.breach("ledger", f"{altered:,} of {commits} {agree(altered, 'is', 'are')} not what was sent.")
    return Check("ledger", Status.OK if surviving else Status.UNKNOWN, f"{commits}, each as it was sent.")


def judge_clock(skew_s: float) -> Check:
    """How far the copy's clock is from the one by which the drill measures; it changes no figure."""
    if abs(skew_s) < CLOCK_STEP_S:
        return Check.ok("clock", "The restored server's clock agrees with that of the drill.")
    side = "ahead of" if skew_s > 0 else "behind"
    return Check.ok(
        "clock",
        f"The restored server's clock is {abs(skew_s):,.0f} s {side} the drill's. RTO and RPO are taken from the "
        "drill's clock alone; set the server's right.",
    )


@dataclass(frozen=True)
class Files:
    """What a comparison of ``storage.objects`` with the second copy of the files found, of all buckets together."""

    rows: int = 0
    missing_rows: int = 0
    orphan_objects: int = 0
    differing_rows: int = 0
    #: Rows that were not compared, by bucket: the inventory names no copy for them.
    unasked_rows: Mapping[str, int] = field(default_factory=dict)
    #: Some of what differs: ``kind`` (missing, orphan, differing) and ``name``.
    named: Sequence[Mapping[str, str]] = ()


def files_not_asked(bucket: str, buckets: Collection[str], columns: Collection[str] | None) -> str:
    """Why files are no part of a drill; empty where they are.

    :param bucket: the bucket with the second copy of the files
    :param buckets: the buckets of which it holds copies
    :param columns: those of the live database, as ``schema.table.column type``; None if they are not known
    """
    if not bucket or not buckets:
        return "No file storage is named in the inventory, so files were not part of this drill."
    if columns is not None and not any(each.startswith("storage.objects.") for each in columns):
        return "The database has no storage.objects to compare files with, so files were not part of this drill."
    return ""


def judge_files(found: Files) -> Check:
    """Whether each row of the restored ``storage.objects`` has its file in the second copy.

    As in a mirror's run, files without a row are named and are no fault: after a recovery to an earlier moment they are
    those that came later.
    """

    def some(kind: str) -> str:
        names = [each["name"] for each in found.named if each["kind"] == kind][:3]
        return f" ({', '.join(names)})" if names else ""

    wrong = []
    if found.missing_rows:
        wrong.append(
            f"{found.missing_rows:,} of {count(found.rows, 'row')} of storage.objects "
            f"{agree(found.missing_rows, 'has', 'have')} no file in the second copy"
            f"{some('missing')}."
        )
    if found.differing_rows:
        wrong.append(
            f"{count(found.differing_rows, 'row')} of storage.objects tell another size or ETag than their file"
            f"{some('differing')}."
        )
    unasked = [
        f"{count(rows, 'row')} of bucket {name} were not compared: the inventory names no copy of its files."
        for name, rows in sorted(found.unasked_rows.items())
    ]
    later = (
        f" {count(found.orphan_objects, 'file has', 'files have')} no row{some('orphan')}."
        if found.orphan_objects
        else ""
    )
    if wrong or unasked:
        return Check("files", Status.BREACH if wrong else Status.UNKNOWN, " ".join([*wrong, *unasked]) + later)
    return Check.ok("files", f"Every row of storage.objects has its file in the second copy ({found.rows:,}).{later}")
