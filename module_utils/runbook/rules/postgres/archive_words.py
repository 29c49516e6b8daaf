"""What pg_archive says: its plan, what it moved, what remains and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.postgres.archive_tables import names_of, publishing_deletes
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, count, to_second

if TYPE_CHECKING:
    from datetime import datetime

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.archive_batches import Tally
    from ansible.module_utils.runbook.rules.postgres.archive_plan import Plan
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Table


def describe(plan: Plan, source: Table, archive: QualifiedName) -> str:
    """The plan as lines of text, for a diff."""
    lines = [f"archive rows of {source.name} older than {in_utc(plan.cutoff)} to {archive}"]
    if plan.strategy == "nothing":
        lines.append("nothing to move")
    else:
        if plan.make_archive:
            lines.append(f"create table {archive}")
        if plan.make_key:
            lines.append(f"create a unique index on {archive} ({names_of(source.key)})")
        lines.append(
            f"move {count(plan.rows, 'row')}, from {to_second(str(plan.oldest))} to {to_second(str(plan.newest))}"
        )
        way = {
            "index": "in batches, in the order of time",
            "blocks": "in batches, block by block",
            "": "as whole partitions:",
        }
        lines.append(way[plan.walk])
        if plan.walk and publishing_deletes(source):
            lines.append(f"subscribers of {names_of(publishing_deletes(source))} delete the same rows")
        for partition in plan.partitions:
            left = f", without its {partition.local_objects}" if str(partition.local_objects or "") else ""
            lines.append(f"  {partition.name}: {count(partition.rows, 'row')}{left}")
    if plan.staying_rows:
        lines.append(f"{_staying(plan)}, because their partition is not old as a whole")
    return as_lines(lines)


def promise(plan: Plan, source: Table, archive: QualifiedName) -> str:
    """What check mode says; also what a run says that has nothing to do."""
    stay = f"; {_staying(plan)} until their whole partition is old" if plan.staying_rows else ""
    if plan.strategy == "nothing":
        return f"Nothing in {source.name} to move to {archive} is older than {in_utc(plan.cutoff)}{stay}."
    way = f"as {count(len(plan.partitions), 'whole partition')}" if plan.partitions else "in batches"
    older = f"{count(plan.rows, 'row')} older than {in_utc(plan.cutoff)}"
    return f"Would move {older} from {source.name} to {archive}, {way}{stay}."


def sentence(tally: Tally, plan: Plan, source: Table, archive: QualifiedName, seconds: float) -> str:
    """What was moved, and what remains.

    :param seconds: since the start
    """
    older = f"{count(tally.moved, 'row')} older than {in_utc(plan.cutoff)}"
    rate = f"{tally.moved / seconds:,.0f} rows/s" if seconds > 0 else "at once"
    said = f"Moved {older} from {source.name} to {archive} in {seconds:.1f} s ({rate})"
    if tally.partitions:
        said += f", as {count(len(tally.partitions), 'whole partition')}"
    if tally.already:
        said += f"; {tally.already:,} more {agree(tally.already, 'was', 'were')} in the archive already"
    if tally.batches and not tally.partitions and publishing_deletes(source):
        said += f"; subscribers of {names_of(publishing_deletes(source))} were told to delete them too"
    left = "how many remain could not be counted" if tally.remaining is None else f"{tally.remaining:,} remain"
    if tally.remaining and tally.remaining == plan.staying_rows:
        left += " until their whole partition is old"
    return f"{said}; {left}."


def reason_for_remaining(tally: Tally, plan: Plan, source: Table) -> str | None:
    """Why old rows remain that should not, and what to do about it; None where all is done."""
    left = (tally.remaining or 0) - plan.staying_rows
    if left <= 0:
        return None
    reasons = []
    if tally.conflicts:
        reasons.append(
            f"of {tally.conflicts:,} the archive holds the key with other content (compare both tables by "
            f"{names_of(source.key)}, and correct or delete one side)"
        )
    if left > tally.conflicts:
        reasons.append(
            f"{left - tally.conflicts:,} were locked by others, kept by a trigger, or came in late (run again)"
        )
    return f"{count(left, 'row stays', 'rows stay')} in {source.name}: {'; '.join(reasons)}."


def _staying(plan: Plan) -> str:
    return count(plan.staying_rows, "old row stays", "old rows stay")


@dataclass(frozen=True)
class Difference:
    """How the archive's rows differed from those that a batch deleted from the source."""

    rows: int
    #: Rows that the archive did not take in; negative where it took in more.
    missing: int
    #: Columns of which the archive held something else.
    columns: tuple[str, ...] = ()


def difference(source: Table, archive: Table, found: Difference) -> str:
    """Why a batch was rolled back, and the fix. It names columns and triggers, never the content of a row."""
    if found.missing:
        took = "fewer" if found.missing > 0 else "more"
        what = f"took in {took} rows than left {source.name}"
    elif found.columns:
        what = f"held something else in {names_of(found.columns)} than {source.name} did"
    else:
        what = f"did not hold the rows of {source.name}"
    if archive.triggers:
        named = names_of(archive.triggers)
        fix = f"Look at its triggers ({named}), and drop or disable the one that does it."
    elif any(archive.named(name).generated for name in found.columns):
        fix = "It generates that column again; ALTER COLUMN … DROP EXPRESSION keeps what was there."
    else:
        fix = "Look for a trigger or a rule that was made just now, and run again."
    return f"archive: {archive.name} {what}, so the batch of {count(found.rows, 'row')} was rolled back. {fix}"


def in_utc(moment: datetime) -> str:
    """A moment in UTC, as a sentence shows it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
