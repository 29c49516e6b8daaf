#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_revert
short_description: Take back in a git repository what a rollback went back from
description:
  - Reverts all that came onto O(branch) after O(good) and up to O(bad), the newest first, each by a commit of its own.
    Of a merge, what it brought to the branch.
  - Pushes that as a branch C(runbook/revert-…), for a pull request. With O(direct) it is pushed to O(branch) itself;
    where the server refuses that, as for a protected branch, it is pushed as a branch all the same, with a warning.
  - Where later commits changed the same lines, nothing is pushed, and the files are named.
  - A second run pushes nothing.
options:
  branch:
    description:
      - The branch that is deployed to production.
    type: str
    required: true
  good:
    description:
      - Full ID of the commit that is served again.
    type: str
    required: true
  bad:
    description:
      - Full ID of the commit that was rolled back from.
    type: str
    required: true
  direct:
    description:
      - Whether O(branch) itself may be pushed to.
    type: bool
    default: false
  environment:
    description:
      - Environment of this run, V(sandbox), V(staging) or V(production). The repository must have passed
        M(repository_preflight) in the same run.
    type: str
    required: true
extends_documentation_fragment: runbook_repository
attributes:
  check_mode:
    support: full
    description: Makes the commits in a clone of its own, and pushes nothing.
  diff_mode:
    support: none
    description: The commits are named.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Take back what the bad deployment brought
  repository_revert:
    branch: main
    good: 8f14e45fceea167a5a36dedd4bea2543aa4d2f2c
    bad: c9f0f895fb98ab9159f51fd0297e236d6e2f1b07
    environment: production
    repository: https://github.com/clinic/mental-scribe.git
    repository_root: 45c48cce2e2d7fbdea1afc51c7c6ad26c4ca4238
    repository_token: "{{ app_repository_token }}"
    committer_email: operations@clinic.example
"""

RETURN = r"""
changed:
  description: Whether something was pushed, or would be in check mode.
  type: bool
  returned: always
msg:
  description: What was done, or what is wrong and the fix, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where it has to be done by hand, or V(unknown) where nobody knows whether it was pushed.
  type: str
  returned: always
pushed_to:
  description: The branch that has it; empty where there was nothing to take back.
  type: str
  returned: success
reverted:
  description: The commits that were taken back, the newest first.
  type: list
  elements: str
  returned: success
follow_ups:
  description: What is left to people.
  type: list
  elements: str
  returned: success
conflicts:
  description: Files that stand against it.
  type: list
  elements: str
  returned: where there are some
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.git import OURS, check_branch, check_commit
from ansible.module_utils.runbook.rules.words import count

#: More than this is no deployment of yesterday; somebody has to look at it.
MAX_COMMITS = 50
#: What a server says that lets nobody push to this branch.
_CLOSED = frozenset({"git_protected", "git_declined"})


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return git.argument_spec() | {
        "branch": {"type": "str", "required": True},
        "good": {"type": "str", "required": True},
        "bad": {"type": "str", "required": True},
        "direct": {"type": "bool", "default": False},
        "environment": {"type": "str", "required": True},
    }


def core(context: Context) -> dict[str, Any]:
    """Revert in a clone, then push."""
    params = context.params
    context.require_bounds(git.BOUNDS)
    branch = check_branch("branch", params["branch"])
    good, bad = (check_commit(name, params[name]) for name in ("good", "bad"))
    with git.Repository.from_params(params, read_only=context.check_mode) as repository:
        permits.require(context.run, repository.target, params["environment"])
        head = repository.fetch(branch)
        wanted = _range(repository, good, bad, head, branch)
        made = head
        for commit in wanted:
            made = repository.revert(commit, made)
        facts: dict[str, Any] = {"changed": False, "pushed_to": "", "reverted": wanted, "follow_ups": []}
        what = f"{count(len(wanted), 'commit')} after {good[:12]}, up to {bad[:12]},"
        if made == head:
            return facts | {"msg": f"{branch} has {what} taken back already."}
        place, is_new = _push(context, repository, branch, head, made, f"{OURS}revert-{bad[:12]}")
        if place != branch:
            said = (
                f"Open a pull request of {place} into {branch} and merge it: until then its next deployment is bad too."
            )
            facts["follow_ups"] = [said]
        verb = "Would take" if context.check_mode else "Took" if is_new else "An earlier run took"
        return facts | {"changed": is_new, "pushed_to": place, "msg": f"{verb} back {what} on {place}."}


def _range(repository: git.Repository, good: str, bad: str, head: str, branch: str) -> list[str]:
    """The commits to take back.

    :raises RunbookError: they do not stand one after the other on the branch, or are too many
    """
    for older, newer, where in ((good, bad, f"commit {bad[:12]}"), (bad, head, branch)):
        # Raises where it is not there at all.
        repository.parents(older)
        if not repository.is_ancestor(older, newer):
            raise RunbookError(
                f"Commit {older[:12]} is not in {where}, so what came after it is not known; revert by hand on a "
                "branch of your own, and have it reviewed.",
                code="git_not_there",
            )
    found = repository.since(good, bad)
    if len(found) > MAX_COMMITS:
        raise RunbookError(
            f"{count(len(found), 'commit')} came after {good[:12]}, more than {MAX_COMMITS}; revert by hand what was "
            "bad among them, on a branch of your own."
        )
    return found


def _push(
    context: Context, repository: git.Repository, branch: str, head: str, made: str, own: str
) -> tuple[str, bool]:  # fmt: skip
    """Push it: to which branch, and whether it was not there already."""
    if context.params["direct"]:
        if context.check_mode:
            return branch, True
        try:
            repository.push(branch, made, head)
        except RunbookError as error:
            if error.code not in _CLOSED:
                raise
            context.warn(f"{error.message} It is pushed as {own} instead.")
        else:
            return branch, True
    before = repository.heads(own).get(own, "")
    if before and repository.same_files(repository.fetch(own), made):
        return own, False
    if not context.check_mode:
        repository.push(own, made, before)
    return own, True


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="repository_revert", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
