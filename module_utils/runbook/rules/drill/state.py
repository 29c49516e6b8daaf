"""How far a drill is, and what it found: written down before anything is made, so that the next drill can clean up.

Each act of a drill is a module of its own, and reads here what those before it left. A state holds no secret.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import typed
from ansible.module_utils.runbook.rules.drill.figures import Measured, Objectives
from ansible.module_utils.runbook.rules.drill.points import Problem  # noqa: TC002 - typed.read looks it up
from ansible.module_utils.runbook.rules.drill.scenarios import SANDBOX, SCENARIOS, WAYS, Scenario, Way
from ansible.module_utils.runbook.rules.postgres.content_hash import Method  # noqa: TC002 - typed.read looks it up
from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.drill.points import Candidate, Choice

#: Of this shape. Another one is refused: what made it knows how to remove what it made.
VERSION = 3


@dataclass(frozen=True)
class Live:
    """What is known of the live database, before the outage."""

    #: Its cluster, which the backups must be of; empty where the inventory pins none.
    system_identifier: str = ""
    #: What the application expects, as ``schema.table.column type``; None: the database could not be asked.
    columns: tuple[str, ...] | None = None
    size_bytes: int | None = None
    #: How long the archiver took for the last segment.
    archive_delay_s: float | None = None


@dataclass(frozen=True)
class Primary:
    """The server that a drill in the sandbox makes, and kills."""

    port: int
    bindir: str


@dataclass(frozen=True)
class Contents:
    """The tables to which no client writes: by name, rows and digest."""

    method: Method
    tables: dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Destination:
    """The database that a dump is restored to; port and cluster of the server are known of one that the drill made."""

    database: str
    port: int | None = None
    system_identifier: str = ""


@dataclass(frozen=True)
class Unusable:
    """A backup that could not be used; ``codes`` as in ``points.Candidate``."""

    backup_id: str
    reason: str
    codes: tuple[str, ...] = ()

    @classmethod
    def of(cls, bad: Candidate) -> Self:
        """A candidate that has a problem."""
        return cls(bad.backup_id, bad.problem, bad.codes)


@dataclass(frozen=True)
class Survey:
    """What the last look into the bucket found."""

    #: Whether there is an archive of WAL from which something can be restored; None: nobody looked.
    archived: bool | None = None
    #: What of the archive is missing, as a sentence; empty if nothing is.
    gap: str = ""
    #: How long the newest good dump took; None: none is good.
    backup_duration_s: float | None = None
    unusable: tuple[Unusable, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """The recovery point that is restored, and the backups that were better and could not be used."""

    way: Way
    backup_id: str
    point: datetime | None
    skipped: tuple[Unusable, ...]
    #: Seconds of work that those would have given back too.
    costs_s: float
    #: The moment to restore to; None: all that there is.
    target_time: datetime | None
    begun_at: datetime

    @classmethod
    def of(cls, choice: Choice, *, before: datetime | None, at: datetime) -> Self:
        """A choice that is restored from now on.

        :param before: the mistake before which the restore has to end; None: there is none
        """
        found = choice.chosen
        return cls(
            way=found.way, backup_id=found.backup_id, point=found.point,
            skipped=tuple(map(Unusable.of, choice.skipped)),
            costs_s=round(choice.costs_s, 3), target_time=found.point if found.is_cut or before else None, begun_at=at,
        )  # fmt: skip

    @property
    def attempt(self) -> str:
        """By which name the state notes that it failed."""
        return f"{self.way}/{self.backup_id}"


@dataclass(frozen=True)
class Phase:
    """One phase of the recovery, as the drill's document has it."""

    name: str
    started_at: datetime
    finished_at: datetime
    duration_s: float
    status: Status
    msg: str


@dataclass(frozen=True)
class State:
    """One drill. What is None, or empty, has not happened yet."""

    #: The UTC time of its beginning.
    drill_id: str
    #: The ansible-playbook that holds it: ``<host>/<pid>`` for people, and as ``drivers/process.py`` names a process.
    controller: str
    process: str
    environment: str
    host: str
    database: str
    scenario: str
    #: ``dump``, ``pitr`` or ``best``.
    way: str
    injected: str | None
    restore_path: str
    started_at: datetime
    objectives: Objectives
    live: Live = field(default_factory=Live)
    primary: Primary | None = None
    contents: Contents | None = None
    mistake_at: datetime | None = None
    outage_at: datetime | None = None
    #: The bucket in the second region is used.
    is_replica: bool = False
    survey: Survey = field(default_factory=Survey)
    #: Why attempts failed, by :attr:`Chosen.attempt`.
    failed: dict[str, Problem] = field(default_factory=dict)
    chosen: Chosen | None = None
    destination: Destination | None = None
    phases: tuple[Phase, ...] = ()
    checks: tuple[Check, ...] = ()
    measured: Measured = field(default_factory=Measured)
    #: The comparison of files with their second copy, as the document has it; None: it was not reached.
    files: dict[str, Any] | None = None
    #: When the restored service was verified; None: it was not recovered.
    service_at: datetime | None = None
    #: Why the drill ended before its time.
    failure: str = ""
    tear_down: Check | None = None

    @property
    def is_sandbox(self) -> bool:
        """Whether the outage is real."""
        return self.environment == SANDBOX

    @property
    def disaster(self) -> Scenario:
        """The scenario."""
        return SCENARIOS[self.scenario]

    @property
    def ways(self) -> list[Way]:
        """The ways that are open."""
        return [each for each in WAYS if self.way in (each, "best")]

    @property
    def is_recovered(self) -> bool:
        """Whether what was restored was found good."""
        return self.service_at is not None

    def with_phase(
        self, name: str, begun: datetime, ended: datetime, status: Status = Status.OK, msg: str = ""
    ) -> Self:
        """This state with one more phase."""
        lasted_s = round((ended - begun).total_seconds(), 3)
        return replace(self, phases=(*self.phases, Phase(name, begun, ended, lasted_s, status, msg)))

    def with_failed(self, problem: Problem) -> Self:
        """This state once the attempt that was chosen came to nothing."""
        attempt = self.chosen.attempt if self.chosen else ""
        return replace(self, failed=self.failed | {attempt: problem})

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps({"version": VERSION} | asdict(self), indent=1, default=datetime.isoformat) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Self:
        """Read what :meth:`to_json` wrote.

        :param where: how a sentence calls the file
        :raises RunbookError: it is damaged, or of another version
        """
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        try:
            if not isinstance(found, dict) or "drill_id" not in found:
                raise typed.FieldError("it is damaged")
            if found.get("version") != VERSION:
                raise typed.FieldError("another version of this project wrote it")
            state: Self = typed.read(cls, found, "it")
        except typed.FieldError as error:
            raise RunbookError(
                f"state_dir: {where} cannot be read: {error}; see that no server of a drill runs in that folder and no "
                "bucket of a drill is left, and remove the file."
            ) from None
        return state
