"""To which deployment an application may go back, and what has to be done afterwards.

A deployment is one build of one commit with the environment variables of its time in it. So going back to one brings
its keys back too, and a deployment whose keys were retired since is dead. A bad build stays READY at Vercel for ever:
that a deployment can be gone back to does not say that it ever worked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy.deployments import OVER, PRODUCTION, READY, SUCCEEDED
from ansible.module_utils.runbook.rules.state import check_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import some, to_second

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ansible.module_utils.runbook.rules.deploy.deployments import Deployment, Project

Act = Literal["rollback", "promote"]
#: Rollbacks that are remembered of one project.
_REMEMBERED = 50


@dataclass(frozen=True)
class Rotated:
    """A key of the application that was replaced, as the state store has it."""

    name: str
    #: The environment variables that hold it.
    env_names: tuple[str, ...]
    #: What was built before this moment has a key in it that is retired; None where none is.
    dead_before: datetime | None
    #: When a phase of its rotation began last; None where none has.
    changed_at: datetime | None
    #: Deployments that were rolled back from, and whose key was discarded since.
    dead_deployments: tuple[str, ...] = ()

    @classmethod
    def read(cls, name: str, body: Mapping[str, Any]) -> Rotated:
        """Read the body of a document ``keys/<project>-<name>``.

        :raises RunbookError: it lacks something; whether a key is dead is unknown then
        """
        try:
            dead = body["dead_before"]
            moments = [datetime.fromisoformat(str(each)) for each in dict(body.get("at") or {}).values()]
            return cls(
                name,
                tuple(map(str, body["env_names"])),
                datetime.fromisoformat(dead).astimezone(UTC) if dead else None,
                max(moments, default=None),
                tuple(map(str, body.get("dead_deployments") or ())),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            raise RunbookError(
                f"State store: {name} is no rotation of a key that this project knows, so whether a deployment has a "
                "retired key in it is unknown; restore or remove it.",
                status=Status.UNKNOWN,
            ) from None

    def kills(self, deployment: Deployment) -> bool:
        """Whether a deployment has a key in it that is retired."""
        is_old = self.dead_before is not None and deployment.created_at < self.dead_before
        return is_old or deployment.id in self.dead_deployments


def check_alive(deployment: Deployment, rotated: Sequence[Rotated]) -> None:
    """A deployment with a retired key in it would not work.

    :raises RunbookError: it has one
    """
    dead = [each for each in rotated if each.kills(deployment)]
    if dead:
        names = some(dict.fromkeys(name for each in dead for name in each.env_names))
        when = max((each.dead_before for each in dead if each.dead_before), default=None)
        said = (
            f"what was built before {to_second(when.isoformat())} is dead, and so is every older deployment"
            if when
            else "their rotation went back from it"
        )
        raise RunbookError(
            f"Deployment {deployment} was built with keys that are retired since ({names}): {said}. Go forward: revert "
            "the commit and deploy that.",
            code="retired_key",
        )


def choose(
    live: Deployment, found: Sequence[Deployment], *, named: str, rotated: Sequence[Rotated], bad: Collection[str]
) -> Deployment:
    """The deployment to go back to: the one that was named, or the newest that was live before the present one.

    What never saw a visitor, what was rolled back from before, and what is of the same commit and would bring the same
    code is skipped.

    :param live: what the production domains lead to
    :param found: deployments for production, in any order
    :param named: id or host name; empty for the newest
    :param bad: ids of deployments that were rolled back from
    :raises RunbookError: there is none, or the one that was named is none to go back to
    """
    if named:
        wanted = next((each for each in found if named in (each.id, each.url)), None)
        if wanted is None:
            raise RunbookError(
                f"deployment: {named} is none of the project's deployments for production; take the id of one that "
                "vercel_deployment_info lists."
            )
        if wanted.id != live.id:
            check_ready(wanted)
            if wanted.created_at > live.created_at:
                raise RunbookError(
                    f"deployment: {wanted} is newer than {live}, which is live, so it is not gone back to; promote it."
                )
            if wanted.is_rollback_candidate is False:
                raise RunbookError(f"deployment: Vercel does not roll back to {wanted} any more; promote it instead.")
            check_alive(wanted, rotated)
        return wanted
    bad = {*bad, *(dead for each in rotated for dead in each.dead_deployments)}
    older = sorted(
        (each for each in found if each.created_at < live.created_at and each.state == READY),
        key=lambda each: (each.created_at, each.id),
        reverse=True,
    )
    # A retired key is said, and is no reason to go back further.
    possible = [each for each in older if not objection(each, live, (), bad)]
    if not possible:
        passed = " or ".join(sorted({objection(each, live, (), bad) for each in older}))
        why = f"whatever is older {passed}" if older else "none is older"
        raise RunbookError(
            f"There is no deployment to roll back to from {live}: {why}. Revert the commit and deploy that, or name an "
            "older one with its id.",
            code="no_candidate",
        )
    check_alive(possible[0], rotated)
    return possible[0]


def objection(deployment: Deployment, live: Deployment, rotated: Sequence[Rotated], bad: Collection[str]) -> str:
    """Why one does not go back to a deployment; empty where one may."""
    if deployment.id == live.id:
        return "is live"
    if any(each.kills(deployment) for each in rotated):
        return "has a retired key in it"
    if deployment.id in bad:
        return "was rolled back from"
    if deployment.is_rollback_candidate is False:
        return "is none that Vercel rolls back to"
    if deployment.was_live is False:
        return "was never live"
    if deployment.created_at > live.created_at:
        return "is newer"
    return "is of the commit that is live" if _same(deployment, live) else ""


def _same(one: Deployment, other: Deployment) -> bool:
    return bool(one.commit) and one.commit == other.commit


def check_ready(deployment: Deployment) -> None:
    """Domains are led to what is built, for production.

    :raises RunbookError: it is not
    """
    if deployment.state != READY:
        raise RunbookError(f"deployment: {deployment} is {deployment.state}, and only one that is READY can be live.")
    if deployment.target != PRODUCTION:
        raise RunbookError(
            f"deployment: {deployment} was built for {deployment.target or 'previews'}, with the environment variables "
            "of those; name one that was built for production."
        )


def under_way(project: Project, wanted: Deployment | None) -> bool:
    """Whether the domains are on their way to ``wanted`` already, so that nothing has to be asked for.

    :raises RunbookError: they are on their way elsewhere
    """
    asked = project.alias_request
    if asked is None or asked.status in OVER:
        return False
    if wanted is None or asked.to_id != wanted.id:
        raise RunbookError(
            f"A {asked.type} to {asked.to_id} is {asked.status} since {to_second(asked.requested_at.isoformat())}; "
            "wait for its end, and look at the project's dashboard where it does not come.",
            code="move_under_way",
        )
    return True


# What is remembered ---------------------------------------------------------------------------------------------------


def rotations(project_id: str) -> str:
    """How the names of the documents begin that tell of a project's rotated keys, see ``rules/keys``."""
    return f"keys/{project_id}-"


