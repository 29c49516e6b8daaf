"""Copies of a database that are still on its server: which of them go, and which a person is told of.

Every database that the project makes, or moves aside, bears its mark (``swap.Marker``). What a killed restore or proof
left unfinished is of no use to anybody, and goes. What was finished was made for a person, and only a person drops it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.rules.backup.restore import Making, failed_copies
from ansible.module_utils.runbook.rules.backup.swap import Marker
from ansible.module_utils.runbook.rules.words import agree, count, size, some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

#: What is younger is left to the restore that is run again.
UNFINISHED_AFTER = timedelta(hours=6)

#: What a person is told a copy is.
_WORDS = {
    "restoring": "is unfinished",
    "making": "is unfinished",
    "failed": "failed its proof and was kept to be looked at",
    "unproven": "was restored and never proven",
    "proven": "was restored and waits to be swapped in",
    "previous": "was the live one before a swap",
}


@dataclass(frozen=True)
class Copy:
    """A database that bears the project's mark, or the name of one that is being made."""

    name: str
    #: A state of its mark; ``making`` before it has one.
    state: str
    #: When it came into that state; None where that cannot be read.
    at: datetime | None
    owner: str
    #: The connected role may drop it.
    is_mine: bool
    #: None where the connected role may not know it.
    size_bytes: int | None
    #: Client sessions in it.
    sessions: int
    comment: str


@dataclass(frozen=True)
class Fate:
    """What becomes of a copy."""

    action: Literal["drop", "keep", "tell"]
    why: str


def read(rows: Iterable[dict[str, Any]], database: str) -> list[Copy]:
    """The copies of one database, and what nobody knows yet whose copy it is.

    :param rows: all databases, as :class:`Copy` has them, without ``state`` and ``at``
    :param database: the live one
    """
    found = []
    for row in rows:
        marker, making = Marker.read(row["comment"]), Making.read(row["name"])
        if marker is not None and marker.database == database and row["name"] != database:
            found.append(Copy(**row, state=marker.state, at=_moment(marker.at)))
        elif making is not None and not row["comment"]:
            day, _, time = making.at.partition("T")
            found.append(Copy(**row, state="making", at=_moment(f"{day}T{time.replace('-', ':')}")))
    return found


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else None


def fate(copy: Copy, *, abandoned: Collection[str], database: str, now: datetime, remind_after_days: int) -> Fate:
    """Whether a copy goes, stays, or is told of. Who works in one, a restore among them, has a session there.

    :param abandoned: those without a mark that no session is making any more
    :param database: the live one
    :param now: the server's clock
    """
    age = now - copy.at if copy.at else None
    if copy.sessions:
        return Fate("keep", f"{count(copy.sessions, 'session')} {agree(copy.sessions, 'is', 'are')} in it")
    if copy.state in ("restoring", "making"):
        if copy.state == "making" and copy.name not in abandoned:
            return Fate("keep", "a run is making it")
        over = age is not None and age > UNFINISHED_AFTER
        why = "a run left it unfinished"
    else:
        # As the restore that keeps another one would find it; one with a name of its own was asked for.
        over = bool(age is not None and failed_copies({copy.name: copy.comment}, database, now=now))
        why = "it failed its proof and was kept for a week"
    if over and copy.is_mine:
        return Fate("drop", why)
    told = age is None or over or age > timedelta(days=remind_after_days)
    return Fate("tell" if told else "keep", _WORDS[copy.state])


def sentence(copy: Copy, now: datetime) -> str:
    """What a person is told of a copy, with the statement that drops it."""
    age = f"{count((now - copy.at).days, 'day')} old" if copy.at else "of unknown age"
    large = f", {size(copy.size_bytes)}" if copy.size_bytes is not None else ""
    name = copy.name.replace('"', '""')
    return (
        f"Database {copy.name} {_WORDS[copy.state]}: {age}{large}, of {copy.owner}. Where nobody needs it, as "
        f'{copy.owner}: DROP DATABASE "{name}"'
    )


def as_results(copies: Sequence[Copy], fates: Sequence[Fate], now: datetime) -> list[dict[str, Any]]:
    """For the record."""
    return [
        {
            **{key: value for key, value in asdict(copy).items() if key not in ("comment", "at", "is_mine")},
            "age_days": (now - copy.at).days if copy.at else None,
            "action": fate.action,
            "why": fate.why,
        }
        for copy, fate in zip(copies, fates, strict=True)
    ]


def summary(dropped: Sequence[str], told: Sequence[str], kept: int, *, check_mode: bool) -> str:
    """One sentence with the figures."""
    if not (dropped or told or kept):
        return "There is no copy of this database."
    verb = "would be" if check_mode else agree(len(dropped), "was", "were")
    parts = [f"{count(len(dropped), 'copy', 'copies')} {verb} dropped{f' ({some(dropped)})' if dropped else ''}"]
    if told:
        parts.append(f"{len(told)} {agree(len(told), 'waits', 'wait')} for a person ({some(told)})")
    if kept:
        parts.append(f"{kept} {agree(kept, 'stays', 'stay')}")
    return f"{', '.join(parts)}."
