#!/usr/bin/python
"""Module server_preflight: whether a server is the one that the inventory means."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_preflight
short_description: Verify the identity of a server and take its lease
description:
  - Verifies that the host of this task, in the inventory's group C(servers), has the machine id and the name that the
    inventory pins. The server's SSH key is verified by Ansible's connection. Run M(runbook_preflight) first in the same
    run.
  - Takes the lease if the inventory names a state store. C(ansible-playbook) renews and releases it.
  - Records the result in the folder of the run. Modules that write to a server refuse one that has not passed in the
    same run.
options:
  machine_id:
    description: What C(/etc/machine-id) of the server says, 32 hexadecimal digits.
    type: str
  hostname:
    description: What C(uname -n) of the server says.
    type: str
    required: true
extends_documentation_fragment:
  - runbook_state
  - runbook_lease
attributes:
  check_mode:
    support: full
    description:
      - Runs the checks. Reads the lease without taking it, and fails if another run holds it. Other modules of the run
        may then only read.
  diff_mode: {support: none, description: Writes nothing.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Verify the server
  server_preflight:
    machine_id: 9f86d081884c4d659a2feaa0c55ad015
    hostname: web1
"""

RETURN = r"""
changed: {description: V(false)., type: bool, returned: always}
msg: {description: "What was verified, or which check failed and the fix.", type: str, returned: always}
status: {description: "V(ok), V(breach) if it is another server, V(unknown) if it does not answer.", type: str,
         returned: always}
checks:
  description: The checks, C(identity) and C(lease), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when this run passed M(runbook_preflight)
target:
  description: The verified target, with C(kind) (V(server)), C(place) (machine id), C(name) and C(environment).
  type: dict
  returned: success
lease:
  description: As M(supabase_preflight) returns it.
  type: dict
  returned: success
system: {description: Name and version of the operating system., type: str, returned: success}
"""

from typing import Any

from ansible.module_utils.runbook.drivers import lease_wait, permits, state_lease
from ansible.module_utils.runbook.drivers.updates import apt
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.updates import server

#: It runs on the bastion, and reaches its host by commands over Ansible's connection.
BY_COMMANDS = True


def core(context: Context) -> dict[str, Any]:
    """Compare the server with the inventory, and write down what passed."""
    params, checks = context.params, preflight.Checks()
    context.require_bounds(lease_wait.BOUNDS)
    approval = permits.require_approval(context.run)
    with checks.named("identity") as check:
        preflight.check_filled_in({"hostname": params["hostname"]})
        machine_id, hostname, system = apt.identity()
        if not machine_id:
            raise RunbookError(
                f"{hostname or 'The server'} has no /etc/machine-id; run systemd-machine-id-setup there."
            )
        server.check_identity(
            machine_id, hostname, wanted_id=params["machine_id"] or "", wanted_name=params["hostname"],
            own_id="" if approval.environment == "sandbox" else apt.own_machine_id(),
        )  # fmt: skip
        check["msg"] = f"{hostname} ({system}) is the server that the inventory means."
    target = Target("server", machine_id, hostname)
    admitted = state_lease.admit(params, context.run, target, approval, checks, context.progress.update)
    return context.conclude(checks.done, msg=checks.done[0].msg, system=system, **admitted)


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return state_lease.argument_spec() | {
        "machine_id": {"type": "str"},
        "hostname": {"type": "str", "required": True},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="server_preflight", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
