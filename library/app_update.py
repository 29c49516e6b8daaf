#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_update
short_description: Update packages of an application on a branch
description:
  - Updates packages in a copy of a branch with pnpm 11 or newer, installs exactly what the lock file then names, and
    runs scripts of the application. Where they succeed, it pushes one commit with C(package.json) and C(pnpm-lock.yaml)
    to a branch of its own. Where one fails, nothing is pushed.
  - Without O(packages) all packages are updated within the ranges that C(package.json) asks for.
  - A version younger than the application's own release age (C(minimumReleaseAge)) is not taken.
  - The scripts get none of the variables of this run. They run as the same user.
  - A branch that has the same update of the same commit is left as it is. One to which somebody else committed is not
    replaced until it was merged or deleted.
options:
  base_branch:
    description:
      - The branch that is updated, the one that production is built from.
    type: str
    required: true
  branch:
    description:
      - The branch that is pushed, which begins with C(runbook/). One that is there is replaced.
    type: str
    required: true
  packages:
    description:
      - What to update. Empty for all packages, within their ranges.
    type: list
    elements: dict
    default: []
    suboptions:
      package:
        description:
          - Name of the package.
        type: str
        required: true
      to:
        description:
          - The version, or a newer one that the way to ask for it admits. C(^1.2.0) becomes C(^2.0.0). A package that
            comes with another one is updated within that one's range.
        type: str
        required: true
  scripts:
    description:
      - Scripts in C(package.json) that must succeed, in this order. At least one.
    type: list
    elements: str
    required: true
  blocks:
    description:
      - Whether the task fails if a script fails, the package cannot be installed or does not move, or somebody else
        works on the branch. If not, the status is V(breach) and the playbook goes on, as with the next major version.
    type: bool
    default: true
  pnpm:
    description:
      - pnpm, by its name or its path.
    type: str
    default: pnpm
  deadline_s:
    description:
      - Longest time for pnpm and the scripts together, in seconds, 1 to 14400.
    type: int
    default: 3600
extends_documentation_fragment:
  - runbook_repository
attributes:
  check_mode:
    support: full
    description: Shows what would be updated. Nothing is installed, no script runs, nothing is pushed.
  diff_mode:
    support: full
    description: Shows each package with its versions.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Update within the ranges
  app_update:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    repository_token: "{{ vault_app_repository_token }}"
    committer_email: runbook@mental-scribe.example
    base_branch: main
    branch: runbook/updates
    scripts: [lint, test, build]

- name: Try a major version
  app_update:
    repository: https://github.com/mental-scribe/web
    repository_root: 3f786850e387550fdab836ed7e6dc881de23001b
    committer_email: runbook@mental-scribe.example
    base_branch: main
    branch: runbook/major-next
    packages: [{package: next, to: 15.0.1}]
    scripts: [lint, test, build]
"""

RETURN = r"""
changed:
  description: Whether the branch was pushed, or would be.
  type: bool
  returned: always
msg:
  description: What was updated and where it is, or what failed and the fix.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if a script failed or a package did not move, V(unknown) without an answer.
  type: str
  returned: always
branch:
  description: The branch.
  type: str
  returned: when there is something to update
commit:
  description: The commit that was pushed. The one that is there already if nothing differs; empty in check mode.
  type: str
  returned: success
base_commit:
  description: The commit that was updated.
  type: str
  returned: success
updates:
  description:
    - What changes in the lock file, with C(package), C(from), C(to), C(step) and C(is_direct) (the application itself
      asks for it).
  type: list
  elements: dict
  returned: when pnpm could tell
updated_packages:
  description: Number of packages that the application itself asks for and that are updated.
  type: int
  returned: when pnpm could tell
held_back:
  description: Newer versions that were not taken, with C(package), C(version), C(latest) and C(why).
  type: list
  elements: dict
  returned: when pnpm could tell
scripts:
  description: Scripts that succeeded.
  type: list
  elements: str
  returned: when scripts ran
changelogs:
  description:
    - Of each major version, with C(package), C(from), C(to), C(lines) (what breaks, out of the changelog that the
      package ships) and C(source) (where its repository is).
  type: list
  elements: dict
  returned: when scripts ran
code:
  description: One word for what is wrong.
  type: str
  returned: when something is
output:
  description: The last lines of the script that failed.
  type: list
  elements: str
  returned: when a script failed
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.drivers.updates import application
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.git import check_branch
from ansible.module_utils.runbook.rules.text import all_visible, as_lines
from ansible.module_utils.runbook.rules.updates import branches, changelog, outdated, packages, versions
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.drivers.deploy.git import Repository
    from ansible.module_utils.runbook.drivers.updates.application import Application
    from ansible.module_utils.runbook.rules.updates.outdated import Change