def document_name(project_id: str) -> str:
    """Under which name the rollbacks of a project are remembered.

    >>> document_name("prj_1a2b")
    'rollbacks/prj_1a2b'
    """
    return check_name(f"rollbacks/{project_id}")


def remembered(body: Mapping[str, Any] | None) -> list[Mapping[str, str]]:
    """The rollbacks that a document has, the oldest first, each with ``from``, ``to``, ``at`` and ``reason``.

    :raises RunbookError: it is none
    """
    found = [] if body is None else body.get("rollbacks")
    if not isinstance(found, list) or not all(isinstance(each, Mapping) and each.get("from") for each in found):
        raise RunbookError(
            "State store: the document with the rollbacks of the project is damaged, so which deployments were bad is "
            "unknown; restore or remove it.",
            status=Status.UNKNOWN,
        )
    return found


def remember(
    body: Mapping[str, Any] | None, *, left: Deployment, to: Deployment, at: datetime, reason: str
) -> dict[str, Any]:
    """The document, with one more rollback."""
    entry = {
        "from": left.id, "from_commit": left.commit, "to": to.id, "to_commit": to.commit, "at": at.isoformat(),
        "reason": reason,
    }  # fmt: skip
    known = [dict(each) for each in remembered(body) if (each["from"], each.get("to")) != (left.id, to.id)]
    return {"rollbacks": [*known, entry][-_REMEMBERED:]}


