"""The three checklists of a change, as data: what their lines are, and which operation needs which of them.

Tasks, tickets, reports and the pages that people read take them from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import entries
from ansible.module_utils.runbook.rules.change.contacts import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Phase = Literal["before", "during", "after"]


@dataclass(frozen=True)
class Line:
    """A line of a checklist."""

    phase: Phase
    #: What is done, for people.
    text: str
    #: What proves it.
    proof: str
    #: Where it fails nothing goes on; elsewhere it is unknown, and the run ends red.
    blocks: bool = True
    #: Each database has its own answer.
    is_per_host: bool = False
    #: What it ends is what this other line began, so that whoever needs that one needs this one too.
    ends: str = ""


#: In the order in which they are done. The names are those that the inventory gives in ``change_needs``.
LINES: dict[str, Line] = {
    "ticket": Line("before", "Open a ticket", "its number"),
    "backup": Line("before", "See that the newest backup is whole and recent", "its name", is_per_host=True),
    "snapshot": Line("before", "Back the database up now", "the backup's name", is_per_host=True),
    "rollback_plan": Line("before", "Name the way back", "a playbook with its arguments"),
    "health": Line(
        "before", "See that the application works, before anything is touched", "the pages and queries",
        is_per_host=True,
    ),
    "contact": Line("before", "Tell the four emergency contacts", "the channel's answer", blocks=False),
    "incident": Line("before", "Tell users of the incident on the status page", "its address", blocks=False),
    "review": Line("during", "Open the post-incident review, with its owner and its due date", "its due date"),
    "error_logs_before": Line("before", "Count the errors in the logs", "how many a minute", blocks=False),
    "status_page": Line("before", "Tell users on the status page", "the notice's address", blocks=False),
    "team": Line("before", "Tell the team", "the channel's answer", blocks=False),
    "silence": Line("during", "Silence the alerts that the work sets off", "the silence's id", blocks=False),
    "maintenance_mode": Line("during", "Turn maintenance mode on, and see it from outside", "the page's answer"),
    "work": Line("during", "Carry out each step, verify it, and write down what was not right", "the steps' results"),
    "resolution": Line(
        "after", "See that the fix holds, before users are let in", "the pages and queries", is_per_host=True
    ),
    "maintenance_mode_off": Line(
        "after", "Turn maintenance mode off, and see it from outside", "the page's answer", ends="maintenance_mode"
    ),
    "function": Line("after", "See that the application works", "the pages and queries", is_per_host=True),
    "soak": Line("after", "Watch the metrics for a while", "the samples"),
    "error_logs": Line(
        "after", "Compare the errors in the logs with before", "how many a minute", blocks=False,
        ends="error_logs_before",
    ),
    "status_page_updated": Line("after", "End the notice on the status page", "the notice's address", blocks=False,
                                ends="status_page"),
    "incident_resolved": Line("after", "Say on the status page that the incident is over", "its address", blocks=False,
                              ends="incident"),
    "silence_removed": Line("after", "Remove the silence", "the silence's id", blocks=False, ends="silence"),
}  # fmt: skip
#: Before it users are not let in.
RESOLUTION = "resolution"
#: Those of an emergency alone.
OF_EMERGENCY = ("contact", "incident", "review", RESOLUTION)
#: What an inventory may ask for; the rest comes with it.
ASKED = tuple(name for name, line in LINES.items() if not line.ends and name not in OF_EMERGENCY)
#: The phases, with what they are called.
PHASES: dict[Phase, str] = {"before": "Before", "during": "During", "after": "After"}


@dataclass(frozen=True)
class Operation:
    """A playbook that is run as a change."""

    #: On the ticket.
    title: str
    #: Names of :data:`LINES`, where the inventory says nothing else.
    needs: tuple[str, ...]
    #: How it is undone: a playbook with its arguments; ``{inventory}``, ``{hosts}`` and ``{opened_at}`` are filled in.
    rollback: str
    #: Lines that block elsewhere, and not here.
    goes_on_without: tuple[str, ...] = ()
    #: The group of the inventory that it works on.
    group: str = "databases"


_QUIET = ("ticket", "backup", "rollback_plan", "health", "error_logs_before", "status_page", "team", "silence", "work",
          "function", "soak")  # fmt: skip
_BREAK = (*_QUIET, "maintenance_mode")
_TO_BEFORE = (
    "ansible-playbook -i {inventory} playbooks/rollback.yml --limit {hosts} --tags db -e db_rollback_before={opened_at}"
)
_SWAP_BACK = (
    "ansible-playbook -i {inventory} playbooks/rollback.yml --limit {hosts} --tags db "
    "-e db_rollback_undo=<the name that the database of before has now; the report says it>"
)
#: What is broken is not seen to work before.
_APPLICATION = ("ticket", "rollback_plan", "error_logs_before", "status_page", "team", "silence", "work", "function",
                "soak")  # fmt: skip
#: What it needs is not for an inventory to say: break-glass skips no snapshot and no record.
EMERGENCY = "emergency.yml"
#: By ``preflight_playbook``.
OPERATIONS = {
    EMERGENCY: Operation(
        "Emergency maintenance",
        (
            "ticket",
            "contact",
            "incident",
            "team",
            "silence",
            "maintenance_mode",
            "review",
            "snapshot",
            "work",
            "resolution",
            "function",
        ),
        "ansible-playbook -i {inventory} playbooks/rollback.yml --limit {hosts} --tags db "
        "-e db_rollback_backup=<the snapshot of this change>",
        # A fix does not wait for a service that is down.
        goes_on_without=("ticket", "maintenance_mode"),
    ),
    # Where one database of several was left in part, the application is looked at all the more.
    "weekly_db.yml": Operation("Weekly maintenance of the database", _QUIET, _TO_BEFORE, goes_on_without=("work",)),
    "monthly_db.yml": Operation("Monthly optimisation of the database", _QUIET, _TO_BEFORE, goes_on_without=("work",)),
    # It changes nothing that a user sees, and runs each night.
    "backup.yml": Operation("Backup of the database", (), "Nothing is changed, so there is nothing to undo."),
    "restore_swap.yml": Operation("Swap of a restored database for the live one", _BREAK, _SWAP_BACK),
    "rollback.yml replace": Operation("Rollback of the database", _BREAK, _SWAP_BACK),
    "rollback.yml app": Operation(
        "Rollback of the application",
        _APPLICATION,
        "ansible-playbook -i {inventory} playbooks/rollback.yml --limit {hosts} --tags app -e app_rollback_act=promote "
        "-e app_rollback_deployment=<the deployment that was live before; the report says it>",
        group="applications",
    ),
    "rollback.yml config": Operation(
        "Rollback of the application's environment variables",
        _APPLICATION,
        "ansible-playbook -i {inventory} playbooks/rollback.yml --limit {hosts} --tags config "
        "-e app_config_snapshot=<the snapshot that this run took; the report says it>",
        group="applications",
    ),
    # A server that reads its files again interrupts nobody, so users are not told, and no alert is set off.
    "certificates_renew.yml": Operation(
        "Renewal of certificates",
        ("ticket", "rollback_plan", "health", "error_logs_before", "team", "work", "function"),
        "It goes back by itself where a new certificate is not served. By hand, on the server: "
        "ln -sfn <the generation before> <directory>/current, then reload it.",
    ),
    "updates.yml servers": Operation(
        "Security updates of servers",
        (*_APPLICATION, "health"),
        "apt-get install --allow-downgrades <package>=<version of before; the report lists them> on {hosts}, or the "
        "snapshot of the machine",
        goes_on_without=("work",),
        group="servers",
    ),
    "rotate_keys.yml create": Operation(
        "Rotation of the application's keys",
        ("health", *_APPLICATION),
        # The newest that a rollback takes by itself is of another commit.
        "ansible-playbook -i {inventory} playbooks/rollback.yml --limit {hosts} --tags app "
        "-e app_rollback_deployment=<the one that was live before; deployments.yml lists it>",
        group="applications",
    ),
    "rotate_keys.yml retire": Operation(
        "End of the application's old keys",
        ("ticket", "rollback_plan", "health", "error_logs_before", "team", "work", "function"),
        "An access key of AWS is made active again, a role gets LOGIN and its password again; one of Supabase is gone, "
        "and whoever needs it gets the new one.",
        group="applications",
    ),
    "updates.yml deploy": Operation(
        "Updates of the application",
        (*_APPLICATION, "health"),
        "ansible-playbook -i {inventory} playbooks/rollback.yml --limit {hosts} --tags app",
        group="applications",
    ),
    "dr_drill.yml": Operation(
        "Disaster-recovery drill",
        ("ticket", "team", "work"),
        "Nothing live is changed; the drill removes what it made.",
    ),
}


def needed(operation: str, environment: str, said: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Which lines an operation needs, in their order.

    :param said: what the inventory says, by operation; a sandbox needs nothing else
    :raises RunbookError: it names an operation or a line that is not there
    """
    for name, lines in said.items():
        if name == EMERGENCY:
            raise RunbookError(f"change_needs: {name}: what it needs is fixed; take it out.")
        if name not in OPERATIONS:
            raise RunbookError(
                f"change_needs: {name}: it is not run as a change; {entries.choose(name, [*OPERATIONS])}"
            )
        if not isinstance(lines, (list, tuple)):
            raise RunbookError(f"change_needs: {name}: {lines!r} is no list; name lines, or give [] for no change.")
        for line in lines:
            if line not in ASKED:
                raise RunbookError(f"change_needs: {name}: {line!r} is no line; {entries.choose(line, [*ASKED])}")
    is_change = operation in OPERATIONS and (environment != "sandbox" or operation == EMERGENCY)
    default = OPERATIONS[operation].needs if is_change else ()
    asked = said.get(operation, default)
    return tuple(name for name, line in LINES.items() if name in asked or line.ends in asked)


