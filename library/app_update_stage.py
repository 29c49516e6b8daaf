#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_update_stage
short_description: Prove an update of an application on staging
description:
  - Pushes a branch of updates to the staging branch, waits until Vercel has built that very commit, and until
    O(version_url) says that staging serves it. Then it notes in the state store that the commit is proven, with the
    hash of its lock file. M(app_update_deploy) asks for that note.
  - A staging branch with commits of its own gets a merge. It is refused if the merge changes the lock file, because
    then something else would be proven.
  - What was pushed already is not pushed again, so it can be run again after an interruption.
options:
  branch:
    description:
      - The branch of updates, which begins with C(runbook/).
    type: str
    required: true
  staging_branch:
    description:
      - The branch that staging is built from.
    type: str
    required: true
  version_url:
    description:
      - Page of staging that says in the field C(commit) of its JSON which commit is served.
    type: str
    required: true
  health_url:
    description:
      - Page of staging that answers with 200 if the application works.
    type: str
    default: ''
  poll_s:
    description:
      - Pause between two looks at Vercel, in seconds, 0 to 60.
    type: float
    default: 5.0
  deadline_s:
    description:
      - Longest time for the build and the pages, in seconds, 1 to 7200.
    type: int
    default: 1800
extends_documentation_fragment:
  - runbook_repository
  - runbook_vercel
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Shows what would be pushed. Nothing is pushed and nothing noted.
  diff_mode:
    support: none
    description: What is pushed is the branch.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Prove the weekly updates on staging
  app_update_stage:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    committer_email: runbook@mental-scribe.example
    branch: runbook/updates
    staging_branch: staging
    version_url: https://staging.example.com/api/version
    project_id: prj_1a2b3c
    access_token: "{{ vault_vercel_access_token }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether something was pushed or noted, or would be.
  type: bool
  returned: always
msg:
  description: What was proven, or what failed and the fix.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if the build or the pages failed, V(unknown) without an answer.
  type: str
  returned: always
branch:
  description: The branch.
  type: str
  returned: success
commit:
  description: The commit of the branch.
  type: str
  returned: success
staging_commit:
  description: The commit that staging has, the same or a merge. Empty in a check mode that would merge.
  type: str
  returned: success
deployment:
  description: ID of the deployment at Vercel.
  type: str
  returned: when it was built
lock_sha256:
  description: Hash of the lock file.
  type: str
  returned: success
"""

import hashlib
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import git, vercel
from ansible.module_utils.runbook.drivers.updates import deployment
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.git import check_branch
from ansible.module_utils.runbook.rules.updates import branches
from ansible.module_utils.runbook.rules.updates.packages import PNPM_LOCK
from ansible.module_utils.runbook.rules.updates.proof import Staged

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.deploy.git import Repository
    from ansible.module_utils.runbook.drivers.state_store import Reading


def core(context: Context) -> dict[str, Any]:
    """Push, wait, look, note."""
    params = context.params
    context.require_bounds(git.BOUNDS | {"deadline_s": (1, 7200), "poll_s": (0, 60)})
    branch = branches.check("branch", params["branch"])
    staging = check_branch("staging_branch", params["staging_branch"])
    documents = Documents.from_params(params, context.run)
    api = vercel.Vercel.from_params(params, read_only=True)
    with git.Repository.from_params(params, read_only=context.check_mode) as repository:
        permits.require(context.run, repository.target, documents.environment)
        commit = repository.fetch(branch)
        lock = repository.read(commit, PNPM_LOCK) or b""
        pushed, wanted = _push(context, repository, commit, staging)
    facts = {"branch": branch, "commit": commit, "staging_commit": wanted, "lock_sha256": _sha256(lock)}
    if context.check_mode:
        verb = "would be pushed to" if pushed else "is on"
        return facts | {"changed": True, "msg": f"{branch} ({commit[:12]}) {verb} {staging}, and proven there."}
    clock = Clock(params["deadline_s"])

    def tell(state: str, waited_s: float) -> None:
        context.progress.update(f"deployment {state.lower()}", round(waited_s), params["deadline_s"], "s")

    built = deployment.built(api, wanted, "", clock, tell, params["poll_s"])
    deployment.see("staging", params["version_url"], wanted, params["ca_cert"], clock)
    if params["health_url"]:
        deployment.see("staging", params["health_url"], "", params["ca_cert"], clock)

    def note(found: Reading) -> dict[str, Any] | None:
        new = Staged(commit, branch, facts["lock_sha256"], built.id, found.now)
        known = Staged.of(found.document) if found.document else None
        return None if known and new.only_confirms(known) else new.body()

    noted = documents.update(Staged.document_name(commit), note)
    works = ", and works" if params["health_url"] else "; health_url is empty, so whether it works was not asked"
    msg = f"{branch} ({commit[:12]}) is proven on staging: {built.id} is built and served{works}."
    return facts | {"changed": pushed or noted, "deployment": built.id, "msg": msg}


def _push(context: Context, repository: Repository, commit: str, staging: str) -> tuple[bool, str]:
    """Whether something is pushed, and the commit that staging then has; empty where check mode would merge."""
    old = repository.heads(staging).get(staging, "")
    if old:
        repository.fetch(staging)
        if repository.is_ancestor(commit, old):
            _require_lock(repository, commit, old, staging)
            return False, old
    wanted = commit
    if old and not repository.is_ancestor(old, commit):
        try:
            wanted = repository.merge(commit, old, f"Merge {context.params['branch']} into {staging}")
        except RunbookError as error:
            raise (_lock_differs(staging) if error.code == "git_conflict" else error) from None
        _require_lock(repository, commit, wanted, staging)
    if context.check_mode:
        return True, wanted if wanted == commit else ""
    repository.push(staging, wanted, old)
    return True, wanted


def _require_lock(repository: Repository, commit: str, other: str, staging: str) -> None:
    """See that staging has the very lock file of the branch."""
    if repository.read(commit, PNPM_LOCK) != repository.read(other, PNPM_LOCK):
        raise _lock_differs(staging)


def _lock_differs(staging: str) -> RunbookError:
    return RunbookError(
        f"staging_branch: {staging} has other versions in {PNPM_LOCK} than the branch, so staging would prove "
        f"something else; bring {staging} to what production has, or prove one update after the other.",
        code="lock_differs",
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    spec = {
        "branch": text,
        "staging_branch": text,
        "version_url": text,
        "health_url": {"type": "str", "default": ""},
        "poll_s": {"type": "float", "default": 5.0},
        "deadline_s": {"type": "int", "default": 1800},
    }
    run_module(
        core,
        name="app_update_stage",
        argument_spec=git.argument_spec() | vercel.argument_spec() | state_store.argument_spec() | spec,
    )


if __name__ == "__main__":
    main()
