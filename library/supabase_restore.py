#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_restore
short_description: Takes a Supabase project's database back to an earlier state
description:
  - Supabase restores in place. The living database is replaced, and the project cannot be reached meanwhile. Objects of
    Supabase Storage stay as they are. Replication slots and subscriptions must be dropped first.
  - O(action=list) shows what can be restored. O(action=restore) asks for a restore, once, waits for its end and checks
    the project's health. O(action=wait) and O(action=verify) do those last steps alone.
  - The request is never repeated. Where the answer to it is lost, the module reads the project's state. If that does
    not tell, it stops with V(unknown), and a person looks at the dashboard.
  - A restore that is on its way already is not started again.
extends_documentation_fragment: runbook_supabase
options:
  action:
    description:
      - What to do.
    type: str
    choices: [list, restore, wait, verify]
    default: list
  project_name:
    description:
      - Name of the project as pinned in the inventory. Another project that answers is refused.
    type: str
    default: ''
  recovery_time:
    description:
      - The moment to go back to, as ISO 8601 with its time zone, to the second. Needs point-in-time recovery. With
        O(action=restore) either this or O(backup_id) is given.
    type: str
  backup_id:
    description:
      - The backup to go back to, as O(action=list) shows it.
    type: int
  overwrite:
    description:
      - Reference of the project whose living database may be replaced. O(action=restore) needs it, in every
        environment, and a person types it.
    type: str
    default: ''
  environment:
    description:
      - What the inventory is, V(sandbox), V(staging) or V(production). O(action=restore) wants the project to have
        passed M(supabase_preflight) in this run.
    type: str
    required: true
  wait_timeout_s:
    description:
      - Longest wait for the end of a restore, in seconds.
    type: int
    default: 7200
  start_timeout_s:
    description:
      - How long the project may take to say that a restore has begun, in seconds.
    type: int
    default: 180
  poll_s:
    description:
      - Seconds between two looks at the project's state.
    type: float
    default: 15.0
attributes:
  check_mode:
    support: full
    description: All checks run and the plan is made; nothing is asked for.
  diff_mode:
    support: none
    description: The plan is one sentence.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: What can be restored
  supabase_restore:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    project_name: mental-scribe
    environment: "{{ runbook_environment }}"

- name: Go back to the minute before the accident
  supabase_restore:
    action: restore
    recovery_time: "2026-11-23T02:59:00Z"
    overwrite: abcdefghijklmnopqrst
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    project_name: mental-scribe
    environment: production
"""

RETURN = r"""
changed:
  description: Whether a restore was begun, or would be in check mode.
  type: bool
  returned: always
msg:
  description: One sentence that says what was done, and how the project is.
  type: str
  returned: always
status:
  description: V(ok), V(breach), or V(unknown) where the API did not say enough.
  type: str
  returned: always
project_status:
  description: State of the project as it was seen last.
  type: str
  returned: when the API answered
plan:
  description: What the restore goes back to, in words.
  type: str
  returned: with O(action=restore)
earliest:
  description: The oldest moment that can be restored, null if there is none.
  type: str
  returned: with O(action=list) and O(action=restore)
latest:
  description: The newest moment that can be restored, null if there is none.
  type: str
  returned: with O(action=list) and O(action=restore)
backups:
  description: The daily backups, newest first, each with C(id), C(status), C(is_physical) and C(inserted_at).
  type: list
  elements: dict
  returned: with O(action=list) and O(action=restore)
checks:
  description: Health of the project and its services, each with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: after the wait
duration_s:
  description: How long the module waited for the restore, in seconds.
  type: float
  returned: after a wait
