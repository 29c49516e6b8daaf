"""What is said when a change begins: on its ticket, and to the team."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.change.checklist import EMERGENCY, LINES, OPERATIONS, PHASES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.rules.change.change import Change


def rollback_plan(
    operation: str, said: str, *, environment: str, inventory: str, hosts: Sequence[str], opened_at: str
) -> str:  # fmt: skip
    """The way back: what the inventory says, or the operation's own; empty where nobody says any.

    :param inventory: as a command names it
    :param hosts: the databases that the run works on; a way back without them would go back with all

    >>> rollback_plan("backup.yml", "", environment="staging", inventory="i", hosts=["db1"], opened_at="")
    'Nothing is changed, so there is nothing to undo.'
    """
    plan = said.strip() or (OPERATIONS[operation].rollback if operation in OPERATIONS else "")
    if environment == "production" and not said and plan.startswith("ansible-playbook"):
        plan += " -e confirm=production"
    for name, value in {"inventory": inventory, "hosts": ",".join(hosts), "opened_at": opened_at}.items():
        plan = plan.replace(f"{{{name}}}", value)
    return plan


def title(change: Change, environment: str) -> str:
    """One line that says what is done, and where."""
    return f"{change.reason} ({environment})"


def ticket_text(change: Change, plan: str, needs: Sequence[str], override: str) -> list[str]:
    """What stands on the ticket from its beginning, a paragraph each.

    :param plan: the way back
    :param needs: lines of the checklists
    :param override: why the calendar was overridden; empty where it was not
    """
    paragraphs = [
        f"Playbook {change.playbook}, run {change.id}. It is over by {change.until:%Y-%m-%d %H:%M} UTC at the latest.",
        f"Works on: {', '.join(change.targets)}." if change.targets else "",
        f"Outside of its maintenance window, because: {override}" if override else "",
        f"Way back: {plan}" if plan else "",
        *(
            f"{name}: {'; '.join(LINES[line].text for line in needs if LINES[line].phase == phase)}."
            for phase, name in PHASES.items()
            if any(LINES[line].phase == phase for line in needs)
        ),
    ]
    return list(filter(None, paragraphs))


def way_out(left: Change) -> str:
    """What ends a change whose run is gone. Whoever ends an emergency without its fix has to know what that does."""
    if left.playbook == EMERGENCY:
        return (
            "users may be kept out until it is fixed: run playbooks/emergency.yml with the fix. "
            "playbooks/change_close.yml lets them in without one"
        )
    return "end it with playbooks/change_close.yml"


def notice_text(change: Change) -> str:
    """What the team reads below :func:`title`."""
    return f"Over by {change.until:%Y-%m-%d %H:%M} UTC at the latest. Run {change.id}."
