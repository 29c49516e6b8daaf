"""Faults that a drill injects into its own backups, in the sandbox, and has to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill.scenarios import SANDBOX, Way
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Fault:
    """One fault of the catalogue."""

    #: The ways to restore for which it can be injected.
    ways: tuple[Way, ...]
    #: A red drill that uses one of these words has named it.
    names: tuple[str, ...]


FAULTS = {
    "flipped_byte": Fault(("dump", "pitr"), ("SHA-256", "is damaged", "messages")),
    "missing_object": Fault(("dump", "pitr"), ("missing",)),
    "truncated_object": Fault(("dump",), ("instead of",)),
    "truncated_wal": Fault(("pitr",), ("has wrong size", "could not restore file", "WAL after")),
    "wrong_database": Fault(("dump", "pitr"), ("cluster",)),
    "older_schema": Fault(("dump", "pitr"), ("older schema",)),
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


def names_fault(inject: str, document: Mapping[str, Any]) -> bool:
    """Whether a red drill told what was injected.

    :param document: a drill's document
    """
    recovery = document.get("recovery") or {}
    said = [
        str(document.get("msg") or ""),
        *(str(each["msg"]) for each in document["checks"] if each["status"] != Status.OK),
    ]
    said += [str(each["msg"]) for each in document["phases"] if each["status"] != Status.OK]
    said += [str(each["reason"]) for each in recovery.get("skipped") or []]
    text = " ".join(said)
    return document["status"] != Status.OK and any(word in text for word in FAULTS[inject].names)