"""

import time
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase, argument_spec
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.status import Status, sentence, worst
from ansible.module_utils.runbook.rules.supabase import supabase as rules
from ansible.module_utils.runbook.rules.words import count


class Restore:
    """One call of the module."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        for name in ("wait_timeout_s", "start_timeout_s", "poll_s", "timeout_s"):
            if params[name] <= 0:
                raise RunbookError(f"{name}: {params[name]} is not possible; give a number of seconds above 0.")
        if params["action"] == "restore":
            rules.check_overwrite(params["overwrite"], params["project_ref"])
        self.api = Supabase(
            api_url=rules.check_api_url(params["api_url"]),
            project_ref=rules.check_ref(params["project_ref"]),
            access_token=params["access_token"],
            ca_cert=params["ca_cert"],
            timeout_s=params["timeout_s"],
            read_only=context.check_mode,
        )
        if params["action"] == "restore":
            permits.require(context.run, self.api.target, params["environment"])
        self.project = rules.parse_project(self.api.project())
        rules.check_identity(self.project, ref=params["project_ref"], name=params["project_name"])
        self.facts: dict[str, Any] = {"changed": False, "status": "ok", "project_status": self.project.status}
        #: The project was seen at work since the restore was asked for, so ACTIVE_HEALTHY is not the state from before.
        self.seen_working = True

    def run(self) -> dict[str, Any]:
        """Do what was asked; the result of the module."""
        action = self.params["action"]
        if action == "list":
            return self.facts | {"msg": self._read_backups()[1]}
        if action == "restore":
            begun = self._restore()
            if self.context.check_mode:
                return self.facts | {"msg": begun}
            self._wait()
        elif action == "wait":
            begun = ""
            self._wait()
        else:
            begun = ""
        return self._verify(begun)

    def _read_backups(self) -> tuple[rules.Backups, str]:
        backups = rules.parse_backups(self.api.backups())
        earliest, latest = rules.oldest(backups), rules.newest(backups)
        self.facts |= {
            "earliest": earliest and earliest.isoformat(),
            "latest": latest and latest.isoformat(),
            "backups": rules.as_results(backups),
        }
        between = f"between {earliest:%Y-%m-%d %H:%M:%S} and {latest:%Y-%m-%d %H:%M:%S} UTC" if latest else "to no time"
        how = "any second" if backups.pitr_enabled else count(len(backups.backups), "backup")
        return backups, f"Project {self.project.name} is {self.project.status}; it can go back {between} ({how})."

    def _restore(self) -> str:
        """Ask for the restore, once; a sentence that says what was asked."""
        if self.project.status == rules.RESTORING:
            self.context.warn("A restore is on its way already; it is waited for, and no other one is begun.")
            return "A restore was on its way already. "
        recovery_time, backup_id = self.params["recovery_time"], self.params["backup_id"]
        rules.check_target(recovery_time, backup_id, self.project.status)
        wanted = moment.read("recovery_time", recovery_time) if recovery_time else None
        backups, _msg = self._read_backups()
        if wanted is not None:
            plan = rules.check_point_in_time(backups, wanted, datetime.now(UTC))
        else:
            plan = rules.check_backup_id(backups, backup_id)
        self.facts |= {"plan": plan, "changed": True}
        if self.context.check_mode:
            return f"Would replace the database of {self.project.name} and take it back {plan}."
        self.seen_working = False
        try:
            if wanted is not None:
                self.api.restore_to_time(int(wanted.timestamp()))
            else:
                self.api.restore_backup(backup_id)
        except ApiError as error:
            if not error.uncertain:
                refused = self.facts | {"changed": False, "status": error.context["status"]}
                raise RunbookError(f"{error.message} Nothing was begun.", **refused) from None
            self._find_out(error)
        return f"Took the database of {self.project.name} back {plan}. "

    def _find_out(self, error: ApiError) -> None:
        """The answer is lost: the state of the project tells whether the request took effect."""
        until = time.monotonic() + self.params["start_timeout_s"]
        while time.monotonic() < until:
            if self._look() == rules.RESTORING:
                self.seen_working = True
                self.context.warn(f"{error.message} The project says that the restore has begun.")
                return
            time.sleep(self.params["poll_s"])
        raise RunbookError(
            f"{error.message} The project is {self.facts['project_status']} and does not say whether the restore "
            "has begun; look at its dashboard before you run this again, for it was not asked twice.",
            **self.facts | {"status": "unknown"},
        )

    def _look(self) -> str:
        """State of the project now; empty where the API gives none, since a restore is no reason to answer well."""
        try:
            project = rules.parse_project(self.api.project())
        except ApiError as error:
            if error.http_status is not None and error.http_status in (401, 403, 404):
                raise RunbookError(
                    f"{error.message} What became of the restore is not known.", **self.facts | {"status": "unknown"}
                ) from None
            return ""
        self.facts["project_status"] = project.status
        return project.status

    def _wait(self) -> None:
        """Wait until the restore is over, and the project is well."""
        started = time.monotonic()
        while True:
            state = self._look()
            waited_s = time.monotonic() - started
            self.facts["duration_s"] = round(waited_s, 1)
            self.context.progress.update(f"project is {state or 'silent'}", waited_s, None, "s")
            if state and state not in (self.project.status, "ACTIVE_UNHEALTHY", rules.HEALTHY):
                self.seen_working = True
            if self.seen_working and state == rules.HEALTHY:
                return
            if self.seen_working and (state == rules.RESTORE_FAILED or state in rules.DEAD_ENDS):
                raise RunbookError(
                    f"The restore did not succeed: project {self.project.name} is {state}; see its dashboard, and "
                    "restore to another point or ask Supabase's support.",
                    **self.facts | {"status": "breach"},
                )
            if not self.seen_working and waited_s > self.params["start_timeout_s"]:
                raise RunbookError(
                    f"Supabase accepted the restore, and {waited_s:.0f} s later project {self.project.name} is "
                    f"{state or 'not to be reached'}; whether it was restored is not known: look at its dashboard.",
                    **self.facts | {"status": "unknown"},
                )
            if waited_s > self.params["wait_timeout_s"]:
                raise RunbookError(
                    f"Project {self.project.name} is {state or 'not to be reached'} after {waited_s:.0f} s; run with "
                    "action wait to go on waiting, the restore is not begun again.",
                    **self.facts | {"status": "unknown"},
                )
            time.sleep(self.params["poll_s"])

    def _verify(self, begun: str) -> dict[str, Any]:
        """Whether the project is well now."""
        project = rules.parse_project(self.api.project())
        checks = rules.judge_health(project, self.api.health(rules.SERVICES))
        status = worst(check.status for check in checks)
        self.facts |= {
            "project_status": project.status,
            "checks": [check.result() for check in checks],
            "status": status,
        }
        msg = begun + sentence(f"Project {project.name}", checks)
        if status != Status.OK:
            raise RunbookError(msg, **self.facts)
        return self.facts | {"msg": msg}


def core(context: Context) -> dict[str, Any]:
    """List, restore, wait or verify."""
    return Restore(context).run()


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="supabase_restore",
        argument_spec={
            **argument_spec(),
            "action": {"type": "str", "default": "list", "choices": ["list", "restore", "wait", "verify"]},
            "project_name": {"type": "str", "default": ""},
            "recovery_time": {"type": "str"},
            "backup_id": {"type": "int"},
            "overwrite": {"type": "str", "default": ""},
            "environment": {"type": "str", "required": True},
            "wait_timeout_s": {"type": "int", "default": 7200},
            "start_timeout_s": {"type": "int", "default": 180},
            "poll_s": {"type": "float", "default": 15.0},
        },
    )


if __name__ == "__main__":
    main()
