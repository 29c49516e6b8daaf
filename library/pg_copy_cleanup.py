#!/usr/bin/python
"""Module pg_copy_cleanup: drops what killed restores left, and names the copies that wait for a person."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_copy_cleanup
short_description: Drop unfinished copies of a database, and name those that wait
description:
  - Looks at the databases of the server that bear the project's mark as copies of this one.
  - Drops those that a killed restore or proof left unfinished, six hours after they were begun, if no run is at work in
    them and nobody is connected to them; and those that failed their proof and were kept for a week.
  - Never drops what was finished. A restored database that waits to be swapped in, and one that was live before a swap,
    belong to a person. Each that is older than O(remind_after_days) is a warning with the statement that drops it.
  - Other databases are not touched, whatever they are called.
options:
  remind_after_days:
    description:
      - Age in days from which on a copy that stays is a warning, 1 to 3650.
    type: int
    default: 14
extends_documentation_fragment:
  - runbook_postgresql
attributes:
  check_mode:
    description: Returns the plan of the real run.
    support: full
  diff_mode:
    description: Shows the databases that go.
    support: full
notes:
  - A database is dropped by its owner, as a rule the user of M(pg_restore). Copies of others are named instead.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Drop what killed restores left
  pg_copy_cleanup:
    login_host: db.example.com
    login_user: runbook_restorer
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
"""

RETURN = r"""
msg:
  description: What was dropped and what waits, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where something was refused.
  type: str
  returned: always
copies:
  description:
    - Each copy with C(name), C(state), C(owner), C(size_bytes) (null where this user may not know it), C(sessions),
      C(age_days), C(action) (V(drop), V(keep) or V(tell)) and C(why).
  type: list
  elements: dict
  returned: success
removed_databases:
  description: Databases that were dropped, or would be.
  type: list
  elements: str
  returned: success
waiting_databases:
  description: Databases that a person is told of.
  type: list
  elements: str
  returned: success
"""

from datetime import UTC
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import new_database as driver
from ansible.module_utils.runbook.drivers.backup import swap
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import copies as rules
from ansible.module_utils.runbook.rules.text import as_lines

LOCK_TIMEOUT_MS = 5_000
#: A large database is dropped in seconds, and its checkpoint takes longer.
STATEMENT_TIMEOUT_MS = 600_000


def core(context: Context) -> dict[str, Any]:
    """Decide on each copy, then drop."""
    params = context.params
    context.require_bounds({"remind_after_days": (1, 3_650)})
    target = postgres.Target.from_params(params)
    timeouts = {"lock_timeout_ms": LOCK_TIMEOUT_MS, "statement_timeout_ms": STATEMENT_TIMEOUT_MS}
    with postgres.Session(target, **timeouts, purpose="pg_copy_cleanup") as session:
        permits.require_database(context.run, session)
        session.require_primary()
        now = swap.server_now(session).replace(tzinfo=UTC)
        found = rules.read(driver.copies(session), target.database)
        bounds = {"database": target.database, "now": now, "remind_after_days": params["remind_after_days"]}
        abandoned = driver.abandoned(session)
        fates = [rules.fate(each, abandoned=abandoned, **bounds) for each in found]
        wanted = {each.name: each.comment for each, fate in zip(found, fates, strict=True) if fate.action == "drop"}
        told = [each for each, fate in zip(found, fates, strict=True) if fate.action == "tell"]
        removed = list(wanted)
        if wanted and not context.check_mode:
            with lease.writing(session, context.run):
                removed = driver.clear(session, wanted, needed=None, warn=context.warn)
            driver.drop_roles(target)
        for each in told:
            context.warn(rules.sentence(each, now))
    waiting = [each.name for each in told]
    shown = {"diff": {"prepared": as_lines([f"drop database {name}" for name in wanted])}} if context.diff else {}
    return shown | {
        "changed": bool(removed),
        "msg": rules.summary(removed, waiting, len(found) - len(removed) - len(waiting), check_mode=context.check_mode),
        "copies": rules.as_results(found, fates, now),
        "removed_databases": removed,
        "waiting_databases": waiting,
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_copy_cleanup",
        argument_spec=postgres.argument_spec() | {"remind_after_days": {"type": "int", "default": 14}},
    )


if __name__ == "__main__":
    main()
