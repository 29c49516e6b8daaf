#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_probe
short_description: Verify after a change that the application works
description:
  - Looks at pages for their status, their text, and the version that they serve, and asks the database smoke queries.
    What is not as it must be is looked at again until O(deadline_s) have passed, as a service may need a while to
    start.
  - A page that gives no answer is V(unknown), and so is a query that could not be asked.
options:
  smoke_queries:
    description:
      - Queries that give one value, in a session that cannot write. Needs the options of the database.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - What it is called in the result.
        type: str
        required: true
      query:
        description:
          - The query.
        type: str
        required: true
      expect:
        description:
          - The value, compared as text. Left out, any value is good but none, zero and false.
        type: str
  deadline_s:
    description:
      - Longest time for all of it, in seconds.
    type: int
    default: 60
extends_documentation_fragment:
  - runbook_pages
  - runbook_change
  - runbook_postgresql
  - runbook_state
attributes:
  check_mode:
    support: full
    description: It looks and asks, and answers no item.
  diff_mode:
    support: none
    description: Nothing is written but the item's answer.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: See that it works, in the version that was deployed
  change_probe:
    item: function-verified
    pages:
      - name: health
        url: https://app.example.com/api/health
        version: 2026.11.4
        version_field: version
      - name: sign-in
        url: https://app.example.com/login
        text: Sign in
    smoke_queries:
      - name: somebody wrote today
        query: SELECT count(*) FROM public.messages WHERE created_at > now() - interval '1 day'
    login_host: db.example.com
    login_user: runbook_read
    login_db: mental_scribe
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: One sentence that says what is not as it must be.
  type: str
  returned: always
status:
  description:
    - V(ok), V(breach); V(unknown) where something could not be seen, or is not as it must be and O(blocks=false).
  type: str
  returned: always
checks:
  description: Each page (C(page)) and query (C(smoke)) with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when it looked
answers:
  description: The item of the checklists that was answered.
  type: str
  returned: when one was
proof:
  description: What proves it, such as an address, an id or a figure.
  type: str
  returned: when one was answered
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change import http_probe
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import integrity, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change.probe import Page
from ansible.module_utils.runbook.rules.status import Check, Status, sentence, worst

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.http.api_client import Answer


def core(context: Context) -> dict[str, Any]:
    """Look at all pages, ask all queries, and answer the item."""
    params = context.params
    context.require_bounds({"deadline_s": (1, 3600), "timeout_s": (1, 600)})
    pages = [Page.of(each) for each in params["pages"]]
    if not pages and not params["smoke_queries"]:
        raise RunbookError("pages, smoke_queries: both are empty, so nothing would be verified; give at least one.")
    target = postgres.Target.from_params(params) if params["smoke_queries"] else None
    changes = Changes.from_params(params, context.run)
    changes.require_current()

    def act() -> Done:
        clock = Clock(params["deadline_s"])
        checks = [_look(page, params, clock) for page in pages]
        if target is not None:
            checks += _ask(target, params["smoke_queries"], clock)
        status = worst(check.status for check in checks)
        said = sentence("The application", checks)
        facts = {"checks": [check.result() for check in checks]}
        if status is Status.BREACH:
            raise RunbookError(said, **facts)
        return Done(said, proof=f"{len(checks)} checked", facts=facts, status=status)

    done = changes.conduct(params["item"], act, blocks=params["blocks"])
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **done.facts)


def _look(page: Page, params: dict[str, Any], clock: Clock) -> Check:
    def lacks(answer: Answer) -> str:
        return page.lacks(answer.status, answer.headers, answer.body.decode(errors="replace"))

    client = http_probe.client(page.url, page.ca_cert or None, answer_s=params["timeout_s"])
    seen = http_probe.wait_for(client, lacks, wait_s=clock.left_s())
    status = Status.of(breach=seen.lacks and seen.answered, unknown=seen.lacks)
    where = f"{page.url} " if seen.answered else ""
    return Check("page", status, f"{page.name}: {where}{seen.lacks}." if seen.lacks else "", page.name)


def _ask(target: postgres.Target, queries: list[dict[str, Any]], clock: Clock) -> list[Check]:
    """Ask once more what is not as it must be, while there is time."""
    while True:
        inquiry = integrity.Inquiry(target, jobs=1, deadline_s=max(1, int(clock.left_s())), lock_timeout_ms=5_000)
        checks = inquiry.ask(integrity.smoke(queries), lambda _done, _of: None)
        if all(check.status is Status.OK for check in checks) or clock.left_s() < 1:
            return [replace(each, msg=f"{each.subject}: {each.msg}.") if each.msg else each for each in checks]
        clock.sleep(1)


def main() -> None:
    """Run as an Ansible module."""
    query = {
        "name": {"type": "str", "required": True},
        "query": {"type": "str", "required": True},
        "expect": {"type": "str"},
    }
    spec = {
        "pages": http_probe.pages_option(),
        "smoke_queries": {"type": "list", "elements": "dict", "default": [], "options": query},
        "deadline_s": {"type": "int", "default": 60},
    }
    run_module(core, name="change_probe", argument_spec=postgres.argument_spec() | argument_spec() | spec)


if __name__ == "__main__":
    main()
