#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_update_review
short_description: Note who read the changelogs of an update
description:
  - Notes in the state store that a person read the changelogs of the major versions that a branch brings. It counts for
    the commit that the branch has now. M(app_update_deploy) asks for it.
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
  by:
    description:
      - Who read them. A placeholder is refused.
    type: str
    required: true
extends_documentation_fragment:
  - runbook_repository
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Shows what would be noted.
  diff_mode:
    support: none
    description: The note is in the result.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Note that Ada Byron read the changelog of the new major version
  app_update_review:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    branch: runbook/major-next
    base_branch: main
    by: Ada Byron
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether the note was written, or would be.
  type: bool
  returned: always
msg:
  description: Who read what.
  type: str
  returned: always
status:
  description: V(ok).
  type: str
  returned: always
branch:
  description: The branch.
  type: str
  returned: success
commit:
  description: The commit for which it counts.
  type: str
  returned: success
read:
  description: The major versions whose changelogs were read, as C(next 14.2.3 -> 15.0.1).
  type: list
  elements: str
  returned: success
reviewed_by:
  description: Who read them.
  type: str
  returned: success
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.drivers.updates import lock_files
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change.review import check_name_filled
from ansible.module_utils.runbook.rules.deploy.git import check_branch
from ansible.module_utils.runbook.rules.updates import branches, outdated
from ansible.module_utils.runbook.rules.updates.packages import PNPM_LOCK
from ansible.module_utils.runbook.rules.updates.proof import Reviewed, majors_of
from ansible.module_utils.runbook.rules.words import some

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.deploy.git import Repository
    from ansible.module_utils.runbook.drivers.state_store import Reading
    from ansible.module_utils.runbook.rules.updates.outdated import Change


def core(context: Context) -> dict[str, Any]:
    """Look which major versions the branch brings, and note who read of them."""
    params = context.params
    context.require_bounds(git.BOUNDS)
    branch, by = branches.check("branch", params["branch"]), check_name_filled("by", params["by"])
    base_branch = check_branch("base_branch", params["base_branch"])
    documents = Documents.from_params(params, context.run)
    with git.Repository.from_params(params, read_only=True) as repository:
        permits.require(context.run, repository.target, documents.environment)
        base, commit = repository.fetch(base_branch), repository.fetch(branch)
        majors = majors_of(_changes(repository, commit, base))
    if not majors:
        raise RunbookError(f"branch: {branch} ({commit[:12]}) brings no major version, so there is nothing to review.")
    read = tuple(map(str, majors))

    def note(found: Reading) -> dict[str, Any] | None:
        known = Reviewed.of(found.document) if found.document else None
        same = known is not None and (known.by, known.read) == (by, read)
        return None if same else Reviewed(commit, by, read, found.now).body()

    changed = documents.update(Reviewed.document_name(commit), note)
    verb = "read" if changed and not context.check_mode else "would have read" if changed else "read before"
    msg = f"{by} {verb} the changelogs of {some(read)} ({branch}, {commit[:12]})."
    return {"changed": changed, "msg": msg, "branch": branch, "commit": commit, "read": list(read), "reviewed_by": by}


def _changes(repository: Repository, commit: str, base: str) -> list[Change]:
    """What a branch brings, whoever else committed to it."""
    found = (repository.read(each, PNPM_LOCK) or b"" for each in (repository.common(base, commit), commit))
    return outdated.between(*(lock_files.parse(each, PNPM_LOCK) for each in found))


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    run_module(
        core,
        name="app_update_review",
        argument_spec=git.argument_spec()
        | state_store.argument_spec()
        | {"branch": text, "base_branch": text, "by": text},
    )


if __name__ == "__main__":
    main()
