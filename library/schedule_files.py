#!/usr/bin/python
"""Module schedule_files: the files from which an engine starts scheduled jobs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schedule_files
short_description: Units of systemd, or a workflow of CI, for the scheduled jobs of an inventory
description:
  - Makes the files in a folder what the schedules say - for V(systemd) a service and a timer for each job that is
    enabled, and C(runbook.target), which starts and stops all timers; for V(github) and V(gitlab) one file of CI; for
    V(prometheus) alert rules for jobs that did not run or did not succeed.
  - Files of jobs that are no longer scheduled are removed, and what somebody changed by hand is changed back; the diff
    shows it. A file that this module did not make is refused, known by its first line.
  - No secret is in a file. A service reads where the vault's password is from O(environment_file).
options:
  engine:
    description:
      - Whose files are made.
    type: str
    choices: [systemd, github, gitlab, prometheus]
    required: true
  path:
    description:
      - The folder, which exists; V(/etc/systemd/system), or in a repository V(.github/workflows).
    type: path
    required: true
  schedules:
    description:
      - The jobs by their names, as M(schedule_info) describes them.
    type: dict
    required: true
  groups:
    description:
      - The groups of the inventory with their hosts. Jobs of which no group has a host are left out.
    type: dict
    required: true
  project:
    description:
      - The project's root, where the services run; absolute, without blanks.
    type: path
    required: true
  inventory:
    description:
      - The inventory, as C(-i) names it from the project's root or as an absolute path. One that lies in the project
        is named from its root.
    type: str
    required: true
  user:
    description:
      - The user as whom services run. Not root.
    type: str
    default: runbook
  environment_file:
    description:
      - File with C(ANSIBLE_VAULT_PASSWORD_FILE=) and other variables of the environment, for systemd.
    type: path
    default: /etc/runbook/environment
  write_paths:
    description:
      - Folders to which a service may write, besides the project's C(runs) and its own state.
    type: list
    elements: path
    default: []
  start:
    description:
      - Whether units of systemd are started on this machine. Then O(user), O(environment_file) and the folder C(runs)
        of the project, which belongs to that user, must be there.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Nothing is written; the diff shows what would be.
  diff_mode:
    support: full
    description: Shows each file that is made, changed or removed.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Make the timers
  schedule_files:
    engine: systemd
    path: /etc/systemd/system
    schedules: "{{ schedule_jobs }}"
    groups: "{{ groups }}"
    project: /srv/runbook
    inventory: inventories/production
"""

RETURN = r"""
msg:
  description: What was made, changed and removed, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where it was refused.
  type: str
  returned: always
written:
  description: Names of files that were made or changed.
  type: list
  elements: str
  returned: success
removed:
  description: Names of files that were removed.
  type: list
  elements: str
  returned: success
left_out:
  description: Jobs of which no group has a host.
  type: list
  elements: str
  returned: success
"""

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.schedule import folder
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.schedule import files, schedule
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some

#: What may stand in a unit and in a line of shell without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_./@+-]+")


def core(context: Context) -> dict[str, Any]:
    """Compare, and write what differs."""
    params = context.params
    place = _place(params, permits.require_approval(context.run).environment)
    if params["start"] and params["engine"] == "systemd":
        folder.require_machine(place.user, place.environment_file, Path(place.project) / "runs")
    found, left_out = schedule.with_hosts(schedule.read(params["schedules"]), params["groups"])
    schedule.refuse_doubles(found.values())
    wanted = files.files(params["engine"], found, place)
    path = Path(params["path"])
    ours = folder.read(path)
    folder.refuse_others(path, ours, wanted)
    others = files.inventories(ours.values()) - {place.inventory}
    others |= files.environments(ours.values()) - {place.environment}
    if others:
        raise RunbookError(
            f"path: the jobs in {path} are those of {some(sorted(others))}, and would be lost, as files of two "
            f"inventories have the same names; take another machine or folder for {place.inventory}, or remove those "
            "files first."
        )
    changed = {name: text for name, text in wanted.items() if ours.get(name) != text}
    gone = [name for name in ours if name not in wanted and files.is_of(params["engine"], name)]
    if not context.check_mode:
        folder.write(path, changed, gone)
    diff = [
        {
            "before_header": str(path / name),
            "after_header": str(path / name),
            "before": ours.get(name, ""),
            "after": wanted.get(name, ""),
        }
        for name in sorted({*changed, *gone})
    ]
    would = "would be " if context.check_mode else ""
    done = [
        f"{count(len(names), 'file')} {would}{word}{f' ({some(names)})' if names else ''}"
        for word, names in (("written", sorted(changed)), ("removed", gone))
        if names
    ]
    skipped = f" Left out, as their groups have no host: {some(left_out)}." if left_out else ""
    said = "; ".join(done) or f"{count(len(wanted), 'file')}, as they should be"
    return context.conclude(
        Status.OK,
        changed=bool(diff),
        msg=f"{said[0].upper()}{said[1:]} in {path}.{skipped}",
        written=sorted(changed),
        removed=gone,
        left_out=left_out,
    ) | ({"diff": diff} if context.diff else {})


def _place(params: dict[str, Any], environment: str) -> files.Place:
    given = Path(params["inventory"])
    inside = [path for path in (given, given.resolve()) if path.is_relative_to(params["project"])]
    if inside:
        params = params | {"inventory": str(inside[0].relative_to(params["project"]))}
    place = files.Place(
        params["project"], params["inventory"], environment, params["user"], params["environment_file"],
        tuple(params["write_paths"]),
    )  # fmt: skip
    for option in ("project", "inventory", "user", "environment_file", "write_paths"):
        for value in params[option] if option == "write_paths" else [params[option]]:
            if not _PLAIN.fullmatch(value):
                raise RunbookError(
                    f"{option}: {value!r} cannot stand in a unit; take letters, digits and _ . / @ + - alone."
                )
    if place.user in {"root", "0"}:
        raise RunbookError("user: scheduled jobs do not run as root; name a user of their own.")
    if not place.project.startswith("/"):
        raise RunbookError(f"project: {place.project!r} is no absolute path; give the project's root.")
    return place


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="schedule_files",
        argument_spec={
            "engine": {"type": "str", "choices": [*files.ENGINES], "required": True},
            "path": {"type": "path", "required": True},
            "schedules": {"type": "dict", "required": True},
            "groups": {"type": "dict", "required": True},
            "project": {"type": "path", "required": True},
            "inventory": {"type": "str", "required": True},
            "user": {"type": "str", "default": "runbook"},
            "environment_file": {"type": "path", "default": "/etc/runbook/environment"},
            "write_paths": {"type": "list", "elements": "path", "default": []},
            "start": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
