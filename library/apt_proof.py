#!/usr/bin/python
"""Module apt_proof: write down with which versions of packages a server works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_proof
short_description: Write down with which versions of packages a server works
description:
  - Reads the version of each package that is installed on the host of this task, and writes them into the state store.
    M(apt_upgrade) of another environment installs only what a server of this one worked with. Call it once the
    application was seen to work. Nothing is written for a server with packages that are half installed, or
    that has to be restarted before it runs what is installed.
options:
  hostname:
    description: The server's name, as M(server_preflight) verified it.
    type: str
    required: true
  machine_id:
    description: The server's machine id, as M(server_preflight) verified it.
    type: str
    required: true
extends_documentation_fragment: runbook_state
attributes:
  check_mode: {support: full, description: Writes nothing.}
  diff_mode: {support: none, description: Shows no difference.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Keep the proof
  apt_proof:
    hostname: web1
    machine_id: 9f86d081884c4d659a2feaa0c55ad015
    state_bucket: mental-scribe-state-staging
"""

RETURN = r"""
changed: {description: Whether it was written., returned: always, type: bool}
msg: {description: "What was written, or what has to be done first.", returned: always, type: str}
status:
  description:
    - V(ok); V(breach) if packages are half installed or the server has to be restarted; V(unknown) if nobody knows.
  returned: always
  type: str
packages: {description: Number of packages., returned: always, type: int}
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.updates import apt
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.updates import apt as rules
from ansible.module_utils.runbook.rules.words import count, some

#: It runs on the bastion, and reaches its host by commands over Ansible's connection.
BY_COMMANDS = True


def core(context: Context) -> dict[str, Any]:
    """Read, then write."""
    params = context.params
    hostname = params["hostname"]
    environment = permits.require_approval(context.run).environment
    permits.require(context.run, Target("server", params["machine_id"], hostname), environment)
    documents = Documents.from_params(params, context.run)
    packages = apt.installed()
    found = rules.restarts(apt.needrestart(), packages, reboot_asked=apt.reboot_asked())
    rules.check_runs(hostname, found)
    half = apt.unfinished()
    if half:
        raise RunbookError(f"{hostname}: no proof is written: {half} Run dpkg --configure -a there first.")
    now = datetime.now(UTC).isoformat()
    body = {"host": hostname, "environment": environment, "proven_at": now, "packages": rules.pairs(packages)}
    documents.update(f"updates/proof-{hostname}", lambda _found: body)
    rest = f" Without a restart of {some(found.services)}." if found.services else ""
    msg = f"{hostname}: works with {count(len(packages), 'package')}, kept as the proof for production.{rest}"
    return {"changed": True, "msg": msg, "packages": len(packages)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return state_store.argument_spec() | {
        "hostname": {"type": "str", "required": True},
        "machine_id": {"type": "str", "required": True},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="apt_proof", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
