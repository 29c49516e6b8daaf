#!/usr/bin/python
"""Module log_rotate: rotate the log files of a host by logrotate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_rotate
short_description: Rotate the log files of a host by logrotate
description:
  - Writes logrotate's configuration for O(files), after logrotate itself found no fault in it beside the other files of
    its folder, and lets logrotate rotate.
  - Files are renamed, never copied and truncated, which loses the lines that are written in between. The new names hold
    the moment of the rotation. logrotate deletes nothing; M(log_archive) does, once a file is archived.
  - Where another logrotate is at work this waits for it, and is V(unknown) where that lasts longer than O(deadline_s).
options:
  files:
    description:
      - The streams, each with C(name), C(class), C(paths) (absolute, with patterns of the shell), and where needed
        C(postrotate) (what tells the writer to open its log again, run on that host), C(create) (mode, user and group
        of the new file, where the writer does not make it) and C(su) (user and group that rotate).
    type: list
    elements: dict
    required: true
  config:
    description:
      - File of the configuration on that host.
    type: str
    default: /etc/logrotate.d/runbook-logs
  state_file:
    description:
      - State file of logrotate on that host. That of the system's own logrotate, if O(config) lies in a folder that it
        reads, so that the two keep each other away.
    type: str
    default: /var/lib/logrotate/status
  force:
    description:
      - Whether files are rotated though a day has not passed.
    type: bool
    default: false
  ssh:
    description:
      - Where the files are, as ssh(1) has it. This machine if unset. The host's key must be known, and a key of this
        user must open it.
    type: str
    default: ''
  become:
    description:
      - Whether everything is done as root there, by C(sudo -n).
    type: bool
    default: false
  environment:
    description:
      - Environment of this run.
    type: str
    required: true
  deadline_s:
    description:
      - How long logrotate may take, and how long another one is waited for, in seconds, 1 to 3,600.
    type: int
    default: 300
attributes:
  check_mode: {support: full, description: "Lets logrotate check the configuration, and shows it."}
  diff_mode: {support: full, description: Shows the configuration.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Rotate the logs of nginx
  log_rotate:
    environment: production
    ssh: runbook@web.example.com
    become: true
    files:
      - name: nginx-access
        class: access
        paths: [/var/log/nginx/access.log]
        create: 0640 www-data adm
        postrotate: invoke-rc.d nginx rotate
"""

RETURN = r"""
msg: {description: "What was rotated, or what is wrong and the fix, in one sentence.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
rotated: {description: "Files that are new.", returned: always, type: list, elements: str}
rotated_files: {description: "How many.", returned: always, type: int}
configured: {description: "Whether the configuration was written, or would be.", returned: always, type: bool}
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.logs.agent import BUSY
from ansible.module_utils.runbook.drivers.logs.host import Host
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.logs import files as rules
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some

#: Seconds between two tries where another logrotate is at work.
PAUSE_S = 2


def core(context: Context) -> dict[str, Any]:
    """Configure, then rotate."""
    params = context.params
    context.require_bounds({"deadline_s": (1, 3600)})
    streams = rules.read(params["files"])
    if not streams:
        raise RunbookError("files: it is empty; name the log files.")
    for option in ("config", "state_file"):
        if not params[option].startswith("/"):
            raise RunbookError(f"{option}: {params[option]!r} is no absolute path; give one.")
    permits.require_environment(context.run, params["environment"])
    host = Host(params["ssh"], become=params["become"])
    clock = Clock(params["deadline_s"])
    text = rules.configuration(streams)
    patterns = [pattern for each in streams for pattern in each.rotated]
    before = {each.path for each in host.listing(patterns)}
    while True:
        done = host.rotate(
            config=params["config"], state=params["state_file"], text=text, force=params["force"],
            look=context.check_mode, timeout_s=params["deadline_s"],
        )  # fmt: skip
        if done.get("code") != BUSY or clock.is_over():
            break
        clock.sleep(PAUSE_S)
    rotated = sorted(each.path for each in host.listing(patterns) if each.path not in before)
    facts: dict[str, Any] = {
        "changed": bool(rotated) or done["changed"],
        "configured": done["changed"],
        "rotated": rotated,
        "rotated_files": len(rotated),
    }
    if context.diff:
        headers = {"before_header": params["config"], "after_header": params["config"]}
        facts["diff"] = {"before": done["before"], "after": text} | headers
    if context.check_mode:
        written = "would be written" if done["changed"] else "is as it should be"
        return facts | {"msg": f"{host.name}: logrotate accepts {params['config']}, which {written}."}
    if done["code"] == BUSY:
        raise RunbookError(
            f"{host.name}: another logrotate is at work for {clock.passed_s():.0f} s; look at it, and run again.",
            **(facts | {"status": Status.UNKNOWN}),
        )
    if done["code"]:
        said = "; ".join(done["said"]) or f"it ended with {done['code']}"
        raise RunbookError(f"{host.name}: logrotate failed: {said}.", **facts)
    named = f": {some(path.rpartition('/')[2] for path in rotated)}" if rotated else ""
    return facts | {"msg": f"{host.name}: {count(len(rotated), 'file')} rotated{named}."}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="log_rotate",
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True},
            "config": {"type": "str", "default": "/etc/logrotate.d/runbook-logs"},
            "state_file": {"type": "str", "default": "/var/lib/logrotate/status"},
            "force": {"type": "bool", "default": False},
            "ssh": {"type": "str", "default": ""},
            "become": {"type": "bool", "default": False},
            "environment": {"type": "str", "required": True},
            "deadline_s": {"type": "int", "default": 300},
        },
    )


if __name__ == "__main__":
    main()