def blocking(operation: str, said: Mapping[str, object]) -> dict[str, bool]:
    """Whether nothing goes on where a line fails, by its name.

    :param said: where the inventory decides otherwise
    :raises RunbookError: there is no such line, or it says neither true nor false
    """
    for name, value in said.items():
        if name not in LINES:
            raise RunbookError(f"change_blocks: {name!r} is no line; {entries.choose(name, [*LINES])}")
        if not isinstance(value, bool):
            raise RunbookError(f"change_blocks: {name}: {value!r} is neither true nor false; write one of them.")
    without = OPERATIONS[operation].goes_on_without if operation in OPERATIONS else ()
    return {name: bool(said.get(name, line.blocks and name not in without)) for name, line in LINES.items()}


def per_host(needs: Iterable[str], hosts: Sequence[str]) -> tuple[str, ...]:
    """The items that have to be answered: a line, or for each database or each contact one.

    >>> per_host(["ticket", "backup"], ["db1", "db2"])
    ('ticket', 'backup:db1', 'backup:db2')
    """
    return tuple(
        dict.fromkeys(
            each
            for name in needs
            for host in hosts or [""]
            for each in ([f"contact:{role}" for role in ROLES] if name == "contact" else [item(name, host)])
        )
    )


def item(name: str, host: str) -> str:
    """What a line is answered as, by a module that works for ``host``.

    >>> item("backup", "db1"), item("ticket", "db1"), item("ticket_steps", "db1")
    ('backup:db1', 'ticket', 'ticket_steps')
    """
    return f"{name}:{host}" if host and name in LINES and LINES[name].is_per_host else name


def phase_of(item: str) -> Phase | None:
    """The checklist that an item stands on; None where it stands on none.

    >>> phase_of("backup:db1"), phase_of("step-vacuum")
    ('before', None)
    """
    line = LINES.get(item.partition(":")[0])
    return line.phase if line else None
