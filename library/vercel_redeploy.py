#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vercel_redeploy
short_description: Build what is live again, with the environment variables that there are now
description:
  - A deployment keeps the environment variables of its own time. This builds the commit that is live again, waits until
    the build is ready and live, and until O(version_url) says that it is served.
  - The build bears a name that follows from the set of variables. One that was asked for already is waited for and not
    made twice, also where the answer was lost or the run was killed. Where what is live is of this set, nothing is
    done.
  - A build that fails changes nothing. The domains lead where they led before.
  - While the project is rolled back, pushes stay without effect, as before. Vercel turns them on as the build goes
    live, and this turns them off again. A run that died in between is found by M(vercel_deployment_info), and the next
    one turns them off.
options:
  environment:
    description:
      - Environment of this run, V(sandbox), V(staging) or V(production). The project must have passed
        M(vercel_preflight) in the same run.
    type: str
    required: true
  version_url:
    description:
      - Page of the application, as users reach it, that says which deployment is served, as
        M(vercel_move_domains) has it. It needs the field C(deployment), as the commit is the same.
    type: str
    default: ''
  build_timeout_s:
    description:
      - Longest time until the build is ready, in seconds, 1 to 7200.
    type: int
    default: 1800
  wait_timeout_s:
    description:
      - Longest time until it is live, in seconds, 1 to 3600.
    type: int
    default: 300
  served_timeout_s:
    description:
      - Longest time until O(version_url) says that it is served, in seconds, 1 to 3600.
    type: int
    default: 120
  poll_s:
    description:
      - Seconds between two questions.
    type: float
    default: 5.0
extends_documentation_fragment: [runbook_vercel, runbook_state]
attributes:
  check_mode:
    support: full
    description: Says whether one would be built.
  diff_mode:
    support: none
    description: The plan is one sentence.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Let what is live have the variables of now
  vercel_redeploy:
    version_url: https://app.example.com/api/version
    environment: production
    project_id: prj_1a2b3c4d5e
    project_name: mental-scribe
    team_id: team_1a2b3c
    access_token: "{{ vercel_access_token }}"
    state_bucket: mental-scribe-state-production
"""

RETURN = r"""
changed:
  description: Whether something was built, or would be in check mode.
  type: bool
  returned: always
msg:
  description: What was done, or what is wrong and the fix, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if the build failed or something else is served, V(unknown) if nobody knows.
  type: str
  returned: always
checks:
  description: The check C(served), with its C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: after the build
was_live:
  description: The deployment that was live, with C(id), C(url), C(commit), C(branch) and C(created_at).
  type: dict
  returned: success
deployment:
  description: The one that is live now, with the same fields; null in check mode.
  type: dict
  returned: success
duration_s:
  description: Time until it was seen to be served, in seconds.
  type: float
  returned: after the build
