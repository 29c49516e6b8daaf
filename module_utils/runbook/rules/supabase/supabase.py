"""What Supabase's Management API says about backups, and what may be asked of it.

The API is young and grows: fields that are not known are ignored, a status that is not known is ``unknown``, and a
field that is needed and missing is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import check_api_url
from ansible.module_utils.runbook.rules.backup.backup_check import age_s, span
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count

#: States of a project that this code was written for.
HEALTHY = "ACTIVE_HEALTHY"
RESTORING = "RESTORING"
RESTORE_FAILED = "RESTORE_FAILED"
#: States from which a restore may be started.
MAY_RESTORE = frozenset({HEALTHY, "ACTIVE_UNHEALTHY", RESTORE_FAILED})
PROJECT_STATES = MAY_RESTORE | {
    RESTORING, "INACTIVE", "COMING_UP", "UNKNOWN", "GOING_DOWN", "INIT_FAILED", "REMOVED", "UPGRADING", "PAUSING",
    "RESTARTING", "PAUSE_FAILED", "RESIZING",
}  # fmt: skip
#: From these a project does not come back by waiting.
DEAD_ENDS = frozenset({"INACTIVE", "INIT_FAILED", "REMOVED", "PAUSING", "PAUSE_FAILED", "GOING_DOWN"})

COMPLETED = "COMPLETED"
BACKUP_STATES = frozenset({COMPLETED, "FAILED", "PENDING", "REMOVED", "ARCHIVED", "CANCELLED"})

#: Services whose health makes a restored project usable.
SERVICES = ("auth", "db", "pooler", "rest", "storage")

_REF = re.compile(r"[a-z]{20}")


@dataclass(frozen=True)
class Project:
    """A project as the API shows it."""

    ref: str
    name: str
    region: str
    status: str
    created_at: datetime


@dataclass(frozen=True)
class Backup:
    """One daily backup."""

    id: int
    status: str
    is_physical: bool
    inserted_at: datetime


@dataclass(frozen=True)
class Backups:
    """All that the API says about a project's backups; ``earliest`` and ``latest`` bound the window of PITR."""

    region: str
    pitr_enabled: bool
    backups: tuple[Backup, ...]
    earliest: datetime | None
    latest: datetime | None


@dataclass(frozen=True)
class Place:
    """Where a project is asked for."""

    api_url: str
    project_ref: str

    @classmethod
    def named(cls, api_url: str, project_ref: str) -> Place:
        """The place that the options name.

        :raises RunbookError: the address or the reference is none
        """
        return cls(check_api_url(api_url, "https://api.supabase.com"), check_ref(project_ref))


# --- reading ----------------------------------------------------------------------------------------------------------


def check_ref(ref: str) -> str:
    """A project's reference is twenty lower-case letters.

    :raises RunbookError: it is not
    """
    if not _REF.fullmatch(ref):
        raise RunbookError(
            f"project_ref: {ref!r} is not the reference of a project, which is twenty lower-case letters; copy it from "
            "the project's address in the dashboard."
        )
    return ref


def _field(body: Any, name: str, kind: type, what: str) -> Any:
    value = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RunbookError(
            f"Supabase's answer about {what} has no field {name} of the expected kind; its API may have changed: "
            "nothing was done.",
            status=Status.UNKNOWN,
        )
    return value


