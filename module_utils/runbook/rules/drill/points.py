"""The catalogue of recovery points, and the one that gives back most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_check import span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ansible.module_utils.runbook.rules.drill.scenarios import Way


@dataclass(frozen=True)
class Problem:
    """Why a backup cannot be used; ``codes`` are the same for code, as in :class:`Candidate`."""

    reason: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A backup that could be restored, and the moment that it leads to; ``problem`` says why it cannot."""

    way: Way
    backup_id: str
    #: The last moment that it can give back, at most the one that is wanted; None where not even that is known.
    point: datetime | None
    size_bytes: int = 0
    problem: str = ""
    #: The same for code, one word each: codes of errors (``rules/backup/defects.py``), names of checks.
    codes: tuple[str, ...] = ()
    #: The end of the archive cannot be reached, so the point has to be named as the target.
    is_cut: bool = False
    #: Nothing was ever backed up this way, which is no fault where the other way serves.
    is_absent: bool = False

    def judged(self, failed: Mapping[str, Problem]) -> Self:
        """This backup with the reason why an attempt with it failed, if one did.

        :param failed: by ``way/backup_id``
        """
        known = failed.get(f"{self.way}/{self.backup_id}")
        return self if self.problem or known is None else replace(self, problem=known.reason, codes=known.codes)


@dataclass(frozen=True)
class Choice:
    """What is restored, and what was better and could not be used."""

    chosen: Candidate
    skipped: tuple[Candidate, ...]
    #: Ways that were open, and in which nothing was ever backed up.
    absent: tuple[Candidate, ...] = ()

    @property
    def costs_s(self) -> float:
        """Seconds of work that the better ones would have given back too."""
        points = [each.point for each in self.skipped if each.point]
        if not points or not self.chosen.point:
            return 0.0
        return max(0.0, (max(points) - self.chosen.point).total_seconds())

    def sentence(self) -> str:
        """The choice, and what it costs."""
        point = f" up to {self.chosen.point:%Y-%m-%d %H:%M:%S} UTC" if self.chosen.point else ""
        said = f"{self.chosen.way} {self.chosen.backup_id}{point}."
        if self.skipped:
            bad = "; ".join(f"{each.way} {each.backup_id}: {str(each.problem).rstrip('.')}" for each in self.skipped)
            cost = f"which costs {span(self.costs_s)} of work" if self.costs_s else "which costs no work"
            said += f" Skipped, {cost}: {bad}."
        said += "".join(f" Not by {each.way}, because {each.problem.rstrip('.')}." for each in self.absent)
        return said


def choose(candidates: Iterable[Candidate], *, way: str, failed: Mapping[str, Problem]) -> Choice:
    """The candidate that gives back most; where two give back as much, the newer backup and PITR before a dump.

    :param way: ``dump``, ``pitr`` or ``best``
    :param failed: by ``way/backup_id``, why an attempt with it failed
    :raises RunbookError: none is good; the sentence says what is wrong with each
    """
    judged = [each.judged(failed) for each in candidates if way in ("best", each.way)]
    # A backup whose point is not known was made to be the newest one.
    judged.sort(key=lambda each: (each.point is None, each.point, each.way == "pitr", each.backup_id), reverse=True)
    good = next((number for number, each in enumerate(judged) if not each.problem and each.point), None)
    if good is None:
        bad = "; ".join(f"{each.way} {each.backup_id}: {each.problem or 'leads to no point'}" for each in judged)
        raise RunbookError(f"No backup is good, so nothing can be restored. {bad or 'There is none.'}")
    better = judged[:good]
    return Choice(
        judged[good],
        tuple(each for each in better if not each.is_absent),
        tuple(each for each in better if each.is_absent),
    )


def unusable(candidates: Iterable[Candidate], failed: Mapping[str, Problem]) -> list[Candidate]:
    """Those that are known to be bad, with what is wrong with each."""
    judged = (each.judged(failed) for each in candidates if not each.is_absent)
    return [each for each in judged if each.problem]


def check_room(*, needed_bytes: int, free_bytes: int | None, where: str) -> None:
    """See that the restored data has room, before any of it moves.

    :param free_bytes: None where it cannot be known from here
    :raises RunbookError: it has not
    """
    if free_bytes is not None and free_bytes < needed_bytes:
        raise RunbookError(
            f"The backup needs at least {needed_bytes:,} bytes and {free_bytes:,} are free in {where}; make room before"
            " the restore begins."
        )
