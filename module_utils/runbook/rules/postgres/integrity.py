"""Whether a database is whole: what its sequences, foreign keys, indexes and an application's own questions say.

Each check ends as one of three: it holds (``ok``), it does not (``breach``), or it could not be known (``unknown``):
a statement that took too long, a right or an extension that is missing. What is unknown is never counted as ok.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

Kind = Literal["sequences", "foreign_keys", "indexes", "amcheck", "smoke"]

#: Objects that one sentence names.
NAMED = 5


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


def judge_sequence(use: SequenceUse) -> Check:
    """A sequence must be ahead of its column, or the next insert fails (or, without a key, doubles a number).

    A sequence that cycles promises nothing.

    >>> from ansible.module_utils.runbook.rules.identifiers import QualifiedName as Q
    >>> use = SequenceUse(Q("public", "s"), Q("public", "t"), "id", 1, 7, True, False, 8)
    >>> judge_sequence(use).msg
    'gives 8 next, and public.t.id already holds 8'
    """
    behind = use.extreme is not None and (
        use.extreme >= use.next_value if use.increment > 0 else use.extreme <= use.next_value
    )
    if behind and not use.cycles:
        text = f"gives {use.next_value} next, and {use.table}.{use.column} already holds {use.extreme}"
        return Check.breach("sequences", text, str(use.sequence))
    return Check.ok("sequences", subject=str(use.sequence))


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


def sum_up(kind: Kind, answers: Iterable[Check]) -> Check:
    """One check for all objects of a kind; a breach outweighs what is unknown."""
    mine = [each for each in answers if each.name == kind]
    noun, fine = _WORDS[kind]
    for status, what in ((Status.BREACH, "not in order"), (Status.UNKNOWN, "not known")):
        bad = [each for each in mine if each.status is status]
        if bad:
            named = "; ".join(f"{each.subject} {each.msg}".strip() for each in bad[:NAMED])
            more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
            return Check(kind, status, f"{len(bad)} of {_counted(len(mine), noun)} {what}: {named}{more}.")
    return Check.ok(kind, f"{_counted(len(mine), noun)}. {fine}" if mine else f"No {noun} to check.")
