#!/usr/bin/python
"""Module apt_updates_check: which security updates a server waits for, and what still runs the code of before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_updates_check
short_description: Check for security updates that a server waits for
description:
  - Looks at the host of this task, a Debian or Ubuntu in the inventory's group C(servers), through Ansible's
    connection. The server needs no Python. Run M(runbook_preflight) first in the same run. Fetches the lists of
    packages into a folder of their own, so that nothing of the server's changes.
  - Waiting are updates from a security archive, services that needrestart names, and a restart of the server. Each has
    a deadline, counted from the first run that saw it. The state store remembers when that was; in check mode nothing
    new is remembered.
  - What is overdue is V(breach), and so are packages that are half installed. An archive that gives no answer, and
    anything without a known deadline, is V(unknown).
  - The module fails where a check is not V(ok).
options:
  deadline_days:
    description: Days within which all that waits must be done, 1 to 14.
    type: int
    default: 7
extends_documentation_fragment: runbook_state
attributes:
  check_mode: {support: full, description: "Looks, and remembers nothing."}
  diff_mode: {support: none, description: Changes nothing on the server.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Find security updates
  apt_updates_check:
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg: {description: "What is not ok and the fix, or how much waits.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
checks: {description: "One for each thing that waits, and what is not known.", returned: always, type: list}
system: {description: Name and version of the operating system., returned: when the server answered, type: str}
packages: {description: Number of installed packages., returned: when the server answered, type: int}
security_updates: {description: Number of security updates that wait., returned: when the archives answered, type: int}
overdue: {description: Number of things that are overdue., returned: when the archives answered, type: int}
reboot: {description: Why the server has to be started again; empty if it has not., returned: when the server answered,
         type: str}
waiting:
  description: What has to be done.
  returned: when the archives answered
  type: list
  elements: dict
  contains:
    kind: {description: "V(update), V(restart) or V(reboot).", type: str}
    name: {description: "The package with its version, or the service.", type: str}
    state: {description: "V(open), V(overdue), or V(undated) without a state store.", type: str}
    msg: {description: What and how., type: str}
    first_seen_at: {description: When a run first saw it., type: str}
    due_at: {description: Its deadline., type: str}
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, state_lease, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.updates import apt
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Check, sentence
from ansible.module_utils.runbook.rules.updates import apt as rules
from ansible.module_utils.runbook.rules.updates import server
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.drivers.state_store import Reading

NONE = (
    "apt knows no archive of security updates there, so none is ever found; add it to /etc/apt/sources.list.d, as "
    "security.debian.org for Debian."
)
BOUNDS = {"deadline_days": (1, rules.MOST_DAYS)}
#: It runs on the bastion, and reaches its host by commands over Ansible's connection.
BY_COMMANDS = True


def remember(
    context: Context, environment: str, hostname: str, listed: list[rules.Waiting], now: datetime
) -> dict[str, str] | None:
    """When each thing was first seen; None where no state store remembers."""
    if state_lease.store_of(context.params, environment) is None:
        return None
    known: dict[str, str] = {}

    def act(found: Reading) -> Mapping[str, Any] | None:
        before = found.document.body.get("seen") if found.document else None
        known.clear()
        known.update(rules.seen(listed, before, now))
        return None if before == rules.pairs(known) else {"host": hostname, "seen": rules.pairs(known)}

    Documents.from_params(context.params, context.run).update(f"updates/seen-{hostname}", act)
    return known


def core(context: Context) -> dict[str, Any]:
    """Look, remember, judge."""
    context.require_bounds(BOUNDS)
    environment = permits.require_approval(context.run, may_be_late=True).environment
    now = datetime.now(UTC)
    machine_id, hostname, system = apt.identity()
    server.check_not_bastion(machine_id, hostname, "" if environment == "sandbox" else apt.own_machine_id())
    half, packages = apt.unfinished(), apt.installed()
    found = rules.restarts(apt.needrestart(), packages, reboot_asked=apt.reboot_asked())
    checks = rules.judge_server(half, found, hostname)
    facts: dict[str, Any] = {"system": system, "packages": len(packages), "reboot": found.reboot}
    try:
        with apt.refreshed() as lists:
            every = rules.simulated(lists.simulate("dist-upgrade", "--ignore-hold"))
            possible = rules.simulated(lists.simulate("upgrade", "--with-new-pkgs"))
            has_security = lists.has_security()
        checks.append(Check.ok("archives", "", hostname) if has_security else Check.unknown("archives", NONE, hostname))
    except RunbookError as error:
        checks.append(Check.unknown("archives", error.message, hostname))
        return context.conclude(checks, msg=sentence(hostname, checks), **facts)
    listed = rules.waiting(every, possible, apt.on_hold(), found)
    first_seen = remember(context, environment, hostname, listed, now)
    judged, figures = rules.judge(listed, first_seen, context.params["deadline_days"], now)
    security = [each for each in listed if each.kind == "update"]
    about = f"{hostname}: {count(len(security), 'security update')} waiting, {count(len(listed), 'thing')} to do"
    return context.conclude(
        checks + judged,
        msg=sentence(about, checks + judged),
        security_updates=len(security),
        overdue=sum(1 for each in figures if each["state"] == "overdue"),
        waiting=figures,
        **facts,
    )


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return state_store.argument_spec() | {"deadline_days": {"type": "int", "default": rules.DEADLINE_DAYS}}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="apt_updates_check", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