def holding(body: Mapping[str, Any] | None, deployment_id: str) -> dict[str, Any]:
    """The document, from which it can be seen that automatic domains are to be off while a deployment is live.

    To promote turns them on, and a run may die before it turns them off again.

    :param deployment_id: empty once that is over
    """
    kept = {"rollbacks": [dict(each) for each in remembered(body)]}
    return kept | ({"held": deployment_id} if deployment_id else {})


def is_let_go(body: Mapping[str, Any] | None, project: Project) -> bool:
    """Whether pushes go live though the project is rolled back, because a run died before it had seen to that."""
    held = (body or {}).get("held")
    return bool(held) and held == project.live_id and project.auto_assigns is not False


def rolled_back_from(body: Mapping[str, Any] | None, project: Project) -> frozenset[str]:
    """Deployments that were bad: those that are remembered, and the one that Vercel itself remembers."""
    asked = project.alias_request
    last = {asked.from_id} if asked and asked.type == "rollback" and asked.status == SUCCEEDED else set()
    return frozenset({each["from"] for each in remembered(body)} | last)


def is_rolled_back(project: Project) -> bool:
    """Whether the last that happened to the domains is a rollback, to what is live now."""
    asked = project.alias_request
    return (
        asked is not None and asked.type == "rollback" and asked.status == SUCCEEDED and asked.to_id == project.live_id
    )


# What users get -------------------------------------------------------------------------------------------------------


def lacks(status: int, body: str, wanted: Deployment) -> str:
    """What the page of the served version lacks; empty where it says that ``wanted`` is served.

    The page is a JSON object with the field ``commit`` (``VERCEL_GIT_COMMIT_SHA``), and better also ``deployment``
    (``VERCEL_DEPLOYMENT_ID``), by which two builds of one commit are told apart.
    """
    if status != 200:
        return f"answers with {status} instead of 200"
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, Mapping):
        return "is no JSON object with the field commit"
    deployment, commit = (said.get(name) for name in ("deployment", "commit"))
    if isinstance(deployment, str) and deployment:
        return "" if deployment == wanted.id else f"says that {deployment[:40]} is served, and not {wanted.id}"
    if not isinstance(commit, str) or not commit:
        return "says neither deployment nor commit"
    if not wanted.commit:
        return "says a commit, and Vercel knows none of the deployment"
    return "" if commit == wanted.commit else f"says that commit {commit[:12]} is served, and not {wanted.commit[:12]}"


# What is left to do ---------------------------------------------------------------------------------------------------


def follow_ups(project: Project, live: Deployment, body: Mapping[str, Any] | None) -> list[str]:
    """What a rollback leaves to people, until it is done; empty where there is nothing.

    A rollback turns automatic domains off: https://vercel.com/docs/instant-rollback
    """
    branch = project.production_branch or "the production branch"
    if is_let_go(body, project):
        said = (
            f"What is pushed to {branch} goes live, also what was rolled back from: a run that built {live.id} was "
            "stopped before it turned automatic domains off again. Run the same playbooks/rollback.yml --tags config "
            "again, which does that; or let them be on: playbooks/rollback.yml --tags app -e app_rollback_act=promote "
            f"-e app_rollback_deployment={live.id}."
        )
        return [said]
    if project.auto_assigns is not False:
        return []
    last = next((each for each in reversed(remembered(body)) if each.get("to") == live.id), None)
    commit = f" (commit {last['from_commit'][:12]})" if last and last.get("from_commit") else ""
    bad = f"{last['from']}{commit}" if last else "the deployment that was bad"
    since = f" since the rollback of {to_second(last['at'])}" if last and last.get("at") else ""
    said = (
        f"What is pushed to {branch} does not go live{since}: automatic domains are off. Take back what {bad} brought, "
        "let that be deployed, and promote it: playbooks/rollback.yml --tags app -e app_rollback_act=promote "
        "-e app_rollback_deployment=<its id>."
    )
    return [said]