def _moment(body: Any, name: str, what: str) -> datetime:
    text = _field(body, name, str, what)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RunbookError(
            f"Supabase's answer about {what} has a field {name} that is no moment.", status=Status.UNKNOWN
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _unix(body: Any, name: str) -> datetime | None:
    value = body.get(name)
    if value is None:
        return None
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise RunbookError(
            f"Supabase's answer about backups has a {name} that is no time.", status=Status.UNKNOWN
        ) from None


def parse_project(body: Any) -> Project:
    """Read the answer to ``GET /v1/projects/{ref}``.

    :raises RunbookError: a field that is needed is missing
    """
    what = "the project"
    return Project(
        ref=_field(body, "ref", str, what),
        name=_field(body, "name", str, what),
        region=_field(body, "region", str, what),
        status=_field(body, "status", str, what),
        created_at=_moment(body, "created_at", what),
    )


def parse_backups(body: Any) -> Backups:
    """Read the answer to ``GET /v1/projects/{ref}/database/backups``.

    :raises RunbookError: a field that is needed is missing
    """
    what = "backups"
    window = _field(body, "physical_backup_data", dict, what)
    made = [
        Backup(
            id=_field(one, "id", int, what),
            status=_field(one, "status", str, what),
            is_physical=_field(one, "is_physical_backup", bool, what),
            inserted_at=_moment(one, "inserted_at", what),
        )
        for one in _field(body, "backups", list, what)
    ]
    return Backups(
        region=str(body.get("region", "")),
        pitr_enabled=_field(body, "pitr_enabled", bool, what),
        backups=tuple(sorted(made, key=lambda backup: (backup.inserted_at, backup.id), reverse=True)),
        earliest=_unix(window, "earliest_physical_backup_date_unix"),
        latest=_unix(window, "latest_physical_backup_date_unix"),
    )


# --- judging ----------------------------------------------------------------------------------------------------------


def newest(backups: Backups) -> datetime | None:
    """The newest moment that can be restored; None if there is none.

    With PITR daily backups stop, so the end of its window counts; without it the newest backup that is complete.
    """
    if backups.pitr_enabled:
        return backups.latest
    return next((backup.inserted_at for backup in backups.backups if backup.status == COMPLETED), None)


def oldest(backups: Backups) -> datetime | None:
    """The oldest moment that can be restored; None if there is none."""
    if backups.pitr_enabled:
        return backups.earliest
    return next((backup.inserted_at for backup in reversed(backups.backups) if backup.status == COMPLETED), None)


def judge(
    backups: Backups, *, created_at: datetime, now: datetime, pitr: bool, max_age_s: int, retention_days: int
) -> list[Check]:
    """Whether the provider's own backups are what was promised.

    :param created_at: when the project was made; a young project cannot have old backups
    :param pitr: whether point-in-time recovery is wanted
    :param max_age_s: largest age of the newest moment that can be restored
    :param retention_days: how far back one wants to be able to go
    """
    return [
        _judge_pitr(backups, wanted=pitr),
        _judge_age(backups, now, max_age_s),
        _judge_retention(backups, created_at, now, retention_days),
        _judge_states(backups),
    ]


def _judge_pitr(backups: Backups, *, wanted: bool) -> Check:
    if backups.pitr_enabled or not wanted:
        state = "on" if backups.pitr_enabled else "off, and not asked for"
        return Check.ok("pitr", f"Point-in-time recovery is {state}.")
    return Check.breach("pitr", "Point-in-time recovery is off; switch on the add-on in the project's settings.")


def _judge_age(backups: Backups, now: datetime, max_age_s: int) -> Check:
    moment = newest(backups)
    if moment is None:
        return Check.breach("age", "Supabase has no complete backup of this project.")
    age = age_s(moment, now)
    if age < -300:
        return Check.unknown("age", f"The newest moment is {span(-age)} ahead of this clock; set the clock right.")
    if age > max_age_s:
        idle = "; a database that nobody writes to may lag" if backups.pitr_enabled else ""
        return Check.breach(
            "age",
            f"The newest moment that can be restored is {span(age)} old, where {span(max_age_s)} are accepted{idle}.",
        )
    return Check.ok("age", f"The newest moment that can be restored is {span(max(age, 0))} old.")


def _judge_retention(backups: Backups, created_at: datetime, now: datetime, days: int) -> Check:
    moment = oldest(backups)
    if moment is None:
        return Check.breach("retention", "There is no moment to go back to.")
    # Retention deletes by whole days, so the oldest backup of 30 days is between 29 and 30 days old.
    wanted = max(now - timedelta(days=days), created_at) + timedelta(days=1)
    reach = span(max(age_s(moment, now), 0))
    if moment > wanted:
        return Check.breach(
            "retention",
            f"One can go back {reach}, where {count(days, 'day is', 'days are')} wanted; raise the plan's retention.",
        )
    return Check.ok("retention", f"One can go back {reach}, as {count(days, 'day is', 'days are')} wanted.")


def _judge_states(backups: Backups) -> Check:
    strange = sorted({backup.status for backup in backups.backups} - BACKUP_STATES)
    if strange:
        return Check.unknown("states", f"Backups have a state that is not known: {', '.join(strange)}.")
    for backup in backups.backups:
        if backup.status == COMPLETED:
            break
        if backup.status in {"FAILED", "CANCELLED"}:
            return Check.breach(
                "states",
                f"The backup of {backup.inserted_at:%Y-%m-%d %H:%M} UTC is {backup.status}; ask Supabase's support.",
            )
    return Check.ok("states", f"{count(len(backups.backups), 'backup')}, none of them failed since the last good one.")


def as_results(backups: Backups) -> list[dict[str, Any]]:
    """The daily backups as a module returns them, newest first."""
    return [
        {
            "id": backup.id,
            "status": backup.status,
            "is_physical": backup.is_physical,
            "inserted_at": backup.inserted_at.isoformat(),
        }
        for backup in backups.backups
    ]


# --- restoring --------------------------------------------------------------------------------------------------------


def check_identity(project: Project, *, ref: str, name: str) -> str:
    """The project is the one that the inventory means.

    :param name: as pinned in the inventory; empty is refused with the name that was found
    :raises RunbookError: nothing is pinned, or another project answered
    """
    if not name:
        raise RunbookError(
            "project_name: the inventory does not say which project it means; if this is the right one, pin it: "
            f"supabase_project_name: {project.name!r}"
        )
    if project.ref != ref or project.name != name:
        raise RunbookError(
            f"project_name: the inventory means project {name!r} ({ref}), and {project.name!r} ({project.ref}) "
            "answered; check supabase_project_ref."
        )
    return f"Project {project.name} ({project.ref}), as pinned."


def check_overwrite(overwrite: str, ref: str) -> str:
    """Supabase restores in place, so a person names the project that is to be overwritten.

    :raises RunbookError: nothing, or another project was named
    """
    if overwrite != ref:
        said = "nothing was said" if not overwrite else f"{overwrite!r} was said"
        raise RunbookError(
            f"overwrite: a restore at Supabase replaces the live database, and {said}; if that is meant, add "
            f"-e supabase_restore_overwrite={ref}."
        )
    return f"Project {ref} may be overwritten."


def check_target(recovery_time: str | None, backup_id: int | None, project_state: str) -> None:
    """Exactly one point is named, and the project's state lets a restore begin.

    :raises RunbookError: otherwise
    """
    if bool(recovery_time) == (backup_id is not None):
        raise RunbookError("recovery_time, backup_id: name exactly one of them; action list shows what there is.")
    if project_state not in MAY_RESTORE:
        known = project_state in PROJECT_STATES
        raise RunbookError(
            f"The project is {project_state}, {'which' if known else 'a state that is not known and'} does not let a "
            "restore begin; wait until it is ACTIVE_HEALTHY, or look at the dashboard.",
            status=Status.BREACH if known else Status.UNKNOWN,
        )


def check_point_in_time(backups: Backups, moment: datetime, now: datetime) -> str:
    """Whether the database can be taken back to ``moment``.

    :raises RunbookError: it cannot; the sentence names the window
    """
    if not backups.pitr_enabled:
        raise RunbookError(
            "recovery_time: point-in-time recovery is off for this project; name a backup_id, which action list shows."
        )
    if backups.earliest is None or backups.latest is None:
        raise RunbookError(
            "recovery_time: Supabase does not say between which moments it can restore.", status=Status.UNKNOWN
        )
    window = f"{backups.earliest:%Y-%m-%d %H:%M:%S} and {backups.latest:%Y-%m-%d %H:%M:%S} UTC"
    if moment > now:
        raise RunbookError(
            f"recovery_time: {moment:%Y-%m-%d %H:%M:%S} UTC is still to come; name one between {window}."
        )
    if not backups.earliest <= moment <= backups.latest:
        raise RunbookError(
            f"recovery_time: {moment:%Y-%m-%d %H:%M:%S} UTC cannot be restored; name one between {window}."
        )
    return f"to {moment:%Y-%m-%d %H:%M:%S} UTC"


def check_backup_id(backups: Backups, backup_id: int) -> str:
    """Whether the database can be taken back to that backup.

    :raises RunbookError: it cannot; the sentence names those that can
    """
    usable = [backup for backup in backups.backups if backup.status == COMPLETED and backup.is_physical]
    for backup in usable:
        if backup.id == backup_id:
            return f"to backup {backup_id} of {backup.inserted_at:%Y-%m-%d %H:%M:%S} UTC"
    known = ", ".join(str(backup.id) for backup in usable[:10]) or "none"
    raise RunbookError(f"backup_id: {backup_id} is no complete physical backup of this project; there are: {known}.")


def judge_health(project: Project, services: Any) -> list[Check]:
    """Whether a project and its services are well; ``services`` is the answer to ``GET …/health``."""
    checks = [_judge_state("project", project.status)]
    found = {one.get("name"): one for one in services if isinstance(one, Mapping)} if isinstance(services, list) else {}
    for name in SERVICES:
        state = found[name].get("status") if name in found else None
        if state is None:
            checks.append(Check.unknown(name, f"Supabase says nothing about {name}."))
        else:
            checks.append(_judge_state(name, str(state)))
    return checks


def _judge_state(name: str, state: str) -> Check:
    if state == HEALTHY:
        return Check.ok(name, f"{name} is {state}.")
    known = state in PROJECT_STATES or state == "UNHEALTHY"
    return Check(name, Status.BREACH if known and state != "UNKNOWN" else Status.UNKNOWN, f"{name} is {state}.")


# --- waiting ----------------------------------------------------------------------------------------------------------


@dataclass
class Waiting:
    """A wait for the end of a restore, one look at the project's state after the other."""

    #: The project as it was before.
    project: Project
    wait_timeout_s: float
    #: How long it may take to say that the restore has started; None where that is known.
    start_timeout_s: float | None = None

    def __post_init__(self) -> None:
        #: The project was seen at work, so ACTIVE_HEALTHY is not the state from before.
        self._seen_working = self.start_timeout_s is None

    def is_over(self, state: str, waited_s: float) -> bool:
        """Whether the restore has ended well.

        :param state: of the project now; empty where the API gives none
        :raises RunbookError: it ended otherwise, or the time is over
        """
        name, seen = self.project.name, state or "not to be reached"
        if state and state not in (self.project.status, "ACTIVE_UNHEALTHY", HEALTHY):
            self._seen_working = True
        if self._seen_working and state == HEALTHY:
            return True
        if self._seen_working and (state == RESTORE_FAILED or state in DEAD_ENDS):
            raise RunbookError(
                f"The restore did not succeed: project {name} is {state}; see its dashboard, and restore to another "
                "point or ask Supabase's support."
            )
        if not self._seen_working and self.start_timeout_s is not None and waited_s > self.start_timeout_s:
            raise RunbookError(
                f"Supabase accepted the restore, and {waited_s:.0f} s later project {name} is {seen}; whether it was "
                "restored is not known: look at its dashboard.",
                status=Status.UNKNOWN,
            )
        if waited_s > self.wait_timeout_s:
            raise RunbookError(
                f"Project {name} is {seen} after {waited_s:.0f} s; go on waiting with "
                "-e supabase_restore_action=wait, the restore is not started again.",
                status=Status.UNKNOWN,
            )
        return False


def window_sentence(project: Project, backups: Backups) -> str:
    """To where a project can go back."""
    earliest, latest = oldest(backups), newest(backups)
    between = f"between {earliest:%Y-%m-%d %H:%M:%S} and {latest:%Y-%m-%d %H:%M:%S} UTC" if latest else "to no time"
    how = "any second" if backups.pitr_enabled else count(len(backups.backups), "backup")
    return f"Project {project.name} is {project.status}; it can go back {between} ({how})."


def as_figures(backups: Backups) -> dict[str, Any]:
    """What can be restored, as a module's result shows it."""
    earliest, latest = oldest(backups), newest(backups)
    return {
        "earliest": earliest and earliest.isoformat(),
        "latest": latest and latest.isoformat(),
        "backups": as_results(backups),
    }


def check_seconds(values: Mapping[str, float]) -> None:
    """Refuse a span of time that is none.

    :raises RunbookError: names the option and the value
    """
    for name, value in values.items():
        if value <= 0:
            raise RunbookError(f"{name}: {value} is not possible; give a number of seconds above 0.")
