"""Figures of a drill: objectives, what was measured, what was lost, what can be promised.

The terms are those of NIST SP 800-34 and of every cloud's manual. The recovery time objective (RTO) is how long the
service may be away; the recovery point objective (RPO) is how much of the latest work may be lost, counted in time. A
drill measures both. Its RTO goes from the declared outage to the verified service, with the pauses between the phases.
Its RPO comes from the restored copy itself: from the last acknowledged commit back to the last one up to which nothing
is missing. Dates of files say nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_check import span
from ansible.module_utils.runbook.rules.words import agree, count, size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.drill.scenarios import Way

#: The phases of a recovery, in their order.
PHASES = ("detect", "decide", "provision", "restore", "verify", "switch")
#: What the pauses between the phases are called where the time to recovery is split.
BETWEEN = "between"
#: Production may be this many times as large as the copy. The fixed costs of a smaller copy outweigh its rate.
MOST_TIMES = 100


@dataclass(frozen=True)
class Objectives:
    """What the business asked for, in seconds; ``rpo_s=0`` is "no data loss".

    :raises RunbookError: an objective that no recovery can have
    """

    rto_s: float
    rpo_s: float

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.rto_s <= 0:
            raise RunbookError(
                f"rto_s: {self.rto_s:g} is no recovery time objective; give seconds above 0, 14400 for four hours."
            )
        if self.rpo_s < 0:
            raise RunbookError(
                f"rpo_s: {self.rpo_s:g} is no recovery point objective; give seconds from 0 (no data loss) on, 3600 for"
                " one hour."
            )


@dataclass(frozen=True)
class Measured:
    """What a drill measured; None is not known.

    ``rto_s`` and ``rpo_s`` in seconds. ``acknowledged_rows`` are commits that clients were told of until the outage;
    ``surviving_rows`` are those of them that the restored copy holds; ``lost_rows`` are the others. ``database_bytes``
    is the size of the restored database, which differs from the bytes of a dump.
    """

    rto_s: float | None = None
    rpo_s: float | None = None
    acknowledged_rows: int | None = None
    surviving_rows: int | None = None
    lost_rows: int | None = None
    database_bytes: int | None = None


@dataclass(frozen=True)
class Loss:
    """What became of the acknowledged commits; ``hole_rows`` are lost though a later commit survived."""

    acknowledged_rows: int
    surviving_rows: int
    lost_rows: int
    hole_rows: int
    rpo_s: float | None
    msg: str


def rto_s(outage_at: datetime | None, service_at: datetime | None) -> float | None:
    """Seconds from the declared outage to the verified service; None where one is missing, or the clock was set back.

    Both times must come from one clock.
    """
    if outage_at is None or service_at is None or service_at < outage_at:
        return None
    return (service_at - outage_at).total_seconds()


def loss(acknowledged: Mapping[int, float], surviving: Collection[int]) -> Loss:
    """Compare the ledger of acknowledged commits with what the restored copy holds.

    The RPO goes back from the last acknowledged commit to the last one before which none is missing. So a hole in the
    middle is not hidden by a later commit that survived.

    :param acknowledged: by the number of a commit, when its client was told, in seconds of the ledger's one clock
    :param surviving: numbers that the copy holds, also of commits whose clients were never told

    >>> loss({1: 10.0, 2: 11.0, 3: 12.5}, {1, 2}).rpo_s
    1.5
    >>> loss({1: 10.0, 2: 11.0, 3: 12.5}, {1, 3}).hole_rows
    1
    """
    ledger = sorted(acknowledged.items(), key=lambda item: (item[1], item[0]))
    there = surviving if isinstance(surviving, (set, frozenset)) else set(surviving)
    lost = [(number, at) for number, at in ledger if number not in there]
    kept = [(number, at) for number, at in ledger if number in there]
    last = ledger[-1][1] if ledger else None
    before = [at for _, at in kept if not lost or at < lost[0][1]]
    until = before[-1] if before else None
    holes = sum(1 for _, at in lost if kept and at < kept[-1][1])
    known = None
    if last is not None and not lost:
        known = 0.0
    elif last is not None and until is not None:
        known = last - until
    return Loss(len(ledger), len(kept), len(lost), holes, known, _loss_sentence(ledger, lost, known, holes))


def _loss_sentence(
    ledger: Sequence[tuple[int, float]], lost: Sequence[tuple[int, float]], known: float | None, holes: int
) -> str:
    if not ledger:
        return "No commit was acknowledged before the outage, so nothing says what was lost."
    if not lost:
        return f"Every acknowledged commit is there ({len(ledger):,})."
    whole = f"{len(lost):,} of {count(len(ledger), 'acknowledged commit')} {agree(len(lost), 'is', 'are')} lost"
    if known is None:
        least = in_words(ledger[-1][1] - lost[0][1])
        return f"{whole}, the first of all among them, at least {least} of work."
    hole = f" {holes} of them are older than the last commit that is there." if holes else ""
    return f"{whole}, {in_words(known)} of work.{hole}"


def split_rto(
    phases: Iterable[Mapping[str, Any]], outage_at: datetime | None, service_at: datetime | None
) -> dict[str, float] | None:
    """The time to recovery by phase, in seconds, and what lay :data:`BETWEEN` them; the sum is the RTO.

    What of a phase lies outside the outage does not count.

    :param phases: ``phases`` of a drill's document
    :return: None where the RTO is not known
    """
    whole = rto_s(outage_at, service_at)
    if whole is None or outage_at is None or service_at is None:
        return None
    parts: dict[str, float] = {}
    for phase in phases:
        begun, ended = moment(phase.get("started_at")), moment(phase.get("finished_at"))
        if begun is not None and ended is not None:
            inside = (min(ended, service_at) - max(begun, outage_at)).total_seconds()
            parts[phase["name"]] = parts.get(phase["name"], 0.0) + max(0.0, inside)
    return {**parts, BETWEEN: max(0.0, whole - sum(parts.values()))}


def moment(stamp: object) -> datetime | None:
    """A time of a document, with its zone; None for what is none."""
    if not isinstance(stamp, str):
        return None
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return when if when.tzinfo is not None else None


def in_words(seconds: float) -> str:
    """A time in words; a loss of half a second is not one of nothing.

    >>> in_words(0.4), in_words(52), in_words(3_600), in_words(14_400)
    ('400 ms', '52 s', '1 h', '4 h')
    """
    if seconds >= 3600 and seconds % 3600 == 0:
        return f"{seconds / 3600:,.0f} h"
    return f"{seconds * 1000:.0f} ms" if 0 < seconds < 1 else span(seconds).replace(".0 ", " ")


@dataclass(frozen=True)
class Attainable:
    """The RPO that the present set-up can promise, in the worst case; None: none at all, or not known.

    A document keeps it as ``attainable``.
    """

    way: Way | None
    rpo_s: float | None
    msg: str


def attainable(
    *,
    backup_interval_s: float | None = None,
    backup_duration_s: float | None = None,
    archive_timeout_s: float | None = None,
    archive_delay_s: float | None = None,
) -> Attainable:
    """The worst loss that the present set-up allows, whatever a single drill had the luck to measure.

    A dump holds the moment at which it began, and helps only once it is complete: shortly before that, everything since
    the beginning of the one before is lost. With WAL archiving, what is not in a finished segment is lost:
    ``archive_timeout`` closes a segment after that time (PostgreSQL's documentation, "archive_timeout"), and the
    archiver needs a moment more to store it.

    :param backup_interval_s: from one dump to the next; None: there are none
    :param backup_duration_s: how long a dump takes; None: not one is known that is good, so dumps promise nothing
    :param archive_timeout_s: the server's setting; None: WAL is not archived; 0: only full segments are
    :param archive_delay_s: how long the archiver takes for a segment; None: it is not known, and the sentence says so
    """
    found: list[Attainable] = []
    if archive_timeout_s:
        worst = archive_timeout_s + (archive_delay_s or 0.0)
        said = f"Point-in-time recovery loses at most {in_words(worst)} (archive_timeout"
        said += ")." if archive_delay_s is not None else "), and what the archiver takes, which is unknown."
        found.append(Attainable("pitr", worst, said))
    if backup_interval_s is not None and backup_duration_s is not None:
        worst = backup_interval_s + backup_duration_s
        said = f"A dump every {in_words(backup_interval_s)}, which takes {in_words(backup_duration_s)}, can lose up to"
        found.append(Attainable("dump", worst, f"{said} {in_words(worst)}."))
    if found:
        return min(found, key=lambda each: each.rpo_s or 0.0)
    if archive_timeout_s == 0:
        return Attainable(
            "pitr", None, "archive_timeout is 0: WAL waits until its segment is full, so the loss has no bound."
        )
    return Attainable(None, None, "There are neither good dumps at a known interval nor an archive of WAL.")


@dataclass(frozen=True)
class Extrapolation:
    """How long production's restore would take at the measured rate: an estimate."""

    production_bytes: int
    rate_bytes_per_s: float
    restore_s: float
    msg: str


def extrapolate(
    database_bytes: int | None, restore_s: float | None, production_bytes: int | None
) -> Extrapolation | None:
    """Estimate production's restore from the drill's rate; None where one of the three is not known or not above 0.

    :param database_bytes: size of the restored database
    :param restore_s: in how many seconds
    :param production_bytes: size of production, counted the same way
    """
    if (
        not database_bytes
        or not restore_s
        or not production_bytes
        or min(database_bytes, restore_s, production_bytes) < 0
    ):
        return None
    rate = database_bytes / restore_s
    estimate = production_bytes / rate
    small = "" if is_telling(database_bytes, production_bytes) else f" {_SMALL}"
    return Extrapolation(
        production_bytes,
        rate,
        estimate,
        f"Estimate: at the measured {size(rate)}/s, restoring the {size(production_bytes)} of production takes"
        f" {in_words(estimate)}.{small}",
    )


_SMALL = "The copy was less than a hundredth of that, and its fixed costs count in full: it tells little."


def is_telling(database_bytes: int | None, production_bytes: int) -> bool:
    """Whether the copy was large enough for an estimate that somebody may act on."""
    return database_bytes is not None and production_bytes <= MOST_TIMES * database_bytes
