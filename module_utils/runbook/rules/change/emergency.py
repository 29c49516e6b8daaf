"""An emergency: why it is one, and what that spares.

It spares the maintenance window and the confirmation. It never spares who the target is, its lease, the snapshot or the
record. It counts only from the command line, and only for the playbook that tells people, and opens the review.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The playbook that was started, without its suffix.
PLAYBOOK = "emergency"
#: Why, as the runbook has it: a critical vulnerability, corrupted data, an unstable system.
KINDS = ("security", "corruption", "instability")
#: How it is said; Ansible splits name=value at blanks.
SAID = """-e emergency_kind=<kind> -e '{"emergency_reason": "<reason>"}'"""


@dataclass(frozen=True)
class Emergency:
    """Why a run is an emergency."""

    kind: str
    reason: str

    def __str__(self) -> str:
        """For people.

        >>> str(Emergency("security", "a token leaked"))
        'Emergency (security): a token leaked'
        """
        return f"Emergency ({self.kind}): {self.reason}"


def read(playbook: str, said: Mapping[str, str]) -> Emergency | None:
    """What the command line says of an emergency; None where the run is none.

    :param playbook: the one that was started, without its suffix
    :param said: the variables that the command line set, as ``rules.run.command_line`` gives them
    :raises RunbookError: kind or reason are missing, or said for another playbook
    """
    given = [name for name in ("emergency_kind", "emergency_reason") if name in said]
    if playbook != PLAYBOOK:
        if given:
            raise RunbookError(
                f"{given[0]}: it counts for playbooks/emergency.yml alone; run that one with -e emergency_fix=<this "
                "playbook>, or leave it out."
            )
        return None
    kind, reason = (" ".join(said.get(name, "").split()) for name in ("emergency_kind", "emergency_reason"))
    if kind not in KINDS:
        close = get_close_matches(kind.lower(), KINDS, 1)
        fix = f"did you mean {close[0]}?" if close else f"say {SAID}, with one of {', '.join(KINDS)}."
        raise RunbookError(
            f"emergency_kind: {kind!r} is none; {fix}" if kind else f"emergency_kind: it is not set; {fix}"
        )
    if not reason:
        raise RunbookError(f"emergency_reason: it is not set; say in one sentence what happened, with {SAID}.")
    return Emergency(kind, reason)