#: Codes of what is wrong with one update, and says nothing of the next.
OF_THIS_ONE = frozenset({"branch_of_others", "install_failed", "pnpm_update", "tests_red", "update_stuck"})


def core(context: Context) -> dict[str, Any]:
    """Update, and say what is wrong with it in the way that the playbook wants."""
    try:
        return update(context)
    except RunbookError as error:
        if context.params["blocks"] or error.code not in OF_THIS_ONE:
            raise
        facts = {key: value for key, value in error.context.items() if key not in ("status", "code")}
        return context.conclude(
            error.status, msg=error.message, fail_on_breach=False, fail_on_unknown=False, code=error.code, **facts
        )


def update(context: Context) -> dict[str, Any]:
    """Update a copy, test it, push it."""
    params = context.params
    context.require_bounds(git.BOUNDS | {"deadline_s": (1, 14_400)})
    base_branch = check_branch("base_branch", params["base_branch"])
    branch = branches.check("branch", params["branch"])
    if not params["scripts"]:
        raise RunbookError("scripts: it is empty, so nothing would prove the update; name scripts of package.json.")
    if not params["committer_email"]:
        raise RunbookError(
            "committer_email: it is not set, and a commit bears one; give an address that the server knows."
        )
    clock = Clock(params["deadline_s"])
    environment = permits.require_approval(context.run).environment
    with git.Repository.from_params(params, read_only=True) as repository:
        permits.require(context.run, repository.target, environment)
        base = repository.fetch(base_branch)
        old = repository.heads(branch).get(branch, "")
        with application.copy_of(repository, base, params["pnpm"], clock) as copy:
            facts, changes = _update(context, copy, {"base_commit": base, "branch": branch})
            files = copy.changed()
            if not files:
                return _nothing(context, facts)
            is_there = bool(old) and _is_there(repository, branch, base, files, params["committer_email"])
            if not is_there and not context.check_mode:
                facts |= _test(context, repository, base, copy, facts, clock)
                facts["changelogs"] = _changelogs(copy, changes)
    facts |= _diff(context, changes)
    if is_there:
        return facts | {"changed": False, "commit": old, "msg": f"{branch} ({old[:12]}) has this update already."}
    commit = "" if context.check_mode else _push(context, base_branch, base, branch, old, files, changes)
    verb = "would be" if context.check_mode else "was"
    tested = "" if context.check_mode else f", tested with {', '.join(params['scripts'])}"
    msg = f"{_told(changes)} {verb} updated on {branch}{f' ({commit[:12]})' if commit else ''}{tested}."
    return facts | {"changed": True, "commit": commit, "msg": msg}


def _update(
    context: Context, copy: Application, facts: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Change]]:  # fmt: skip
    """Let the lock file of the copy name newer versions."""
    params, wanted = context.params, context.params["packages"]
    unknown = [each for each in params["scripts"] if each not in copy.scripts()]
    if unknown:
        raise RunbookError(f"scripts: package.json has no script {some(unknown)}; name those that it has.")
    first = copy.lock()
    before, own = packages.of_pnpm_lock(first, packages.PNPM_LOCK), outdated.direct(first)
    names = {each["package"] for each in wanted}
    newest = [
        each for each in outdated.parse(*copy.pnpm.outdated(of_any_age=True)) if not wanted or each.package in names
    ]
    absent = [each["package"] for each in wanted if all(each["package"] != known.name for known in before.packages)]
    if absent:
        raise RunbookError(f"packages: the lock file has no {some(absent)}; take it out of packages.")
    copy.pnpm.update([outdated.spec(each["package"], each["to"], own.get(each["package"])) for each in wanted])
    now = copy.lock()
    after, left = packages.of_pnpm_lock(now, packages.PNPM_LOCK), outdated.direct(now)
    ages = {name: copy.pnpm.published(name) for name in outdated.needs_age(newest, left)}
    held = outdated.held_back(newest, left, ages, copy.pnpm.release_age_min(), datetime.now(UTC))
    changes = outdated.between(first, now)
    facts = dict(facts) | {
        "updates": [each.result() for each in changes],
        "updated_packages": sum(each.is_direct and bool(each.to_version) for each in changes),
        "held_back": held,
    }
    # A version that is still named although a newer one was asked for, as by another package's range.
    stuck = [
        f"{each['package']} {known.version}"
        for each in wanted
        for known in after.packages
        if known.name == each["package"] and versions.newest([known.version, each["to"]]) != known.version
    ]
    if stuck:
        raise RunbookError(
            f"packages: {some(stuck)} stays in the lock file, because another package's range admits nothing newer; "
            "update that one, or let pnpm-workspace.yaml override the version. Nothing was pushed.",
            code="update_stuck",
            **facts,
        )
    return facts, changes


