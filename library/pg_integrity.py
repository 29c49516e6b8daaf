#!/usr/bin/python
"""Module pg_integrity: look whether a database is whole."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_integrity
short_description: Check the integrity of a database
description:
  - Looks for what is broken in a database that was restored, or that is suspected; it only reads.
  - What could not be looked at (a lock, a right, an extension, time) is V(unknown), and the task is then not green
    either.
extends_documentation_fragment: runbook_postgresql
options:
  checks:
    description:
      - V(sequences) - every sequence is ahead of the column that takes its values.
      - V(foreign_keys) - every foreign key is validated, and no row points at nothing.
      - V(indexes) - no index is invalid.
      - V(amcheck) - tables and B-tree indexes are gone through page by page with the extension amcheck, tables from
        PostgreSQL 14 on. It reads the whole database.
      - V(smoke) - the queries of O(smoke_queries).
    type: list
    elements: str
    choices: [sequences, foreign_keys, indexes, amcheck, smoke]
    default: [sequences, foreign_keys, indexes, smoke]
  smoke_queries:
    description:
      - Questions that only a working application's database answers. They run in read-only transactions.
      - Names must be qualified with their schema, because C(search_path) is C(pg_catalog).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - What the report calls it.
        type: str
        required: true
      query:
        description:
          - A query that gives one value.
        type: str
        required: true
      expect:
        description:
          - The value, as text. Without it the value must not be null, false or zero.
        type: str
  jobs:
    description:
      - Sessions that look at the same time, 1 to 16.
    type: int
    default: 2
  deadline_s:
    description:
      - Seconds after which what runs is cancelled. What was not looked at by then is V(unknown).
    type: int
    default: 3600
  lock_timeout_ms:
    description:
      - Longest wait for the lock on one table, in milliseconds.
    type: int
    default: 5000
attributes:
  check_mode:
    support: full
    description: It only reads, so it does the same.
  diff_mode:
    support: none
    description: It changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look whether the restored copy is whole
  pg_integrity:
    login_host: 127.0.0.1
    login_user: postgres
    login_db: mental_scribe_restored
    smoke_queries:
      - name: somebody wrote today
        query: SELECT count(*) FROM public.messages WHERE created_at > now() - interval '1 day'
"""

RETURN = r"""
msg:
  description: One sentence that says what was found.
  type: str
  returned: always
status:
  description: V(ok), V(breach) or V(unknown).
  type: str
  returned: always
checks:
  description: For each check its C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: always
objects:
  description: For each check the number of objects that were looked at.
  type: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
executed_queries:
  description: Always empty, because nothing is changed.
  type: list
  elements: str
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import integrity as driver
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.postgres import integrity as rules
from ansible.module_utils.runbook.rules.status import Status, worst

#: Options whose value must lie between two bounds.
BOUNDS = {"jobs": (1, 16), "deadline_s": (1, 604_800), "lock_timeout_ms": (1, 600_000)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    kinds = ["sequences", "foreign_keys", "indexes", "amcheck", "smoke"]
    return postgres.argument_spec() | {
        "checks": {
            "type": "list",
            "elements": "str",
            "choices": kinds,
            "default": ["sequences", "foreign_keys", "indexes", "smoke"],
        },
        "smoke_queries": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "query": {"type": "str", "required": True},
                "expect": {"type": "str"},
            },
        },
        "jobs": {"type": "int", "default": 2},
        "deadline_s": {"type": "int", "default": 3600},
        "lock_timeout_ms": {"type": "int", "default": 5000},
    }


def core(context: Context) -> dict[str, Any]:
    """Ask all questions, and put the answers together."""
    params = context.params
    context.require_bounds(BOUNDS)
    if not params["checks"]:
        raise RunbookError("checks: the list is empty; name at least one check.")
    begun = time.monotonic()
    # It looks at copies, which are to stay as they were restored.
    target = postgres.silenced(postgres.Target.from_params(params))
    with postgres.Session(
        target, lock_timeout_ms=params["lock_timeout_ms"], statement_timeout_ms=120_000, purpose="pg_integrity"
    ) as session:
        answers, questions = driver.questions(session, params["checks"], params["smoke_queries"], rules.judge_sequence)
    inquiry = driver.Inquiry(
        target, jobs=params["jobs"], deadline_s=params["deadline_s"], lock_timeout_ms=params["lock_timeout_ms"]
    )
    answers += inquiry.ask(questions, lambda done, of: context.progress.update("integrity", done, of, "objects"))
    checks = [rules.sum_up(kind, answers) for kind in dict.fromkeys(params["checks"])]
    bad = " ".join(check.msg for check in checks if check.status != Status.OK)
    status = worst(check.status for check in checks)
    msg = {
        Status.OK: f"{target.database} is whole: {', '.join(check.name for check in checks)} are in order.",
        Status.UNKNOWN: f"{target.database}: it is not known whether all is in order. {bad}",
        Status.BREACH: f"{target.database}: {bad}",
    }[status]
    # A right or an extension that is missing says nothing against the database: whoever asks goes on.
    return context.conclude(
        checks,
        msg=msg,
        fail_on_unknown=False,
        objects={check.name: sum(each.name == check.name for each in answers) for check in checks},
        duration_s=round(time.monotonic() - begun, 3),
        executed_queries=[],
    )


def main() -> None:
    """Entry point."""
    run_module(core, name="pg_integrity", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
