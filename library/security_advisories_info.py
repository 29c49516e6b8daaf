#!/usr/bin/python
"""Module security_advisories_info: which advisories affect the packages of a project, and until when they wait."""

from __future__ import annotations

DOCUMENTATION = r"""
module: security_advisories_info
short_description: Find advisories that affect the packages of a project
description:
  - Reads which packages lock files name, in which versions, and asks OSV what is known of them, and with
    C(pnpm-lock.yaml) also the npm registry, by C(pnpm audit). Only names and versions leave this machine. Nothing is
    written.
  - Each advisory has a deadline, counted from its publication. By default 7 days if it is critical, 14 if it is high,
    90 if it is moderate, 180 if it is low. One that nobody has scored has the shortest.
  - An advisory is V(breach) when it is overdue. A waiver puts it off until it expires. A waiver that has expired, or
    that is for nothing that affects the project, is V(breach) too.
  - What a source did not answer is V(unknown), and so is a package whose version the lock file does not say. What the
    other sources found is told all the same.
  - The module fails where a check is not V(ok).
options:
  name:
    description: What the project is called in reports and metrics.
    type: str
    required: true
  directory:
    description: Folder of the project on this machine. Give this or O(repository).
    type: path
  repository:
    description:
      - Address of the project's git repository, C(https://host/path), C(git@host:path), or the path of a folder. It
        holds no password.
    type: str
    required: false
  branch:
    description: Branch of O(repository) that is looked at.
    type: str
  files:
    description:
      - The project's lock files, as paths within it. C(pnpm-lock.yaml), with C(lockfileVersion) 6 or newer, or files of
        pip with pinned versions.
    type: list
    elements: str
    required: true
  deadline_days:
    description:
      - Days within which an advisory must be dealt with, by its severity. They may be less than the defaults, not more.
    type: dict
    suboptions:
      critical: {description: 1 to 7 days., type: int}
      high: {description: 1 to 14 days., type: int}
      moderate: {description: 1 to 90 days., type: int}
      low: {description: 1 to 180 days., type: int}
  waivers:
    description: Advisories that somebody decided to live with for a while.
    type: list
    elements: dict
    default: []
    suboptions:
      id: {description: "Any name of the advisory, such as C(CVE-2021-23337).", type: str, required: true}
      package: {description: Only in this package., type: str}
      owner: {description: Who decided it., type: str, required: true}
      reason: {description: "Why it does no harm, or what is done meanwhile.", type: str, required: true}
      expires_on:
        description: The last day on which it counts, C(YYYY-MM-DD). At most 180 days ahead.
        type: raw
        required: true
  pnpm:
    description: pnpm 11 or newer, by its name or its path. Needed for C(pnpm-lock.yaml).
    type: str
    default: pnpm
  osv_url:
    description: Address of OSV, or of a mirror of it.
    type: str
    default: https://api.osv.dev
  timeout_s:
    description: How long one answer of OSV, or all of C(pnpm audit), may take, 1 to 300 seconds.
    type: int
    default: 60
extends_documentation_fragment: runbook_repository
attributes:
  check_mode: {support: full, description: "Reads only, so it does the same."}
  diff_mode: {support: none, description: Changes nothing.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Find what affects the application
  security_advisories_info:
    name: mental-scribe-web
    repository: https://github.com/mental-scribe/web
    repository_root: 5f0d8f1c6d3f2b7c9a1e4d5b6c7a8f9e0d1c2b3a
    branch: main
    files: [pnpm-lock.yaml]
    waivers:
      - id: CVE-2021-23337
        package: lodash
        owner: A. Meyer
        reason: The function is never called; lodash goes away with release 4.2.
        expires_on: 2027-01-31
"""

