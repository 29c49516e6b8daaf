"""Which bloat is worth a finding: enough of the relation, and enough bytes to win.

TOAST is told apart from its table, because VACUUM FULL of the table rewrites both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.findings import Finding, finding_id
from ansible.module_utils.runbook.rules.postgres.bloat import ERROR_PERCENT, Bloat
from ansible.module_utils.runbook.rules.words import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What a finding of either kind is called; the second is fixed while everybody works.
TABLE, INDEX = "bloated_table", "bloated_index"
_NO_LOCK = "Everybody goes on meanwhile; needs the disk for a second copy, and waits for older transactions to end."
_LOCK = (
    "Locks everybody out of the table until it is rewritten, and needs the disk for a second copy; "
    "playbooks/monthly_db.yml does it without that lock where pg_repack is installed."
)


def findings(
    bloats: Iterable[Bloat], *, min_bloat_percent: float, min_bloat_bytes: int, ddl: Callable[[Bloat], str]
) -> list[Finding]:
    """A finding for each relation of which so much is bloat; none for what is unknown, or belongs to the server.

    :param ddl: the statement that fixes it, its names quoted
    """
    return [
        _finding(bloat, ddl(bloat))
        for bloat in bloats
        if bloat.bloat_percent is not None
        and bloat.bloat_percent >= min_bloat_percent
        and (bloat.bloat_bytes or 0) >= min_bloat_bytes
        and not bloat.relation.is_catalog
    ]


def identify(bloat: Bloat) -> str:
    """Id of the finding that the bloat of a relation would be."""
    relation = bloat.relation
    if relation.kind == "t":
        return finding_id(TABLE, *relation.table, "toast")
    return finding_id(INDEX if relation.is_index else TABLE, *relation.name)


def _finding(bloat: Bloat, ddl: str) -> Finding:
    relation = bloat.relation
    name = relation.table if relation.kind == "t" else relation.name
    shown = f"{name}, TOAST" if relation.kind == "t" else str(name)
    least = "at least " if bloat.method == "at_least" else ""
    return Finding(
        id=identify(bloat),
        kind=INDEX if relation.is_index else TABLE,
        severity="warning",
        object=shown,
        evidence={
            "table": str(relation.table),
            "size_bytes": bloat.size_bytes,
            "bloat_bytes": bloat.bloat_bytes,
            "bloat_percent": bloat.bloat_percent,
            "method": bloat.method,
            "error_percent": ERROR_PERCENT[bloat.method],
        },
        msg=(
            f"{bloat.bloat_percent} % of the {size(bloat.size_bytes)} of {shown} is bloat ({least}"
            f"{size(bloat.bloat_bytes)}, {bloat.method.replace('_', ' ')})."
        ),
        ddl=(ddl,),
        risk=_NO_LOCK if relation.is_index else _LOCK,
    )
