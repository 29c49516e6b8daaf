"""Faults that a drill injects into its own backups, in the sandbox, and has to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import defects
from ansible.module_utils.runbook.rules.drill.scenarios import SANDBOX, Way
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Fault:
    """One fault of the catalogue."""

    #: The ways to restore for which it can be injected.
    ways: tuple[Way, ...]
    #: A red drill has found it by one of these: the check that failed, or what is wrong with a backup.
    found_by: tuple[str, ...]


FAULTS = {
    "flipped_byte": Fault(("dump", "pitr"), (defects.DAMAGED, "contents", "amcheck")),
    "missing_object": Fault(("dump", "pitr"), (defects.MISSING,)),
    "truncated_object": Fault(("dump",), (defects.WRONG_SIZE,)),
    "truncated_wal": Fault(("pitr",), (defects.WAL_DAMAGED,)),
    "wrong_database": Fault(("dump", "pitr"), (defects.OTHER_CLUSTER,)),
    "older_schema": Fault(("dump", "pitr"), ("schema",)),
}


def check_request(*, environment: str, scenario: str, way: str, inject: str | None) -> None:
    """Refuse what makes no sense together.

    :raises RunbookError: a fault is to be injected elsewhere than in the sandbox, or where it cannot be
    """
    if not inject:
        return
    if environment != SANDBOX:
        raise RunbookError(
            f"inject: {inject} would damage backups of {environment}; faults are injected in the sandbox alone."
        )
    if scenario != "database_lost":
        raise RunbookError(f"inject: {inject} goes with scenario database_lost, not {scenario}; leave one of them out.")
    ways = FAULTS[inject].ways
    if way not in ways:
        raise RunbookError(f"way: {inject} can be injected for {' or '.join(ways)}, not for {way}; name one.")


def is_found(inject: str, document: Mapping[str, Any]) -> bool:
    """Whether a red drill found what was injected.

    :param document: a drill's document
    """
    failed = {each["name"] for each in document["checks"] if each["status"] == Status.BREACH}
    skipped = (document.get("recovery") or {}).get("skipped") or []
    # Documents of earlier versions have no codes.
    wrong = failed.union(*(each.get("codes") or () for each in skipped))
    return document["status"] != Status.OK and not wrong.isdisjoint(FAULTS[inject].found_by)
