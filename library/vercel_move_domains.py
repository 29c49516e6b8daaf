#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vercel_move_domains
short_description: Let the production domains of a Vercel project lead to another deployment
description:
  - V(rollback) leads back to a deployment that was live before, V(promote) to any other that was built for production.
    Nothing is built, and the environment variables are those of the deployment's own time.
  - Vercel is asked once. Where the answer is lost, the project says what became of it; the request is not repeated.
  - Then the module waits until Vercel says that the domains were moved, and until O(version_url) says that the
    deployment is served. Another deployment that is served is a V(breach), and no page to look at is V(unknown).
  - A rollback refuses a deployment that was built with a key that was retired since, as the state store remembers it.
  - A rollback turns automatic domains off, so that a push does not go live any more; V(promote) turns them on again.
    RV(follow_ups) says so until then.
  - Which deployments were rolled back from is kept in the state store, so that nobody rolls back to them later.
options:
  act:
    description:
      - What is asked of Vercel.
    type: str
    required: true
    choices: [rollback, promote]
  deployment:
    description:
      - ID or host name of the deployment. Required to promote. Left out, a rollback goes to the newest that was live
        before, is of another commit, and was not rolled back from. While the project is rolled back, that does nothing.
    type: str
    default: ''
  reason:
    description:
      - Why, in a few words. Vercel shows it beside the rollback.
    type: str
    default: ''
  environment:
    description:
      - Environment of this run, V(sandbox), V(staging) or V(production). The project must have passed
        M(vercel_preflight) in the same run.
    type: str
    required: true
  version_url:
    description:
      - Page of the application, as users reach it, that says which deployment is served. It is a JSON object with the
        field C(commit), and better also C(deployment).
    type: str
    default: ''
  wait_timeout_s:
    description:
      - Longest time until Vercel says that the domains were moved, in seconds, 1 to 3600.
    type: int
    default: 300
  served_timeout_s:
    description:
      - Longest time until O(version_url) says that the deployment is served, in seconds, 1 to 3600.
    type: int
    default: 120
  poll_s:
    description:
      - Seconds between two questions about the move.
    type: float
    default: 2.0
extends_documentation_fragment:
  - runbook_vercel
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Returns the plan. Asks for nothing.
  diff_mode:
    support: full
    description: Shows the deployment that is live, and the one that will be.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Go back to what was live before
  vercel_move_domains:
    act: rollback
    reason: the start page is blank
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
  description: Whether the domains were moved, or would be in check mode.
  type: bool
  returned: always
msg:
  description: What was done, or what is wrong and the fix, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if something else is served, V(unknown) if nobody knows what became of it.
  type: str
  returned: always
checks:
  description: The checks, C(moved) and C(served), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: after the move
was_live:
  description: The deployment that the domains led to, with C(id), C(url), C(commit), C(branch), C(created_at).
  type: dict
  returned: success
deployment:
  description: The deployment that they lead to now, or would, with the same fields.
  type: dict
  returned: success
bad_commit:
  description:
    - The commit of the deployment that was rolled back from, while the project is rolled back. Empty where it is the
      same one, or where nobody knows it.
  type: str
  returned: success
follow_ups:
  description: What is left to people.
  type: list
  elements: str
  returned: after the move
duration_s:
  description: Time until the deployment was seen to be served, in seconds.
  type: float
  returned: after the move
