"""What is known not to be in a logical backup, and how a proof says so.

``pg_dump`` leaves things out in silence, or with a warning that nobody reads. A proof compares what the backup holds,
so what it does not hold has to be said beside it: "without …".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = Literal[
    "chosen", "subscription", "mapping", "foreign", "extension", "unread", "configuration", "system", "prepared",
    "globals",
]  # fmt: skip

#: Names in a sentence.
_NAMED = 5
#: Rows that are counted at most.
MOST_ROWS = 100_000

#: One and several of each kind, with ``{}`` for the names.
_SAID: dict[Kind, tuple[str, str]] = {
    "chosen": ("the rows of {}, which it was told to leave out",) * 2,
    "subscription": (
        "the subscription {}, which pg_dump takes for a superuser only",
        "the subscriptions {}, which pg_dump takes for a superuser only",
    ),
    "mapping": (
        "the options (a password among them) of the user mapping {}, which a superuser or its user alone may see",
        "the options (passwords among them) of the user mappings {}, which a superuser or their users alone may see",
    ),
    "foreign": (
        "the rows of the foreign table {}, which lie on another server",
        "the rows of the foreign tables {}, which lie on other servers",
    ),
    "extension": (
        "rows of {}, a table of an extension that does not mark them as configuration",
        "rows of {}, tables of extensions that do not mark them as configuration",
    ),
    "unread": (
        "perhaps rows of {}, a table of an extension that this user may not read",
        "perhaps rows of {}, tables of extensions that this user may not read",
    ),
    "configuration": (
        "a comparison of {}, which is in the backup as the configuration of an extension, and which that may alter",
        "a comparison of {}, which are in the backup as the configuration of extensions, and which those may alter",
    ),
    "system": (
        "the table {}, which lies in a schema of the system",
        "the tables {}, which lie in a schema of the system",
    ),
    "prepared": ("prepared transactions, which are not committed ({})",) * 2,
    "globals": ("{}, which this user may not read",) * 2,
}  # fmt: skip


@dataclass(frozen=True)
class Gap:
    """One thing that is not in the backup."""

    kind: Kind
    name: str
    #: Rows that are left out; None where they were not counted.
    rows: int | None = None

    def __str__(self) -> str:
        """Its name, with the rows where they are known."""
        if self.rows is None:
            return self.name
        more = "more than " if self.rows > MOST_ROWS else ""
        return f"{self.name} ({more}{count(min(self.rows, MOST_ROWS), 'row')})"


def sentences(gaps: Iterable[Gap]) -> tuple[str, ...]:
    """What the backup is without, one phrase a kind.

    >>> sentences([Gap("foreign", "public.a"), Gap("foreign", "public.b")])
    ('the rows of the foreign tables public.a, public.b, which lie on other servers',)
    """
    by_kind: dict[Kind, list[Gap]] = {}
    for gap in gaps:
        by_kind.setdefault(gap.kind, []).append(gap)
    return tuple(
        _SAID[kind][len(by_kind[kind]) > 1].format(_names([str(each) for each in by_kind[kind]]))
        for kind in _SAID
        if kind in by_kind
    )


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def without(missing: Sequence[str]) -> str:
    """A sentence to put behind another; empty where nothing is known to be missing.

    >>> without(["the subscription s"])
    ' Without the subscription s.'
    """
    return f" Without {'; without '.join(missing)}." if missing else ""
