#!/usr/bin/python
"""Module pg_rollback_compare: what a swap would change, table by table."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_rollback_compare
short_description: Compare the live database with a copy, table by table
description:
  - Counts and hashes every table of the live database and of O(replacement), and says which differ. It returns
    numbers and names, never the content of a row.
options:
  replacement:
    description:
      - Name of the copy, on the same server.
    type: str
    required: true
  jobs:
    description:
      - Tables of each database that are read at the same time, 1 to 16.
    type: int
    default: 2
  deadline_s:
    description:
      - When the comparison is given up, in seconds.
    type: int
    default: 300
extends_documentation_fragment:
  - runbook_postgresql
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: Nothing is changed.
    support: none
notes:
  - O(login_db) is the live database.
  - Reading every table needs a superuser, or C(pg_read_all_data) and BYPASSRLS.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: What would the swap change
  pg_rollback_compare:
    replacement: mental_scribe_pitr_2026-11-23T14-29-00Z
    login_host: db.example.com
    login_user: postgres
    login_db: mental_scribe
"""

RETURN = r"""
msg:
  description: What was found, in a few words.
  returned: always
  type: str
status:
  description: V(ok), or V(unknown) where a table could not be compared.
  returned: always
  type: str
differences:
  description:
    - For each table its C(status) (V(equal), V(differs), V(only_live), V(only_copy) or V(unknown)), its
      C(live_rows) and C(copy_rows), and the C(reason) where it is not known.
  returned: success
  type: list
  elements: dict
differing:
  description: Number of tables that are not equal.
  returned: success
  type: int
duration_s:
  description: Seconds in all.
  returned: success
  type: float
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.backup import proof
from ansible.module_utils.runbook.drivers.backup import rollback as driver
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import rollback as rules
from ansible.module_utils.runbook.rules.postgres import content_hash as hashes
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.backup.proof import Found

#: Options whose value must lie between two bounds.
BOUNDS = {"jobs": (1, 16), "deadline_s": (1, 604_800)}
PURPOSE = "pg_rollback_compare"


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return postgres.argument_spec() | {
        "replacement": {"type": "str", "required": True},
        "jobs": {"type": "int", "default": 2},
        "deadline_s": {"type": "int", "default": 300},
    }


def read_all(context: Context, target: postgres.Target, clock: Clock) -> Found:
    """Count and hash every table of a database."""
    left_ms = clock.left_ms()
    with driver.connect(target, PURPOSE) as session, driver.unlocked(session):
        return proof.read(
            lambda: driver.connect(target, PURPOSE, statement_timeout_ms=left_ms),
            method=hashes.method(session.server_version),
            coverage="all",
            jobs=context.params["jobs"],
            check=lambda: clock.check("give it more time with -e db_rollback_compare_deadline_s=<seconds>"),
            on_bytes=lambda done, total: context.progress.update(f"compare {target.database}", done, total, "bytes"),
        )


def core(context: Context) -> dict[str, Any]:
    """Say what the swap would change."""
    params = context.params
    context.require_bounds(BOUNDS)
    if not params["replacement"]:
        raise RunbookError("replacement: it is empty; name the database that the live one is compared with.")
    live = postgres.Target.from_params(params)
    clock = Clock(params["deadline_s"])
    with driver.connect(live, PURPOSE) as session:
        silent = postgres.silencing(session)
    found = rules.differences(
        read_all(context, live, clock),
        read_all(context, replace(live, database=params["replacement"]).started_with(silent), clock),
    )
    return context.conclude(
        Status.of(unknown=any(each.status == Status.UNKNOWN for each in found)),
        msg=rules.difference_sentence(found, params["replacement"]),
        fail_on_breach=False,
        fail_on_unknown=False,
        differences=rules.as_result(found),
        differing=sum(each.status not in ("equal", Status.UNKNOWN) for each in found),
        duration_s=round(clock.passed_s(), 3),
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_rollback_compare", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