"""

import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.deploy.served import look
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
from ansible.module_utils.runbook.drivers.deploy.vercel import argument_spec as shared_options
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.deploy import deployments, env, rollback

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.state_store import Reading

BOUNDS = {
    "build_timeout_s": (1, 7200), "wait_timeout_s": (1, 3600), "served_timeout_s": (1, 3600), "timeout_s": (1, 600),
}  # fmt: skip


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        shared_options()
        | state_store.argument_spec()
        | {
            "environment": {"type": "str", "required": True},
            "version_url": {"type": "str", "default": ""},
            "build_timeout_s": {"type": "int", "default": 1800},
            "wait_timeout_s": {"type": "int", "default": 300},
            "served_timeout_s": {"type": "int", "default": 120},
            "poll_s": {"type": "float", "default": 5.0},
        }
    )


class Redeployment:
    """One build of what is live, until users get it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        context.require_bounds(BOUNDS)
        if params["version_url"]:
            check_address("version_url", params["version_url"])
        self.api = Vercel.from_params(params, read_only=context.check_mode)
        permits.require(context.run, self.api.target, params["environment"])
        self.project = self.api.project()
        deployments.check_identity(self.project, self.api.place, params["project_name"] or "")
        self.documents, self.document = (
            Documents.from_params(params, context.run),
            rollback.document_name(params["project_id"]),
        )
        found = self.documents.read(self.document).document
        self.is_let_go = rollback.is_let_go(found.body if found else None, self.project)
        rollback.under_way(self.project, None)
        if not self.project.live_id:
            raise RunbookError("The project has no deployment in production, so there is nothing to build again.")
        self.live = self.api.deployment(self.project.live_id)
        self.key = f"env-{env.digest(self.api.env())}"

    def act(self) -> dict[str, Any]:
        """Build, wait, look."""
        is_old = self.live.key != self.key
        facts: dict[str, Any] = {"changed": is_old or self.is_let_go, "was_live": self.live.result()}
        if self.context.check_mode:
            would = f"Would build what is live again, {self.live}." if is_old else self.same()
            return facts | {"deployment": None, "msg": would}
        begun, made = time.monotonic(), self.live
        if self.is_let_go:
            self.hold()
        if is_old:
            try:
                made = self.build()
                self.go_live(made)
            except RunbookError as error:
                raise RunbookError(error.message, **(facts | error.context)) from None
        check = look(
            self.params["version_url"],
            self.params["ca_cert"],
            lambda status, text: rollback.lacks(status, text, made),
            wait_s=self.params["served_timeout_s"],
        )
        did = f"Built what was live again as {made}." if is_old else self.same()
        return self.context.conclude(
            [check], msg=f"{did} {check.msg}", deployment=made.result(), duration_s=round(time.monotonic() - begun, 1),
            **facts,
        )  # fmt: skip

    def note(self, deployment_id: str) -> None:
        """Write down that automatic domains are to be off while a deployment is live; empty: they are."""

        def body(found: Reading) -> dict[str, Any]:
            return rollback.holding(found.document.body if found.document else None, deployment_id)

        self.documents.update(self.document, body)

    def hold(self) -> None:
        """Let pushes stay without effect."""
        self.api.follow_pushes(on=False)
        self.note("")

    def same(self) -> str:
        """What is said where nothing has to be done."""
        off = " Automatic domains were on since a run that was stopped, and are off." if self.is_let_go else ""
        return f"What is live has the variables that there are, {self.live}.{off}"

    def tell(self, state: str, waited_s: float) -> None:
        """Show what is waited for."""
        self.context.progress.update(state, waited_s, None, "s")

    def build(self) -> deployments.Deployment:
        """The deployment with the variables of now, ready.

        :raises RunbookError: it fails, or takes too long
        """
        made = self.api.redeploy(self.live, self.key).found
        if made is None:
            raise UnreachableError("Vercel did not say which deployment it makes; run this again: it is looked for.")
        return self.api.wait_ready(
            made.id, timeout_s=self.params["build_timeout_s"], poll_s=self.params["poll_s"], tell=self.tell
        )

    def go_live(self, made: deployments.Deployment) -> None:
        """Wait until it is live; while the project is rolled back it is promoted, and pushes stay without effect.

        :raises RunbookError: it is not live in time
        """
        poll_s, until = self.params["poll_s"], time.monotonic() + self.params["wait_timeout_s"]
        if self.project.auto_assigns is False or self.is_let_go:
            self.note(made.id)
            try:
                self.api.promote(made.id)
            except ApiError as error:
                if not error.uncertain:
                    raise
            self.api.wait_moved(
                made.id, self.project.alias_request, timeout_s=self.params["wait_timeout_s"], poll_s=poll_s,
                tell=self.tell,
            )  # fmt: skip
            self.hold()
            return
        while (live := self.api.project().live_id) != made.id:
            if time.monotonic() >= until:
                raise UnreachableError(
                    f"Deployment {made.id} is ready, and {live} is live still; look at the project's dashboard, and "
                    "promote it there or by rollback.yml."
                )
            self.tell("ready, and not live", time.monotonic() - until + self.params["wait_timeout_s"])
            time.sleep(poll_s)


def core(context: Context) -> dict[str, Any]:
    """Redeploy."""
    return Redeployment(context).act()


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="vercel_redeploy", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
