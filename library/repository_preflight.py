#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_preflight
short_description: Verify the identity of a git repository and take its lease
description:
  - Verifies that the repository answers, has the branch, and that the branch begins with the commit that the inventory
    pins. Run M(runbook_preflight) first in the same run.
  - Takes the lease if the inventory names a state store. C(ansible-playbook) renews and releases it.
  - Records the result in the folder of the run. Modules that push to a repository refuse one that has not passed in the
    same run.
options:
  branch:
    description:
      - The branch whose first commit is compared, the one that production is built from.
    type: str
    required: true
extends_documentation_fragment:
  - runbook_repository
  - runbook_state
  - runbook_lease
attributes:
  check_mode:
    support: full
    description:
      - Runs the checks. Reads the lease without taking it, and fails if another run holds it. Other modules of the run
        may then only read.
  diff_mode:
    support: none
    description: Writes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Verify the repository
  repository_preflight:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    repository_token: "{{ vault_app_repository_token }}"
    branch: main
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: What was verified, or which check failed and the fix, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if it is another repository or refuses, V(unknown) if it does not answer.
  type: str
  returned: always
checks:
  description: The checks, C(identity) and C(lease), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when this run passed M(runbook_preflight)
target:
  description:
    - The verified target, with C(kind) (V(repository)), C(place) (address), C(name) (id of the first commit) and
      C(environment) (of this run).
  type: dict
  returned: success
lease:
  description:
    - C(name), C(decision) (V(acquire), V(renew), V(take_over); V(none) without a state store or O(take_lease)) and
      C(expires_at). In check mode C(decision) is what the real run would do, and C(expires_at) is null.
  type: dict
  returned: success
commit:
  description: Commit that the branch has now.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import lease_wait, permits, state_lease
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.deploy.git import Place, check_branch


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return git.argument_spec() | state_lease.argument_spec() | {"branch": {"type": "str", "required": True}}


def core(context: Context) -> dict[str, Any]:
    """Compare the repository with the inventory, and write down what passed."""
    params, checks = context.params, preflight.Checks()
    context.require_bounds(lease_wait.BOUNDS | git.BOUNDS)
    approval = permits.require_approval(context.run)
    with checks.named("identity") as check:
        preflight.check_filled_in({name: params[name] for name in ("repository", "repository_root", "branch")})
        branch = check_branch("branch", params["branch"])
        with git.Repository.from_params(params, read_only=True) as repository:
            first = repository.first_commit(branch)
            commit = repository.heads(branch)[branch]
        place = Place.named(params["repository"], params["repository_root"] or "")
        place.require(first)
        check["msg"] = f"{place.url} is the repository that the inventory means; {branch} is at {commit[:12]}."
    admitted = state_lease.admit(params, context.run, repository.target, approval, checks, context.progress.update)
    return context.conclude(checks.done, msg=checks.done[0].msg, commit=commit, **admitted)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="repository_preflight", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