RETURN = r"""
msg: {description: "What is not ok and the fix, or how many advisories there are.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
checks:
  description: One for each source, each advisory (its C(subject) is the package) and each waiver that is not in order.
  returned: always
  type: list
project: {description: The name., returned: always, type: str}
commit: {description: "The commit that was looked at; empty with O(directory).", returned: always, type: str}
packages: {description: Number of versions of packages that were looked up., returned: always, type: int}
open: {description: Number of advisories that are not overdue and not waived., returned: always, type: int}
overdue: {description: Number of advisories that are overdue., returned: always, type: int}
waived: {description: Number of advisories that are waived., returned: always, type: int}
next_due_at: {description: When the next open advisory is due; null if none is., returned: always, type: str}
advisories:
  description: Each vulnerability of each version of a package once, the worst first.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: "Its name, that of GitHub if it has one.", type: str}
    aliases: {description: Its other names., type: list}
    package: {description: Name of the package., type: str}
    ecosystem: {description: "V(npm) or V(PyPI).", type: str}
    version: {description: The version that the lock file names., type: str}
    severity: {description: "V(critical), V(high), V(moderate), V(low) or V(unscored).", type: str}
    state: {description: "V(open), V(overdue), V(waived), or V(undated) if no source says since when it is known.",
            type: str}
    summary: {description: What it is about., type: str}
    published_at: {description: Since when it is known., type: str}
    due_at: {description: Its deadline., type: str}
    due_on: {description: The day of it., type: str}
    fixed: {description: The least newer version with the fix; empty if there is none., type: str}
    waived_by: {description: Who waives it., type: str}
    waived_until: {description: The last day of the waiver., type: str}
    sources: {description: Who knows of it., type: list}
wanted:
  description: What to update, each version of a package once, what is due first.
  returned: always
  type: list
  elements: dict
  contains:
    package: {description: Name of the package., type: str}
    ecosystem: {description: "V(npm) or V(PyPI).", type: str}
    from: {description: The version that the lock file names., type: str}
    to: {description: The least version that has all fixes., type: str}
    step: {description: "V(patch), V(minor) or V(major).", type: str}
    is_direct: {description: Whether the project itself asks for the package., type: bool}
    advisories: {description: Names of the advisories., type: list}
    due_at: {description: The first deadline of them., type: str}
    due_on: {description: The day of it., type: str}
"""

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy import git
from ansible.module_utils.runbook.drivers.updates import lock_files
from ansible.module_utils.runbook.drivers.updates.osv import OSV_URL, Osv
from ansible.module_utils.runbook.drivers.updates.pnpm import Pnpm
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.deploy.git import check_branch
from ansible.module_utils.runbook.rules.status import Check, Status, sentence, worst
from ansible.module_utils.runbook.rules.updates import advisories as rules
from ansible.module_utils.runbook.rules.updates import audit, packages
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOUNDS = {"timeout_s": (1, 300)} | git.BOUNDS
OSV = "OSV"


