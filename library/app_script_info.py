#!/usr/bin/python
"""Ansible module app_script_info: run scripts that an application has for its own checks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_script_info
short_description: Run the scripts that an application has for its own checks
description:
  - Runs scripts of C(package.json) in a copy of a branch, after an install of exactly what its lock file names, with
    pnpm 11 or newer. One that fails is a V(breach), with its last lines. All are run, whatever became of the ones
    before.
  - A script that the application does not have is named and is no failure, as the checks of this project stand beside
    it. Where it has none of O(scripts), the result is V(unknown), and no failure.
  - The scripts get none of the variables of this run. They run as the same user. The copy is gone afterwards.
options:
  branch:
    description:
      - The branch, the one that production is built from.
    type: str
    required: true
  scripts:
    description:
      - Names of scripts, in their order; none where it is to have none.
    type: list
    elements: str
    required: true
  before:
    description:
      - Scripts that have to succeed before, such as V(build), where the application has them.
    type: list
    elements: str
    default: []
  pnpm:
    description:
      - pnpm, by its name or its path.
    type: str
    default: pnpm
  deadline_s:
    description:
      - Longest time for pnpm and the scripts together, in seconds, 1 to 14400.
    type: int
    default: 1800
extends_documentation_fragment: runbook_repository
attributes:
  check_mode:
    support: full
    description: Tells which scripts would be run. Nothing is installed and no script runs.
  diff_mode:
    support: none
    description: Changes nothing.
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Run the application's own checks of performance
  app_script_info:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    branch: main
    scripts: ["audit:performance", "analyze:bundle", "test:memory-leaks"]
"""

RETURN = r"""
msg:
  description: What became of the scripts, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if a script failed, V(unknown) if none of those that are asked for could be run.
  type: str
  returned: always
commit:
  description: Commit of the branch.
  type: str
  returned: always
checks:
  description: Each script that was run, with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when scripts ran
missing_scripts:
  description: Scripts that the application does not have.
  type: list
  elements: str
  returned: always
output:
  description: The last lines of each script, by its name.
  type: dict
  returned: when scripts ran
"""

from typing import Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.drivers.updates import application
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.git import check_branch
from ansible.module_utils.runbook.rules.status import Check, Status, sentence
from ansible.module_utils.runbook.rules.text import all_visible
from ansible.module_utils.runbook.rules.words import some

#: Lines of a script that a record keeps.
_TAIL = 15


def core(context: Context) -> dict[str, Any]:
    """Run what the application has."""
    params = context.params
    context.require_bounds(git.BOUNDS | {"deadline_s": (1, 14_400)})
    branch, clock = check_branch("branch", params["branch"]), Clock(params["deadline_s"])
    with git.Repository.from_params(params, read_only=True) as repository:
        commit = repository.fetch(branch)
        with application.copy_of(repository, commit, params["pnpm"], clock) as copy:
            there = copy.scripts()
            wanted = [each for each in params["scripts"] if each in there]
            missing = [each for each in params["scripts"] if each not in there]
            facts: dict[str, Any] = {"commit": commit, "missing_scripts": missing}
            lacks = (
                f" The application has no {some(missing)}; the checks of this project stand alone there."
                if missing
                else ""
            )
            about = f"{branch} ({commit[:12]})"
            if not wanted:
                advice = " Where it is to have none, say so: scripts: []." if missing else ""
                return context.conclude(
                    Status.of(unknown=missing),
                    msg=f"{about}: no script was run.{lacks}{advice}",
                    fail_on_unknown=False,
                    **facts,
                )
            if context.check_mode:
                return context.conclude(Status.OK, msg=f"{about}: {some(wanted)} would be run.{lacks}", **facts)
            checks, output = _run(copy, [each for each in params["before"] if each in there], wanted)
    return context.conclude(checks, msg=sentence(about, checks) + lacks, output=output, **facts)


def _run(
    copy: application.Application, before: list[str], wanted: list[str]
) -> tuple[list[Check], dict[str, list[str]]]:  # fmt: skip
    failed = copy.pnpm.install()
    if failed:
        raise RunbookError(f"{failed}; no script was run.", status=Status.UNKNOWN, code="install_failed")
    checks, output = [], {}
    for name in (*before, *wanted):
        green, lines = copy.pnpm.script(name)
        output[name] = all_visible(lines[-_TAIL:])
        # pnpm repeats the command line.
        said = [line for line in output[name] if not line.startswith(("$ ", "> "))]
        last = said[-1][:300] if said else "it said nothing"
        if name in before and not green:
            checks.append(Check.unknown(name, f"It failed, so nothing after it was run: {last}"))
            return checks, output
        if name not in before:
            checks.append(Check.ok(name, "It was green.") if green else Check.breach(name, f"It failed: {last}"))
    return checks, output


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    names = {"type": "list", "elements": "str"}
    return git.argument_spec() | {
        "branch": {"type": "str", "required": True},
        "scripts": names | {"required": True},
        "before": names | {"default": []},
        "pnpm": {"type": "str", "default": "pnpm"},
        "deadline_s": {"type": "int", "default": 1800},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="app_script_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
