#!/usr/bin/python
"""Module supabase_restore: take a Supabase project's database back to an earlier state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_restore
short_description: Restore a Supabase project's database to an earlier state
description:
  - Requests a restore once, waits for its end, and checks the health of the project.
  - Supabase restores in place. It replaces the live database, and the project is unavailable meanwhile. Objects of
    Supabase Storage are not changed. Drop replication slots and subscriptions first.
  - Never repeats the request. If the answer is lost, the module reads the status of the project. If that does not show
    what happened, the result is V(unknown); look at the dashboard.
  - Does not request a restore while one is running.
  - M(supabase_restore_info) shows the available points in time, M(supabase_restore_wait) only waits, and
    M(supabase_project_check) only checks the health.
extends_documentation_fragment: runbook_supabase
options:
  recovery_time:
    description:
      - Point in time to restore to, in ISO 8601 with time zone, to the second. Requires point-in-time recovery.
        Mutually exclusive with O(backup_id); one of them is required.
    type: str
  backup_id:
    description:
      - ID of the backup to restore, as returned by M(supabase_restore_info).
    type: int
  overwrite:
    description:
      - Reference of the project whose live database may be replaced. Required in every environment. Type it on the
        command line; do not store it.
    type: str
    default: ''
  environment:
    description:
      - Environment of this run, V(sandbox), V(staging) or V(production). The project must have passed
        M(supabase_preflight) in the same run.
    type: str
    required: true
  wait_timeout_s:
    description:
      - Longest time to wait for the end of the restore, in seconds.
    type: int
    default: 7200
  start_timeout_s:
    description:
      - Longest time to wait until the project reports the start of the restore, in seconds.
    type: int
    default: 180
  poll_s:
    description:
      - Seconds between two requests for the status of the project.
    type: float
    default: 15.0
attributes:
  check_mode:
    support: full
    description: Runs all checks and returns the plan. Requests nothing.
  diff_mode:
    support: none
    description: The plan is one sentence.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Restore to the minute before the accident
  supabase_restore:
    recovery_time: "2026-11-23T02:59:00Z"
    overwrite: abcdefghijklmnopqrst
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    project_name: mental-scribe
    environment: production
"""

