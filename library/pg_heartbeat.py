#!/usr/bin/python
"""Module pg_heartbeat: a row now and then, by which a restored copy tells up to when it goes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_heartbeat
short_description: Write a heartbeat into the database
description:
  - Writes a row with the time of this machine's clock into C(runbook.heartbeat), once or for a while, each in a
    transaction of its own, and removes rows that are too old.
  - A drill (M(dr_drill_verify)) compares the last row of the restored copy with the last one of the live database.
    Without a heartbeat it cannot tell what a disaster would have lost.
  - The table is made where this user may make it.
options:
  interval_s:
    description:
      - Seconds from one row to the next. A drill measures no finer.
    type: int
    default: 10
  duration_s:
    description:
      - Seconds for which rows are written; 0 for one row.
    type: int
    default: 0
  keep_days:
    description:
      - Rows older than this number of days are removed.
    type: int
    default: 7
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    description: Says how many rows would be written.
    support: full
  diff_mode:
    description: Shows the same sentence.
    support: full
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: A heartbeat every ten seconds for an hour
  pg_heartbeat:
    login_host: db.example.com
    login_user: runbook_bastion
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
    duration_s: 3590
"""

RETURN = r"""
msg:
  description: What was written, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where a row could not be written, or V(unknown) where a server gave no answer.
  type: str
  returned: always
beats:
  description: Rows that were written, or would be.
  type: int
  returned: success
removed_rows:
  description: Rows that were too old.
  type: int
  returned: success
last_beat_at:
  description: Time of the last row; null in check mode.
  type: str
  returned: success
duration_s:
  description: Seconds in all.
  type: float
  returned: success
executed_queries:
  description: Statements that ran, each once.
  type: list
  elements: str
  returned: success
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import heartbeat as driver
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import heartbeat as rules
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, to_second

#: Options whose value must lie between two bounds.
BOUNDS = {"interval_s": (1, 3_600), "duration_s": (0, 86_400), "keep_days": (1, 3_650)}


def core(context: Context) -> dict[str, Any]:
    """Write the rows."""
    params = context.params
    context.require_bounds(BOUNDS)
    wanted = rules.beats(interval_s=params["interval_s"], duration_s=params["duration_s"])
    target = postgres.Target.from_params(params)
    begun = time.monotonic()
    result: dict[str, Any] = {
        "changed": True, "beats": wanted, "removed_rows": 0, "last_beat_at": None, "duration_s": 0.0,
        "executed_queries": list(driver.STATEMENTS),
    }  # fmt: skip
    with postgres.Session(target, lock_timeout_ms=5_000, statement_timeout_ms=10_000, purpose="heartbeat") as session:
        permits.require_database(context.run, session)
        if context.check_mode:
            result["msg"] = f"Would write {count(wanted, 'heartbeat')} to {target}."
            return _shown(context, result)
        trouble = driver.ensure(session)
        if trouble:
            raise RunbookError(rules.refused(target.user, is_missing=trouble == "missing"))
        result["removed_rows"] = driver.remove_before(session, datetime.now(UTC) - timedelta(days=params["keep_days"]))
        for number in range(wanted):
            time.sleep(max(0.0, begun + number * params["interval_s"] - time.monotonic()))
            result["last_beat_at"] = driver.beat(session).isoformat()
            context.progress.update("heartbeat", number + 1, wanted, "rows", final=number + 1 == wanted)
    result["duration_s"] = round(time.monotonic() - begun, 3)
    result["msg"] = (
        f"Wrote {count(wanted, 'heartbeat')} to {target}, the last at {to_second(str(result['last_beat_at']))}."
    )
    return _shown(context, result)


def _shown(context: Context, result: dict[str, Any]) -> dict[str, Any]:
    return result | ({"diff": {"prepared": as_lines([result["msg"]])}} if context.diff else {})


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "interval_s": {"type": "int", "default": 10},
        "duration_s": {"type": "int", "default": 0},
        "keep_days": {"type": "int", "default": 7},
    }
    run_module(core, name="pg_heartbeat", argument_spec=postgres.argument_spec() | spec)


if __name__ == "__main__":
    main()
