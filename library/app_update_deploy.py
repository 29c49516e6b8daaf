#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_update_deploy
short_description: Merge a proven update of an application, and see it live
description:
  - Merges a branch of updates into the branch that production is built from, waits until Vercel has built that commit
    and let the production domains lead to it, and until O(version_url) says that users are served it.
  - It refuses, before anything is pushed, if the commit was not proven on staging within O(staged_max_age_days) days,
    if it brings a major version whose changelog nobody read, if the merge has another lock file than the one that was
    proven, or if pushes do not go live at Vercel (after a rollback).
  - A merge that was pushed already is not made again, so it can be run again after an interruption.
options:
  branch:
    description:
      - The branch of updates, which begins with C(runbook/).
    type: str
    required: true
  base_branch:
    description:
      - The branch that production is built from.
    type: str
    required: true
  staged_max_age_days:
    description:
      - How long a proof on staging counts, in days, 1 to 30.
    type: int
    default: 7
  version_url:
    description:
      - Page of the application, as users reach it, that says in the field C(commit) of its JSON which commit is served.
    type: str
    required: true
  poll_s:
    description:
      - Pause between two looks at Vercel, in seconds, 0 to 60.
    type: float
    default: 5.0
  deadline_s:
    description:
      - Longest time for the build, the domains and the page, in seconds, 1 to 7200.
    type: int
    default: 1800
extends_documentation_fragment:
  - runbook_repository
  - runbook_vercel
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Checks the proofs and tries the merge. Nothing is pushed.
  diff_mode:
    support: full
    description: Shows each package with its versions.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Let the weekly updates go live
  app_update_deploy:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    committer_email: runbook@mental-scribe.example
    branch: runbook/updates
    base_branch: main
    version_url: https://app.example.com/api/version
    project_id: prj_1a2b3c
    access_token: "{{ vault_vercel_access_token }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether the merge was pushed, or would be.
  type: bool
  returned: always
msg:
  description: What is live, or what failed and the fix.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if something was refused or failed, V(unknown) without an answer.
  type: str
  returned: always
branch:
  description: The branch.
  type: str
  returned: when the proofs were looked at
commit:
  description: The commit of the branch.
  type: str
  returned: when the proofs were looked at
merge_commit:
  description: The commit that production is built from. Empty in check mode.
  type: str
  returned: when the proofs were looked at
updates:
  description: What changes in the lock file, as in M(app_update).
  type: list
  elements: dict
  returned: when the proofs were looked at
staged:
  description: When it was proven on staging.
  type: str
  returned: when the proofs were looked at
reviewed:
  description: Who read the changelogs. Empty if no major version is among the updates.
  type: str
  returned: when the proofs were looked at
deployment:
  description: ID of the deployment that is live now.
  type: str
  returned: success, but in check mode
previous_deployment:
  description: ID of the deployment that was live before.
  type: str
  returned: when the proofs were looked at
