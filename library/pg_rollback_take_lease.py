#!/usr/bin/python
"""Module pg_rollback_take_lease: take the lease of a restored server from a run of its time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_rollback_take_lease
short_description: Take over the lease that a restored server brought along
description:
  - A server that was restored to a moment holds the lease of whoever worked on the database at that moment. This sees
    that the server that answers is the one that was restored, removes that lease, and takes one for this run.
options:
  data_dir:
    description:
      - Data folder of the restored server. Another server is refused.
    type: str
    required: true
  target_time:
    description:
      - The moment that it was restored to, in ISO 8601 with its offset. Another server is refused.
    type: str
    required: true
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_backups
attributes:
  check_mode:
    description: Checks the server, and writes nothing.
    support: full
  diff_mode:
    description: The change is one sentence.
    support: none
notes:
  - The O(login_host) family of options names the restored server.
  - O(prefix) is where the copy will lie; the folder of the backups themselves is refused.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Take the lease of the restored server
  pg_rollback_take_lease:
    data_dir: /srv/restore/data
    target_time: "2026-11-23T14:29:00+00:00"
    prefix: production/rollback
    login_host: 127.0.0.1
    login_port: 5433
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
"""

RETURN = r"""
msg:
  description: What was done, in a few words.
  returned: always
  type: str
status:
  description: V(ok), V(breach) where it was refused, or V(unknown) where a server gave no answer.
  returned: always
  type: str
executed_queries:
  description: Statements that changed something on the server.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import rollback as driver
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import rollback as rules


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return postgres.argument_spec() | {
        "data_dir": {"type": "str", "required": True},
        "target_time": {"type": "str", "required": True},
        "prefix": {"type": "str", "default": ""},
    }


def core(context: Context) -> dict[str, Any]:
    """Take the lease of a restored server, which may hold one for a run of its time.

    :raises RunbookError: the server that answers is another one, or its database would go to where backups lie
    """
    params = context.params
    with driver.connect(postgres.Target.from_params(params), "pg_rollback_take_lease") as session:
        rules.check_restored(
            driver.read_restored(session), data_dir=params["data_dir"], target_time=params["target_time"]
        )
        rules.check_copies_prefix(params["prefix"])
        # The copy is as the live one was at that moment; nobody froze the copy.
        permits.require_database(context.run, session, may_be_frozen=True)
        left = lease.read(session)
        if not context.check_mode:
            if left is not None:
                lease.release(session, run_id=left.run_id)
            lease.acquire(session, context.run, purpose="rollback.yml")
        msg = "This run holds the lease of the restored server."
        if left is not None:
            msg += f" The one of {left.run_id}, which worked on the database at that moment, is removed."
        return {"changed": True, "executed_queries": session.executed_queries, "msg": msg}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_rollback_take_lease", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
