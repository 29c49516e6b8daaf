"""Whether a database is whole: what its sequences, foreign keys, indexes and an application's own questions say.

Each check ends as one of three: it holds (``ok``), it does not (``breach``), or it could not be known (``unknown``):
a statement that took too long, a right or an extension that is missing. What is unknown is never counted as ok.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

Status = Literal["ok", "breach", "unknown"]
Kind = Literal["sequences", "foreign_keys", "indexes", "amcheck", "smoke"]

#: Objects that one sentence names.
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """What was found out about one object; ``text`` holds no row content."""

    kind: Kind
    object: str
    status: Status
    text: str = ""


@dataclass(frozen=True)
class Check:
    """All findings of one kind, put together."""

    name: Kind
    status: Status
    msg: str
    objects: int


@dataclass(frozen=True)
class SequenceUse:
    """A sequence, and the column that takes its values from it."""

    sequence: QualifiedName
    table: QualifiedName
    column: str
    increment: int
    last_value: int
    is_called: bool
    cycles: bool
    #: Largest value in the column, or the smallest where the sequence counts down; None for an empty table.
    extreme: int | None

    @property
    def next_value(self) -> int:
        """The value that ``nextval`` gives next."""
        return self.last_value + self.increment if self.is_called else self.last_value


def judge_sequence(use: SequenceUse) -> Finding:
    """A sequence must be ahead of its column, or the next insert fails (or, without a key, doubles a number).

    A sequence that cycles promises nothing.

    >>> from ansible.module_utils.runbook.rules.identifiers import QualifiedName as Q
    >>> use = SequenceUse(Q("public", "s"), Q("public", "t"), "id", 1, 7, True, False, 8)
    >>> judge_sequence(use).text
    'gives 8 next, and public.t.id already holds 8'
    """
    behind = use.extreme is not None and (
        use.extreme >= use.next_value if use.increment > 0 else use.extreme <= use.next_value
    )
    if behind and not use.cycles:
        text = f"gives {use.next_value} next, and {use.table}.{use.column} already holds {use.extreme}"
        return Finding("sequences", str(use.sequence), "breach", text)
    return Finding("sequences", str(use.sequence), "ok")


_WORDS: dict[Kind, tuple[str, str]] = {
    "sequences": ("sequence", "All are ahead of their columns."),
    "foreign_keys": ("foreign key", "Every row finds the one it points at."),
    "indexes": ("index", "All are valid."),
    "amcheck": ("relation", "All were gone through without an error."),
    "smoke": ("smoke query", "All gave what was expected."),
}


def _counted(number: int, noun: str) -> str:
    """``1 index``, ``2 indexes``."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("x"):
        return f"{number:,} {noun}es"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{number:,} {noun}s"


def conclude(kind: Kind, findings: Iterable[Finding]) -> Check:
    """One sentence for all findings of a kind; a breach outweighs what is unknown."""
    mine = [finding for finding in findings if finding.kind == kind]
    noun, fine = _WORDS[kind]
    for status in ("breach", "unknown"):
        bad = [finding for finding in mine if finding.status == status]
        if bad:
            named = "; ".join(f"{each.object} {each.text}".strip() for each in bad[:NAMED])
            more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
            what = "not in order" if status == "breach" else "not known"
            return Check(kind, status, f"{len(bad)} of {_counted(len(mine), noun)} {what}: {named}{more}.", len(mine))
    return Check(kind, "ok", f"{_counted(len(mine), noun)}. {fine}" if mine else f"No {noun} to check.", len(mine))


def overall(checks: Sequence[Check]) -> Status:
    """The worst of all; nothing checked is unknown."""
    for status in ("breach", "unknown"):
        if any(check.status == status for check in checks):
            return status
    return "ok" if checks else "unknown"


def as_result(check: Check) -> dict[str, Any]:
    """As a module returns it."""
    return asdict(check)
