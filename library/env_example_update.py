#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: env_example_update
short_description: Name the environment variables of a project in the example file of its repository
description:
  - Compares the names of the variables that the project at Vercel has with those in O(path) on O(branch). Names that
    are missing are added, without a value, by a commit on the branch C(runbook/env-example), for a pull request.
  - Fails where a value in the file looks as if it worked, before anything is pushed. The text of the error names the
    variable and the line, and not the value.
  - A second run pushes nothing.
options:
  vercel:
    description:
      - The project at Vercel that serves the application. Names are read, and no value.
    type: dict
    required: true
    suboptions:
      project_id: &required_text
        description:
          - As for M(vercel_preflight).
        type: str
        required: true
      project_name:
        description:
          - As for M(vercel_preflight).
        type: str
      team_id:
        description:
          - As for M(vercel_preflight).
        type: str
        default: ''
      access_token: *required_text
      api_url:
        description:
          - As for M(vercel_preflight).
        type: str
        default: https://api.vercel.com
      ca_cert:
        description:
          - As for M(vercel_preflight).
        type: path
      timeout_s:
        description:
          - As for M(vercel_preflight).
        type: int
        default: 30
  branch:
    description:
      - The branch that is deployed to production.
    type: str
    required: true
  path:
    description:
      - The file, from the root of the repository. One that is not there is made.
    type: str
    default: .env.example
extends_documentation_fragment: runbook_repository
attributes:
  check_mode:
    support: full
    description: Reads and compares, and pushes nothing.
  diff_mode:
    support: full
    description: Shows the names that are added. The file's own values are left out.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Name new variables in .env.example
  env_example_update:
    vercel:
      project_id: prj_1a2b3c4d5e
      team_id: team_1a2b3c
      access_token: "{{ vercel_access_token }}"
    branch: main
    repository: https://github.com/clinic/mental-scribe.git
    repository_root: 45c48cce2e2d7fbdea1afc51c7c6ad26c4ca4238
    repository_token: "{{ app_repository_token }}"
    committer_email: operations@clinic.example
"""

RETURN = r"""
changed:
  description: Whether a branch was pushed, or would be.
  type: bool
  returned: always
msg:
  description: What was named where, or which value looks alive, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if a value looks alive, V(unknown) if nobody knows whether it was pushed.
  type: str
  returned: always
added:
  description: Names that were added, or would be.
  type: list
  elements: str
  returned: success
unknown_names:
  description: Names in the file of which the project has no variable.
  type: list
  elements: str
  returned: success
pushed_to:
  description: The branch that has the commit; empty where nothing was missing.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.deploy import git, vercel
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.deployments import NOT_OURS
from ansible.module_utils.runbook.rules.deploy.git import OURS, check_branch
from ansible.module_utils.runbook.rules.keys import env_example as rules
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import some

OWN = f"{OURS}env-example"


def core(context: Context) -> dict[str, Any]:
    """Compare, then push what is missing."""
    params = context.params
    context.require_bounds(git.BOUNDS)
    branch, path = check_branch("branch", params["branch"]), params["path"]
    project = vercel.Vercel.from_params(params["vercel"], read_only=True)
    with git.Repository.from_params(params, read_only=context.check_mode) as repository:
        permits.require(context.run, repository.target, permits.require_approval(context.run).environment)
        names = {each.name for each in project.env() if each.type not in NOT_OURS}
        head = repository.fetch(branch)
        text = (repository.read(head, path) or b"").decode(errors="replace")
        found = rules.alive(text)
        if found:
            raise RunbookError(
                f"{path}: {some(map(str, found))} on {branch} looks like a value that works. Replace that key, for "
                "the repository keeps it; then take it out of the file, and run this again."
            )
        added = rules.missing(text, names)
        unknown = sorted(set(rules.names_of(text)) - names)
        facts: dict[str, Any] = {"changed": False, "added": added, "unknown_names": unknown, "pushed_to": ""}
        if not added:
            return facts | {"msg": f"{path} names all variables of the project."}
        made = repository.commit(head, {path: rules.extended(text, names).encode()}, f"Name {some(added)} in {path}")
        is_new = _push(repository, made, head, check_mode=context.check_mode)
    verb = "Would name" if context.check_mode else "Named" if is_new else "An earlier run named"
    facts |= {"changed": is_new, "pushed_to": OWN}
    if context.diff:
        facts["diff"] = {"prepared": as_lines(f"{name}=" for name in added)}
    return facts | {"msg": f"{verb} {some(added)} in {path} on {OWN}; open a pull request into {branch}, and merge it."}


def _push(repository: git.Repository, made: str, head: str, *, check_mode: bool) -> bool:
    """Push the commit; False where the branch has the same files already, from a base that is not behind."""
    before = repository.heads(OWN).get(OWN, "")
    if before:
        there = repository.fetch(OWN)
        if repository.same_files(there, made) and repository.is_ancestor(head, there):
            return False
    if not check_mode:
        repository.push(OWN, made, before)
    return True


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "vercel": {"type": "dict", "required": True, "options": vercel.argument_spec()},
        "branch": {"type": "str", "required": True},
        "path": {"type": "str", "default": ".env.example"},
    }
    run_module(core, name="env_example_update", argument_spec=git.argument_spec() | spec)


if __name__ == "__main__":
    main()