"""

import hashlib
import time
from typing import TYPE_CHECKING, Any, cast

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import git, vercel
from ansible.module_utils.runbook.drivers.updates import deployment, lock_files
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.deployments import PRODUCTION
from ansible.module_utils.runbook.rules.deploy.git import check_branch
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.updates import branches, outdated
from ansible.module_utils.runbook.rules.updates.packages import PNPM_LOCK
from ansible.module_utils.runbook.rules.updates.proof import (
    Reviewed,
    Staged,
    check_reviewed,
    check_staged,
    majors_of,
)
from ansible.module_utils.runbook.rules.words import some

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.deploy.git import Repository
    from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
    from ansible.module_utils.runbook.rules.updates.outdated import Change

#: As preflight approves it, with its window and its change.
OPERATION = "updates.yml deploy"
#: What to do where the merge is on its branch and users do not get it.
BACK = "Take it back with playbooks/rollback.yml --tags app, or repair it and run this again"


def core(context: Context) -> dict[str, Any]:
    """Check the proofs, merge, push, and see it live."""
    params = context.params
    context.require_bounds(git.BOUNDS | {"deadline_s": (1, 7200), "poll_s": (0, 60), "staged_max_age_days": (1, 30)})
    branch, base_branch = branches.check("branch", params["branch"]), check_branch("base_branch", params["base_branch"])
    documents = Documents.from_params(params, context.run)
    api = vercel.Vercel.from_params(params, read_only=True)
    with git.Repository.from_params(params, read_only=context.check_mode) as repository:
        permits.require(context.run, repository.target, documents.environment)
        permits.require_operation(context.run, OPERATION)
        base, commit = repository.fetch(base_branch), repository.fetch(branch)
        changes = _changes(repository, commit, base)
        facts = _proofs(params, documents, commit, changes, repository.read(commit, PNPM_LOCK) or b"")
        facts["previous_deployment"] = _require_live_pushes(api, base_branch)
        changed, merged = _merge(context, repository, branch, commit, base, facts)
    facts |= {"changed": changed, "merge_commit": merged}
    if context.diff and changed:
        facts["diff"] = {"prepared": as_lines(map(str, changes))}
    if context.check_mode:
        verb = "would be merged into" if changed else "is merged into"
        return facts | {"msg": f"{branch} ({commit[:12]}), {facts['staged']}, {verb} {base_branch}."}
    live = _see_live(context, api, merged, base_branch, facts)
    return facts | {
        "deployment": live,
        "msg": f"{branch} is live: {base_branch} is at {merged[:12]}, and {live} serves it to users.",
    }


def _proofs(
    params: dict[str, Any], documents: Documents, commit: str, changes: list[Change], lock: bytes
) -> dict[str, Any]:
    """What is known of the commit.

    :raises RunbookError: it was not proven on staging, or nobody read what breaks
    """
    branch = params["branch"]
    seen, read = documents.read(Staged.document_name(commit)), documents.read(Reviewed.document_name(commit))
    staged = Staged.of(seen.document) if seen.document else None
    proven = check_staged(
        staged, commit=commit, branch=branch, now=seen.now, max_age_days=params["staged_max_age_days"]
    )  # fmt: skip
    if staged and staged.lock_sha256 != hashlib.sha256(lock).hexdigest():
        raise RunbookError(f"{branch} ({commit[:12]}): its lock file is not the one that was proven on staging.")
    reviewed = check_reviewed(
        Reviewed.of(read.document) if read.document else None, majors_of(changes), commit=commit, branch=branch
    )
    return {
        "branch": branch, "commit": commit, "staged": proven, "reviewed": reviewed,
        "updates": [each.result() for each in changes],
    }  # fmt: skip


def _require_live_pushes(api: Vercel, base_branch: str) -> str:
    """See that a push to the branch goes live; the deployment that is live now.

    :raises RunbookError: it would not
    """
    project = api.project()
    if project.production_branch and project.production_branch != base_branch:
        raise RunbookError(
            f"base_branch: Vercel builds production from {project.production_branch!r}, and not from {base_branch!r}; "
            "correct app_branch."
        )
    if project.auto_assigns is False:
        raise RunbookError(
            "Pushes do not go live at Vercel, as after a rollback (automatic production domains are off); finish the "
            "rollback first, playbooks/rollback.yml says how.",
            code="pushes_stay_away",
        )
    return project.live_id


def _merge(
    context: Context, repository: Repository, branch: str, commit: str, base: str, facts: dict[str, Any]
) -> tuple[bool, str]:
    """Whether a merge is pushed, and the commit that production is built from; empty where check mode would push."""
    if repository.is_ancestor(commit, base):
        return False, base
    updates, base_branch = facts["updates"], context.params["base_branch"]
    why = [f"{each['package']} {each['from']} -> {each['to']}" for each in updates if each["is_direct"]]
    said = [f"Merge {branch}", "", *why, "", facts["staged"], *filter(None, [facts["reviewed"]])]
    try:
        merged = repository.merge(commit, base, "\n".join(said))
    except RunbookError as error:
        if error.code != "git_conflict":
            raise
        conflicts = list(map(str, cast("list[str]", error.context["conflicts"])))
        raise RunbookError(
            f"{base_branch} and {branch} changed the same lines ({some(conflicts)}), and a lock "
            f"file is not merged by hand; run the update again, which begins from {base_branch} as it is now, then "
            "prove it on staging.",
            code="lock_conflict", **facts,
        ) from None  # fmt: skip
    if repository.read(merged, PNPM_LOCK) != repository.read(commit, PNPM_LOCK):
        raise RunbookError(
            f"{base_branch} has other versions in {PNPM_LOCK} by now, so the merge would not be what was proven on "
            "staging; run the update again, which begins from there, then prove it on staging.",
            code="lock_differs", **facts,
        )  # fmt: skip
    if context.check_mode:
        return True, ""
    repository.push(base_branch, merged, base)
    return True, merged


def _see_live(context: Context, api: Vercel, merged: str, base_branch: str, facts: dict[str, Any]) -> str:
    """Wait until users get the commit; the deployment that serves it.

    :raises RunbookError: they do not
    """
    params, clock = context.params, Clock(context.params["deadline_s"])

    def tell(state: str, waited_s: float) -> None:
        context.progress.update(f"deployment {state.lower()}", round(waited_s), params["deadline_s"], "s")

    try:
        built = deployment.built(api, merged, PRODUCTION, clock, tell, params["poll_s"])
        while (live := api.project().live_id) != built.id:
            tell("not live yet", clock.passed_s())
            if clock.is_over():
                raise UnreachableError(
                    f"{built.id} is built, and the production domains lead to {live or 'no deployment'}.",
                    code="not_served",
                )
            time.sleep(params["poll_s"])
        deployment.see("production", params["version_url"], merged, params["ca_cert"], clock)
    except RunbookError as error:
        raise RunbookError(
            f"The update is merged into {base_branch} ({merged[:12]}), and is not seen live. {error.message} {BACK}.",
            **(facts | error.context),
        ) from None
    return built.id


def _changes(repository: Repository, commit: str, base: str) -> list[Change]:
    """What a branch brings, whoever else committed to it."""
    found = (repository.read(each, PNPM_LOCK) or b"" for each in (repository.common(base, commit), commit))
    return outdated.between(*(lock_files.parse(each, PNPM_LOCK) for each in found))


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    spec = {
        "branch": text,
        "base_branch": text,
        "staged_max_age_days": {"type": "int", "default": 7},
        "version_url": text,
        "poll_s": {"type": "float", "default": 5.0},
        "deadline_s": {"type": "int", "default": 1800},
    }
    run_module(
        core,
        name="app_update_deploy",
        argument_spec=git.argument_spec() | vercel.argument_spec() | state_store.argument_spec() | spec,
    )


if __name__ == "__main__":
    main()