def _nothing(context: Context, facts: Mapping[str, Any]) -> dict[str, Any]:
    held = len(facts["held_back"])
    told = f"; {count(held, 'newer version is', 'newer versions are')} held back" if held else ""
    what = "The packages are as asked for" if context.params["packages"] else "Nothing is outdated within its range"
    return {"changed": False, **facts, "commit": "", "msg": f"{what}{told}."}


def _is_there(repository: Repository, branch: str, base: str, files: Mapping[str, bytes], email: str) -> bool:
    """Whether the branch is this very update of this very commit; what is pushed was tested before.

    :raises RunbookError: it is another one, and somebody else has worked on it
    """
    commit = repository.fetch(branch)
    parents = repository.parents(commit)
    is_merged = repository.is_ancestor(commit, base)
    is_ours = len(parents) == 1 and repository.is_ancestor(parents[0], base) and repository.committer(commit) == email
    if not (is_merged or is_ours):
        raise RunbookError(
            f"branch: somebody else has committed to {branch} ({commit[:12]}), and it would be replaced; bring it to "
            "production or delete it, then run this again. Nothing was pushed.",
            code="branch_of_others",
        )
    if parents != [base]:
        return False
    return repository.same_files(base, commit, besides=files) and all(
        repository.read(commit, path) == data for path, data in files.items()
    )


def _test(
    context: Context, repository: Repository, base: str, copy: Application, facts: Mapping[str, Any], clock: Clock
) -> dict[str, Any]:
    """Install what the lock file names, and run the scripts.

    :raises RunbookError: one is red
    """
    names: Sequence[str] = context.params["scripts"]
    total = len(names) + 1
    context.progress.update("install", 0, total, "steps")
    lacks = copy.pnpm.install()
    if lacks:
        raise RunbookError(f"{lacks}; nothing was pushed.", code="install_failed", **facts)
    for number, name in enumerate(names, 1):
        context.progress.update(f"pnpm run {name}", number, total, "steps")
        green, lines = copy.pnpm.script(name)
        if green:
            continue
        with application.copy_of(repository, base, context.params["pnpm"], clock) as untouched:
            was_red = bool(untouched.pnpm.install()) or not untouched.pnpm.script(name)[0]
        because = (
            "and it is red without the update too: repair the branch first"
            if was_red
            else "and it is green without the update: read its output, and adapt the application on a branch by hand"
        )
        raise RunbookError(
            f"pnpm run {name} is red with the update, {because}. Nothing was pushed.",
            code="tests_red", output=all_visible(lines), scripts=list(names[: number - 1]), **facts,
        )  # fmt: skip
    context.progress.update("scripts", total, total, "steps", final=True)
    return {"scripts": list(names)}


def _changelogs(copy: Application, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """What breaks in each major version that the application itself asks for."""
    found = []
    for each in changes:
        if each.is_direct and each.step == "major":
            text, source = copy.changelog(each.package, changelog.NAMES)
            extract = changelog.breaking(text, each.from_version, each.to_version)
            found.append(
                {
                    "package": each.package, "from": each.from_version, "to": each.to_version,
                    "lines": extract.splitlines(), "source": source,
                }
            )  # fmt: skip
    return found


def _push(
    context: Context, base_branch: str, base: str, branch: str, old: str, files: Mapping[str, bytes],
    changes: Sequence[Change],
) -> str:  # fmt: skip
    """Commit and push, from a clone that no script of the application has ever seen."""
    with git.Repository.from_params(context.params, read_only=False) as repository:
        repository.fetch(base_branch)
        commit = repository.commit(base, files, branches.message(changes, context.params["scripts"]))
        repository.push(branch, commit, old)
    return commit


def _told(changes: Sequence[Change]) -> str:
    own = [str(each) for each in changes if each.is_direct and each.to_version]
    return some(own, 3) if own else count(len(changes), "package that others bring", "packages that others bring")


def _diff(context: Context, changes: Sequence[Change]) -> dict[str, Any]:
    return {"diff": {"prepared": as_lines(map(str, changes))}} if context.diff else {}


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    spec = {
        "base_branch": text,
        "branch": text,
        "packages": {"type": "list", "elements": "dict", "default": [], "options": {"package": text, "to": text}},
        "scripts": {"type": "list", "elements": "str", "required": True},
        "blocks": {"type": "bool", "default": True},
        "pnpm": {"type": "str", "default": "pnpm"},
        "deadline_s": {"type": "int", "default": 3600},
    }
    run_module(core, name="app_update", argument_spec=git.argument_spec() | spec)


if __name__ == "__main__":
    main()
