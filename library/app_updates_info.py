#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_updates_info
short_description: List the packages of an application that are outdated
description:
  - Reads the lock file of a branch and asks the registry, with pnpm 11 or newer, which packages are outdated. Nothing
    is installed and nothing is written.
  - A registry that does not answer, or an older pnpm, is V(unknown) and fails the task.
options:
  branch:
    description:
      - The branch to look at.
    type: str
    required: true
  pnpm:
    description:
      - pnpm, by its name or its path.
    type: str
    default: pnpm
  deadline_s:
    description:
      - Longest time for pnpm, in seconds, 1 to 7200.
    type: int
    default: 600
extends_documentation_fragment:
  - runbook_repository
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: List what is outdated
  app_updates_info:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    repository_token: "{{ vault_app_repository_token }}"
    branch: main
"""

RETURN = r"""
msg:
  description: How many packages are outdated, in one sentence.
  type: str
  returned: always
status:
  description: V(ok); V(unknown) if the registry did not answer, or pnpm is older than 11.
  type: str
  returned: always
commit:
  description: Commit of the branch.
  type: str
  returned: success
outdated_packages:
  description: Number of packages of which there is a newer version.
  type: int
  returned: success
outdated:
  description:
    - Each of them, with C(package), C(current), C(latest), C(step) (V(patch), V(minor) or V(major)) and
      C(is_deprecated).
  type: list
  elements: dict
  returned: success
majors:
  description: Of these the major ones, with C(package), C(from), C(to) and C(branch), on which it would be tried.
  type: list
  elements: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.drivers.updates import application
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.git import check_branch
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.updates import branches, outdated
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """Ask pnpm about a copy of the branch."""
    params = context.params
    context.require_bounds(git.BOUNDS | {"deadline_s": (1, 7200)})
    branch, clock = check_branch("branch", params["branch"]), Clock(params["deadline_s"])
    with git.Repository.from_params(params, read_only=True) as repository:
        commit = repository.fetch(branch)
        with application.copy_of(repository, commit, params["pnpm"], clock) as copy:
            found = outdated.parse(*copy.pnpm.outdated())
    majors = [each for each in found if each.step == "major"]
    old = sum(each.is_deprecated for each in found)
    told = f", {old} deprecated" if old else ""
    return context.conclude(
        Status.OK,
        msg=f"{branch} ({commit[:12]}): {count(len(found), 'outdated package')}, {len(majors)} of them major{told}.",
        commit=commit,
        outdated_packages=len(found),
        outdated=[each.result() for each in found],
        majors=[
            {
                "package": each.package, "from": each.current, "to": each.latest,
                "branch": branches.of_major(each.package),
            }
            for each in majors
        ],
    )  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "branch": {"type": "str", "required": True},
        "pnpm": {"type": "str", "default": "pnpm"},
        "deadline_s": {"type": "int", "default": 600},
    }
    run_module(core, name="app_updates_info", argument_spec=git.argument_spec() | spec)


if __name__ == "__main__":
    main()