RETURN = r"""
changed:
  description: Whether a restore was requested, or would be in check mode.
  type: bool
  returned: always
msg:
  description: What was done, and the health of the project, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach), or V(unknown) if the API did not say enough.
  type: str
  returned: always
project_status:
  description: Last known status of the project.
  type: str
  returned: when the API answered
plan:
  description: What is restored, in words.
  type: str
  returned: unless a restore was running
earliest:
  description: Earliest point in time that can be restored; null if there is none.
  type: str
  returned: unless a restore was running
latest:
  description: Latest point in time that can be restored; null if there is none.
  type: str
  returned: unless a restore was running
backups:
  description: The daily backups, newest first, each with C(id), C(status), C(is_physical) and C(inserted_at).
  type: list
  elements: dict
  returned: unless a restore was running
checks:
  description: Health of the project and its services, each with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: after the wait
duration_s:
  description: Time that the module waited for the restore, in seconds.
  type: float
  returned: after a wait
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase
from ansible.module_utils.runbook.drivers.supabase.supabase import argument_spec as shared_options
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.status import Status, sentence
from ansible.module_utils.runbook.rules.supabase import supabase as rules


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return shared_options() | {
        "recovery_time": {"type": "str"},
        "backup_id": {"type": "int"},
        "overwrite": {"type": "str", "default": ""},
        "environment": {"type": "str", "required": True},
        "wait_timeout_s": {"type": "int", "default": 7200},
        "start_timeout_s": {"type": "int", "default": 180},
        "poll_s": {"type": "float", "default": 15.0},
    }


class Restore:
    """One restore, from the plan to the project's health."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        rules.check_seconds({
            name: params[name] for name in ("wait_timeout_s", "start_timeout_s", "poll_s", "timeout_s")
        })  # fmt: skip
        rules.check_overwrite(params["overwrite"], params["project_ref"])
        self.api = Supabase.from_params(params, read_only=context.check_mode)
        permits.require(context.run, self.api.target, params["environment"])
        self.project = rules.parse_project(self.api.project())
        rules.check_identity(self.project, ref=params["project_ref"], name=params["project_name"] or "")
        #: What is known so far; an error tells it too.
        self.facts: dict[str, Any] = {"changed": False, "project_status": self.project.status}

    def plan(self) -> tuple[str, int | None]:
        """What the restore goes back to, in words, and the moment in seconds since 1970 unless it is a backup.

        :raises RunbookError: it cannot go back to that
        """
        recovery_time, backup_id = self.params["recovery_time"], self.params["backup_id"]
        rules.check_target(recovery_time, backup_id, self.project.status)
        wanted = moment.read("recovery_time", recovery_time) if recovery_time else None
        backups = rules.parse_backups(self.api.backups())
        self.facts |= rules.as_figures(backups)
        if wanted is None:
            return rules.check_backup_id(backups, backup_id), None
        return rules.check_point_in_time(backups, wanted, datetime.now(UTC)), int(wanted.timestamp())

    def ask(self, at: int | None) -> bool:
        """Ask for the restore, once; whether the project has said that it began."""
        try:
            if at is not None:
                self.api.restore_to_time(at)
            else:
                self.api.restore_backup(self.params["backup_id"])
        except ApiError as error:
            if not error.uncertain:
                raise RunbookError(
                    f"{error.message} Nothing was started.", **(self.facts | {"changed": False} | error.context)
                ) from None
            self.find_out(error)
            return True
        return False

    def find_out(self, error: ApiError) -> None:
        """The answer is lost: the state of the project tells whether the request took effect."""

        def has_begun(state: str, waited_s: float) -> bool:
            if state != rules.RESTORING and waited_s >= self.params["start_timeout_s"]:
                raise RunbookError(
                    f"{error.message} The project is {self.facts['project_status']} and does not say whether the "
                    "restore has started; look at its dashboard before you run this again, for it was not asked twice.",
                    status=Status.UNKNOWN,
                )
            return state == rules.RESTORING

        self.wait(has_begun)
        self.context.warn(f"{error.message} The project says that the restore has started.")

    def wait(self, is_over: Any) -> None:
        """Look at the project until ``is_over``; an error tells the facts.

        :raises RunbookError: it does not end well
        """

        def tell(state: str, waited_s: float) -> None:
            self.facts |= {"duration_s": round(waited_s, 1)} | ({"project_status": state} if state else {})
            self.context.progress.update(f"project is {state or 'silent'}", waited_s, None, "s")

        try:
            self.api.wait(rules.parse_project, is_over, poll_s=self.params["poll_s"], tell=tell)
        except RunbookError as error:
            raise RunbookError(error.message, **(self.facts | error.context)) from None

    def act(self) -> dict[str, Any]:
        """Restore, wait, and check the project."""
        has_begun = self.project.status == rules.RESTORING
        if has_begun:
            self.context.warn("A restore is on its way already; it is waited for, and no other one is started.")
            begun = "A restore was on its way already. "
        else:
            plan, at = self.plan()
            self.facts |= {"plan": plan, "changed": True}
            begun = f"Took the database of {self.project.name} back {plan}. "
            if not self.context.check_mode:
                has_begun = self.ask(at)
        if self.context.check_mode:
            would = f"Would replace the database of {self.project.name} and take it back {self.facts.get('plan')}."
            return self.facts | {"msg": begun if has_begun else would}
        self.wait(
            rules.Waiting(
                self.project, self.params["wait_timeout_s"], None if has_begun else self.params["start_timeout_s"]
            ).is_over
        )
        project = rules.parse_project(self.api.project())
        checks = rules.judge_health(project, self.api.health(rules.SERVICES))
        return self.context.conclude(
            checks,
            msg=begun + sentence(f"Project {project.name}", checks),
            **(self.facts | {"project_status": project.status}),
        )


def core(context: Context) -> dict[str, Any]:
    """Restore."""
    return Restore(context).act()


def main() -> None:
    """Entry point."""
    run_module(core, name="supabase_restore", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
