#!/usr/bin/python
"""Module apt_upgrade: install the security updates of a server that were proven before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_upgrade
short_description: Install the security updates of a server
description:
  - Installs what comes from a security archive, in the very versions that were planned, and what it depends on. Nothing
    is removed, nothing goes back, packages on hold stay. Configuration files that somebody changed stay too, and are
    named. Then needrestart restarts the services that still run the code of before, but for those that it leaves to a
    person. The server is not started again.
  - Where O(proof_environment) is set, a version is installed only if a server of that environment worked with it within
    O(proof_days). What is not proven waits, and the result names it.
  - The server must have passed M(server_preflight) in the same run. apt goes on if the connection breaks; the next run
    then finds what is done.
options:
  hostname:
    description: The server's name, as M(server_preflight) verified it.
    type: str
    required: true
  machine_id:
    description: The server's machine id, as M(server_preflight) verified it.
    type: str
    required: true
  proof_environment:
    description:
      - Environment whose servers must have worked with the same versions. Empty means that none must. On production it
        is refused if it is empty or production itself, unless O(unproven_reason) says why.
    type: str
    default: ""
  proof_days:
    description: How long such a proof counts, 1 to 30 days.
    type: int
    default: 7
  proof_bucket:
    description:
      - Bucket of that environment's state store, read with the same credentials as O(state_bucket). Not needed with
        O(state_directory), which holds all environments.
    type: str
  proof_prefix:
    description: Prefix in O(proof_bucket).
    type: str
  unproven_reason:
    description:
      - Why updates are installed that are not proven. It counts only from the command line of the run, as
        C(server_updates_unproven_reason).
    type: str
  deadline_s:
    description: How long apt may take, 60 to 14400 seconds.
    type: int
    default: 1800
extends_documentation_fragment: runbook_state
attributes:
  check_mode: {support: full, description: "Returns the plan of the real run, and installs nothing."}
  diff_mode: {support: full, description: Shows the versions before and after.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Install what staging worked with
  apt_upgrade:
    hostname: web1
    machine_id: 9f86d081884c4d659a2feaa0c55ad015
    proof_environment: staging
    proof_bucket: mental-scribe-state-staging
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed: {description: Whether something was installed., returned: always, type: bool}
msg: {description: "What was installed and what is left, in one sentence.", returned: always, type: str}
status:
  description: V(ok), or V(breach) if something was left that was planned; V(unknown) if apt has not ended in time.
  returned: always
  type: str
upgraded:
  description: What was installed, or would be.
  returned: when the archives answered
  type: list
  elements: dict
  contains:
    package: {description: Name., type: str}
    from: {description: The version before; empty for what is new., type: str}
    to: {description: The version after., type: str}
    is_security: {description: Whether it comes from a security archive., type: bool}
unproven: {description: What waits because it is not proven., returned: when the archives answered, type: list}
kept_files: {description: Configuration files of which a newer one was not taken., returned: after an installation,
             type: list}
services: {description: "Services that still run the code of before; in check mode those to be restarted.",
           returned: always, type: list}
reboot: {description: Why the server has to be started again; empty if it has not., returned: after work was done,
         type: str}
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.updates import apt
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.updates import apt as rules
from ansible.module_utils.runbook.rules.updates import server
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS = {"proof_days": (1, 30), "deadline_s": (60, 14_400)}
#: It runs on the bastion, and reaches its host by commands over Ansible's connection.
BY_COMMANDS = True
#: As preflight approves it, with its window and its change.
OPERATION = "updates.yml servers"
REASON = "server_updates_unproven_reason"


def proofs(params: dict[str, Any]) -> list[dict[str, Any]]:
    """What the servers of the proving environment wrote down.

    :raises RunbookError: its state store is not named, or does not answer
    """
    settings = {name: value for name, value in params.items() if name.startswith("state_")}
    if params["proof_bucket"]:
        settings |= {"state_bucket": params["proof_bucket"], "state_prefix": params["proof_prefix"]}
    elif settings.get("state_bucket"):
        raise RunbookError(
            f"proof_bucket: it is empty; name the bucket of {params['proof_environment']}'s state store, where its "
            "servers say which versions they worked with."
        )
    store = state_store.from_settings(settings, params["proof_environment"])
    if store is None:
        raise RunbookError(
            "state_bucket, state_directory: neither is set, so nobody knows what was proven; name a state store."
        )
    read = [store.read(name).document for name in store.names("updates/proof-")]
    return [each.body for each in read if each is not None]


def planned(
    lists: apt.Apt, params: dict[str, Any], now: datetime
) -> tuple[tuple[rules.Update, ...], list[rules.Update]]:  # fmt: skip
    """What to install, and what waits for its proof.

    :raises RunbookError: apt would not do it, or something that an update needs is not proven
    """
    security = rules.simulated(lists.simulate("upgrade", "--with-new-pkgs")).security
    left: list[rules.Update] = []
    known = None
    if params["proof_environment"] and not params["unproven_reason"] and security:
        known = rules.proven(proofs(params), now, params["proof_days"])
        left = rules.unproven(security, known)
        security = tuple(each for each in security if each not in left)
    if not security:
        return (), left
    names = [each.wanted for each in security]
    plan = rules.simulated(lists.simulate("install", "--only-upgrade", "--no-remove", *names))
    more = [] if known is None else rules.unproven(plan.updates, known)
    if more:
        raise RunbookError(
            f"What the updates need is not proven: {some(each.named for each in more)}; run updates.yml --tags "
            f"servers on {params['proof_environment']} first.",
            unproven=rules.figures(left + more),
        )
    return plan.updates, left


def require_reason(context: Context) -> None:
    """Refuse a reason that stands in an inventory: it would approve every run."""
    if context.params["unproven_reason"] and REASON not in permits.said(context.run):
        raise RunbookError(
            f"unproven_reason: it counts only where the command line of this run says it, with "
            f"""-e '{{"{REASON}": "<reason>"}}'; take it out of the inventory."""
        )


def core(context: Context) -> dict[str, Any]:
    """Plan, install, read back."""
    params = context.params
    context.require_bounds(BOUNDS)
    environment = permits.require_approval(context.run).environment
    permits.require(context.run, Target("server", params["machine_id"], params["hostname"]), environment)
    permits.require_operation(context.run, OPERATION)
    require_reason(context)
    rules.check_proof_environment(params["proof_environment"], environment, params["unproven_reason"])
    machine_id, hostname, _system = apt.identity()
    server.check_identity(machine_id, hostname, wanted_id=params["machine_id"], wanted_name=params["hostname"])
    half = apt.unfinished()
    if half:
        raise RunbookError(f"{hostname}: {half} Run dpkg --configure -a there first, then apt-get -f install.")
    services = apt_restarts().services
    with apt.refreshed() as lists:
        plan, left = planned(lists, params, datetime.now(UTC))
        facts: dict[str, Any] = {"upgraded": rules.figures(plan), "unproven": rules.figures(left)}
        waits = f" {rules.unproven_sentence(left, params['proof_environment'], params['proof_days'])}" if left else ""
        if context.check_mode or not (plan or services):
            what = f"{count(len(plan), 'package')} would be installed: {names(plan)}" if plan else "nothing to install"
            again = f", and {some(services)} restarted" if services else ""
            facts |= {"services": list(services), "changed": bool(plan or services)} | difference(context, plan)
            return facts | {"msg": f"{hostname}: {what}{again}.{waits}"}
        facts |= install(context, lists, plan, facts) if plan else {}
    apt.restart_services()
    found = apt_restarts()
    facts |= {"changed": True, "services": list(found.services), "reboot": found.reboot}
    done = f"{count(len(plan), 'package')} installed: {names(plan)}" if plan else "nothing to install"
    said = [f"{hostname}: {done}."]
    said += [f"Restart {some(found.services)}."] if found.services else []
    said += [f"Start the server again: {found.reboot}."] if found.reboot else []
    said += [f"Look at {some(facts['kept_files'])}: a newer one was not taken."] if facts.get("kept_files") else []
    return facts | {"msg": " ".join(said) + waits}


def apt_restarts() -> rules.Restarts:
    """What still runs the code of before."""
    return rules.restarts(apt.needrestart(), apt.installed(), reboot_asked=apt.reboot_asked())


def install(
    context: Context, lists: apt.Apt, plan: Sequence[rules.Update], facts: dict[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """Install what is planned, and see that it is there.

    :raises RunbookError: something is not; it says what is
    """
    hostname = context.params["hostname"]
    permits.require_time(context.run)
    try:
        code, log = lists.install(
            plan,
            deadline_s=context.params["deadline_s"],
            tell=lambda said: context.progress.update(said[:60], 0, None, "packages"),
        )
    except RunbookError as error:
        raise RunbookError(f"{hostname}: {error.message}", **({"changed": True} | facts | error.context)) from None
    missing = rules.left(plan, apt.installed())
    done = [each for each in plan if each not in missing]
    facts = facts | {
        "changed": bool(done), "upgraded": rules.figures(done), "kept_files": list(rules.kept_files(log)),
    } | difference(context, done)  # fmt: skip
    half = apt.unfinished()
    if code or missing or half:
        why = "; ".join(line.removeprefix("E: ") for line in log.splitlines() if line.startswith("E: "))
        raise RunbookError(
            f"{hostname}: {len(done)} of {count(len(plan), 'package')} installed; left: {names(missing) or 'none'}. "
            f"apt-get said: {why or f'exit code {code}'}. {half}".rstrip(),
            **facts,
        )
    return facts


def names(updates: Sequence[rules.Update]) -> str:
    """Packages and versions, for a sentence."""
    return some(f"{each.package} {each.old or 'new'} to {each.new}" for each in updates)


def difference(context: Context, updates: Sequence[rules.Update]) -> dict[str, Any]:
    """The diff of a result."""
    if not context.diff or not updates:
        return {}
    before = "".join(f"{each.package} {each.old or '(none)'}\n" for each in updates)
    after = "".join(f"{each.package} {each.new}\n" for each in updates)
    return {"diff": {"before_header": "installed", "after_header": "installed", "before": before, "after": after}}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return state_store.argument_spec() | {
        "hostname": {"type": "str", "required": True},
        "machine_id": {"type": "str", "required": True},
        "proof_environment": {"type": "str", "default": ""},
        "proof_days": {"type": "int", "default": 7},
        "proof_bucket": {"type": "str"},
        "proof_prefix": {"type": "str"},
        "unproven_reason": {"type": "str"},
        "deadline_s": {"type": "int", "default": 1800},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="apt_upgrade", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