"""

import time
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.deploy.served import look
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
from ansible.module_utils.runbook.drivers.deploy.vercel import argument_spec as shared_options
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.deploy import deployments, rollback
from ansible.module_utils.runbook.rules.deploy.deployments import OVER
from ansible.module_utils.runbook.rules.status import Check

#: Deployments that are looked at, the newest; what is older is named.
MOST = 500
BOUNDS = {"wait_timeout_s": (1, 3600), "served_timeout_s": (1, 3600), "timeout_s": (1, 600)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        shared_options()
        | state_store.argument_spec()
        | {
            "act": {"type": "str", "required": True, "choices": ["rollback", "promote"]},
            "deployment": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "environment": {"type": "str", "required": True},
            "version_url": {"type": "str", "default": ""},
            "wait_timeout_s": {"type": "int", "default": 300},
            "served_timeout_s": {"type": "int", "default": 120},
            "poll_s": {"type": "float", "default": 2.0},
        }
    )


class Move:
    """One move of the domains, from the plan to what users get."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        context.require_bounds(BOUNDS)
        if params["version_url"]:
            check_address("version_url", params["version_url"])
        if params["act"] == "promote" and not params["deployment"]:
            raise RunbookError("deployment: it is empty; name the deployment that is to be promoted.")
        self.api = Vercel.from_params(params, read_only=context.check_mode)
        permits.require(context.run, self.api.target, params["environment"])
        self.documents = Documents.from_params(params, context.run)
        self.project = self.api.project()
        deployments.check_identity(self.project, self.api.place, params["project_name"] or "")
        if not self.project.live_id:
            raise RunbookError("The project has no deployment in production, so there is nothing to go back from.")
        self.live = self.api.deployment(self.project.live_id)
        self.name = rollback.document_name(params["project_id"])
        found = self.documents.read(self.name).document
        self.body = found.body if found else None

    def choose(self) -> deployments.Deployment:
        """The deployment that the domains are to lead to.

        :raises RunbookError: there is none, or it may not be
        """
        named = self.params["deployment"]
        names = self.documents.names(rollback.rotations(self.params["project_id"]))
        keys = [self.documents.read(name).document for name in names]
        rotated = [rollback.Rotated.read(each.name, each.body) for each in keys if each is not None]
        if self.params["act"] == "promote":
            wanted = self.api.deployment(named)
            rollback.check_ready(wanted)
            rollback.check_alive(wanted, rotated)
            return wanted
        if not named and rollback.is_rolled_back(self.project):
            return self.live
        found = self.api.deployments(state=deployments.READY, most=MOST)
        bad = rollback.rolled_back_from(self.body, self.project)
        return rollback.choose(self.live, found, named=named, rotated=rotated, bad=bad)

    def act(self) -> dict[str, Any]:
        """Plan, move, wait, look."""
        asked = self.project.alias_request
        # The one that is on its way already is no choice any more.
        is_moving = asked is not None and asked.status not in OVER
        wanted = self.api.deployment(asked.to_id) if asked and is_moving and self.fits(asked) else self.choose()
        is_moving = rollback.under_way(self.project, wanted)
        facts: dict[str, Any] = {
            "changed": wanted.id != self.live.id,
            "was_live": self.live.result(),
            "deployment": wanted.result(),
        }
        if self.context.diff:
            facts["diff"] = {"before": f"{self.live}\n", "after": f"{wanted}\n"}
        verb = "back " if self.params["act"] == "rollback" else ""
        if self.context.check_mode:
            would = f"Would lead the domains {verb}from {self.live} to {wanted}."
            facts["bad_commit"] = self.bad_commit(wanted)
            return facts | {"msg": would if facts["changed"] else f"The domains lead to {wanted} already."}
        begun = time.monotonic()
        if facts["changed"] or self.is_to_be_promoted():
            facts["changed"] = True
            self.project = self.move(wanted, is_moving=is_moving, facts=facts)
        if self.params["act"] == "rollback" and facts["changed"]:
            self.remember(wanted)
        if self.params["act"] == "promote" and (self.body or {}).get("held"):
            self.let_go()
        checks = [Check.ok("moved", f"Vercel says that the domains lead to {wanted.id}."), self.look(wanted)]
        facts |= {
            "bad_commit": self.bad_commit(wanted),
            "follow_ups": rollback.follow_ups(self.project, wanted, self.body),
            "duration_s": round(time.monotonic() - begun, 1),
        }
        did = f"Led the domains {verb}from {self.live} to {wanted}." if facts["changed"] else (
            f"The domains lead to {wanted} already."
        )  # fmt: skip
        return self.context.conclude(checks, msg=f"{did} {checks[1].msg}", **facts)

    def fits(self, asked: deployments.AliasRequest) -> bool:
        """Whether a request that is on its way is the one that this module was asked for."""
        return asked.type == self.params["act"] and self.params["deployment"] in ("", asked.to_id)

    def is_to_be_promoted(self) -> bool:
        """Whether the live one is promoted so that pushes go live again."""
        return self.params["act"] == "promote" and self.project.auto_assigns is False

    def move(
        self, wanted: deployments.Deployment, *, is_moving: bool, facts: dict[str, Any]
    ) -> deployments.Project:  # fmt: skip
        """Ask once, and wait until the domains were moved.

        :raises RunbookError: refused, failed, or nobody knows
        """
        before = self.project.alias_request
        if is_moving:
            # Only what is newer counts elsewhere.
            before = None
        else:
            self.ask(wanted, facts)

        def tell(state: str, waited_s: float) -> None:
            self.context.progress.update(f"the move is {state}", waited_s, None, "s")

        try:
            return self.api.wait_moved(
                wanted.id, before, timeout_s=self.params["wait_timeout_s"], poll_s=self.params["poll_s"], tell=tell
            )
        except RunbookError as error:
            raise RunbookError(error.message, **(facts | error.context)) from None

    def ask(self, wanted: deployments.Deployment, facts: dict[str, Any]) -> None:
        """Send the request; where its answer is lost, go on: the project says what became of it."""
        try:
            if self.params["act"] == "promote":
                self.api.promote(wanted.id)
            else:
                self.api.rollback(wanted.id, self.params["reason"])
        except ApiError as error:
            if not error.uncertain:
                raise RunbookError(
                    f"{error.message} Nothing was changed: the domains lead to {self.live}.",
                    **(facts | {"changed": False} | error.context),
                ) from None
            self.context.warn(f"{error.message} It is not sent again; the project says what became of it.")

    def remember(self, wanted: deployments.Deployment) -> None:
        """Keep which deployment was rolled back from."""
        at = datetime.now(UTC)

        def body(found: Any) -> dict[str, Any]:
            self.body = rollback.remember(
                found.document.body if found.document else None,
                left=self.live, to=wanted, at=at, reason=self.params["reason"],
            )  # fmt: skip
            return self.body

        self.documents.update(self.name, body)

    def let_go(self) -> None:
        """Forget that automatic domains are to be off: who promotes wants them on."""

        def body(found: Any) -> dict[str, Any]:
            self.body = rollback.holding(found.document.body if found.document else None, "")
            return self.body

        self.documents.update(self.name, body)

    def bad_commit(self, wanted: deployments.Deployment) -> str:
        """The commit that was rolled back from, also by an earlier run; empty where nobody knows it."""
        asked = self.project.alias_request
        if self.context.check_mode and wanted.id != self.live.id and self.params["act"] == "rollback":
            left = self.live.id
        elif asked and rollback.is_rolled_back(self.project):
            left = asked.from_id
        else:
            return ""
        commit = self.live.commit if left == self.live.id else self.api.deployment(left).commit
        return "" if commit == wanted.commit else commit

    def look(self, wanted: deployments.Deployment) -> Check:
        """What users get, from outside."""
        return look(
            self.params["version_url"],
            self.params["ca_cert"],
            lambda status, text: rollback.lacks(status, text, wanted),
            wait_s=self.params["served_timeout_s"],
        )


def core(context: Context) -> dict[str, Any]:
    """Move the domains."""
    return Move(context).act()


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="vercel_move_domains", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