@contextmanager
def project(params: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """The project's folder, and the commit that is in it; of a repository a copy, which is gone afterwards.

    :raises RunbookError: neither a folder nor a repository is named, or both are, or it is not there
    """
    if bool(params["directory"]) == bool(params["repository"]):
        raise RunbookError("directory, repository: give one of them, so that it is known which project is meant.")
    if params["directory"]:
        yield Path(params["directory"]), ""
        return
    branch = check_branch("branch", params["branch"] or "")
    with git.Repository.from_params(params, read_only=True) as repository, TemporaryDirectory() as made:
        commit = repository.fetch(branch)
        repository.export(commit, Path(made) / "project")
        yield Path(made) / "project", commit


def locked(directory: Path, files: list[str]) -> packages.Locked:
    """What all lock files say together.

    :raises RunbookError: none is named, or one cannot be read or leads out of the folder
    """
    if not files:
        raise RunbookError("files: it is empty; name at least one lock file.")
    return packages.together(_locked(directory, name) for name in files)


def _locked(directory: Path, name: str) -> packages.Locked:
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise RunbookError(f"files: {name} leads out of {directory}; name files of the project.")
    if path.name == packages.PNPM_LOCK:
        return packages.of_pnpm_lock(lock_files.documents(path), str(path))
    return packages.of_requirements(lock_files.text(path))


def of_osv(
    api: Osv, wanted: packages.Locked, audited: list[rules.Advisory]
) -> tuple[Check, list[rules.Advisory]]:  # fmt: skip
    """What OSV knows of the packages. That something affects one is told, though what it is was not answered.

    :param audited: what the npm registry found, which does not say since when it is known
    """
    found: list[rules.Advisory] = []
    records: dict[str, Mapping[str, Any]] = {}
    failed: RunbookError | None = None
    try:
        affecting = api.affecting(wanted.packages)
        for advisory in audited:
            if advisory.id.startswith("GHSA-"):
                affecting.setdefault(advisory.package, []).append(advisory.id)
        for package, names in affecting.items():
            for name in dict.fromkeys(names):
                try:
                    if name not in records and failed is None:
                        records[name] = api.record(name)
                except RunbookError as error:
                    failed = error
                record = records.get(name, {"id": name})
                known = rules.of_osv(record, package, OSV)
                found += [known] if known else []
    except RunbookError as error:
        failed = error
    return (Check.unknown(OSV, failed.message) if failed else Check.ok(OSV)), found


def of_pnpm(params: dict[str, Any], lock: Path) -> tuple[Check, list[rules.Advisory]]:
    """What the npm registry knows of the packages of one lock file."""
    try:
        with TemporaryDirectory() as home:
            pnpm = Pnpm(params["pnpm"], lock.parent, Path(home) / "home", Clock(params["timeout_s"]))
            found = audit.parse(*pnpm.audit())
    except RunbookError as error:
        return Check.unknown(audit.SOURCE, error.message), []
    return Check.ok(audit.SOURCE), found


def core(context: Context) -> dict[str, Any]:
    """Read, ask, then judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    now = datetime.now(UTC)
    said = {name: value for name, value in (params["deadline_days"] or {}).items() if value is not None}
    days = rules.deadlines(said)
    given = rules.waivers(params["waivers"], now.date())
    with project(params) as (folder, commit):
        wanted = locked(folder, params["files"])
        audited = [of_pnpm(params, folder / name) for name in params["files"] if Path(name).name == packages.PNPM_LOCK]
    by_npm = [each for _, some_found in audited for each in some_found]
    asked, by_osv = of_osv(Osv(params["osv_url"], timeout_s=params["timeout_s"]), wanted, by_npm)
    sources = [asked, *(check for check, _ in audited)]
    if wanted.unpinned:
        entries = count(len(wanted.unpinned), "entry", "entries")
        sources.append(
            Check.unknown("pinned", f"{entries} without a version to look up: {some(wanted.unpinned)}; pin them.")
        )
    complete = worst(each.status for each in sources) is Status.OK
    judged = rules.judge(rules.together(by_osv + by_npm), given, days, now)
    return conclude(context, commit, wanted, judged, sources + rules.checks(judged, given, now, complete=complete))


def conclude(
    context: Context, commit: str, wanted: packages.Locked, judged: list[rules.Judged], checks: list[Check]
) -> dict[str, Any]:
    """The result."""
    name, states = context.params["name"], [each.state for each in judged]
    due = min((each.due_at for each in judged if each.state == "open" and each.due_at), default=None)
    about = f"{name}: {count(len(wanted.packages), 'package')}, {count(len(judged), 'advisory', 'advisories')}"
    named = [Check(": ".join(filter(None, (each.subject, each.name))), each.status, each.msg) for each in checks]
    return context.conclude(
        checks,
        msg=sentence(about, named) + (f" The next one is due on {due:%Y-%m-%d}." if due else ""),
        project=name,
        commit=commit,
        packages=len(wanted.packages),
        open=states.count("open"),
        overdue=states.count("overdue"),
        waived=states.count("waived"),
        next_due_at=due.isoformat() if due else None,
        advisories=[rules.figures(each) for each in judged],
        wanted=rules.wanted(judged, wanted.direct),
    )


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    text = {"type": "str", "required": True}
    return git.argument_spec() | {
        "name": text,
        "directory": {"type": "path"},
        "repository": {"type": "str"},
        "branch": {"type": "str"},
        "files": {"type": "list", "elements": "str", "required": True},
        "deadline_days": {"type": "dict", "options": {each: {"type": "int"} for each in rules.DEADLINE_DAYS}},
        "waivers": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "id": text,
                "package": {"type": "str"},
                "owner": text,
                "reason": text,
                "expires_on": {"type": "raw", "required": True},
            },
        },
        "pnpm": {"type": "str", "default": "pnpm"},
        "osv_url": {"type": "str", "default": OSV_URL},
        "timeout_s": {"type": "int", "default": 60},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="security_advisories_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
