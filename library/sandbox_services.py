#!/usr/bin/python
"""Start and stop the services around a change in the sandbox."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_services
short_description: Run the services around a change on loopback
description:
  - Starts or stops, on 127.0.0.1, what a change talks to. An application behind nginx with its maintenance mode, a
    Prometheus that watches it, an Alertmanager; and fakes of a ticket system (GitHub's issues), a status page
    (Statuspage), a channel of the team (Slack) and a mail server.
  - Each has a folder in O(path). What a fake holds is JSON in C(outside/), is shown as a page at its address, and
    survives a restart. C(addresses.txt) says where to look at them.
  - A program that this machine does not have is left out, and a warning names its package.
  - The programs keep running after Ansible ends. One that is gone is started again. How they are reached is in
    C(state.json), readable only by its owner, where the inventory reads it.
options:
  path:
    description:
      - Directory for the services alone.
    type: path
    required: true
  state:
    description:
      - V(started) starts what does not run. V(stopped) keeps what the services hold. V(absent) deletes it.
    type: str
    default: started
    choices: [started, stopped, absent]
  nginx_path:
    description:
      - Directory with C(http.conf), C(server.conf) and the page of maintenance mode for nginx; C(docs/howto/nginx).
    type: path
  fakes_path:
    description:
      - Directory with the Python package C(fakes), which serves what is outside; C(tests).
    type: path
attributes:
  check_mode:
    support: full
    description: Reports what would be done.
author: Mental Scribe operations (@mental-scribe)
"""

EXAMPLES = r"""
- name: Start the services around a change
  sandbox_services:
    path: /srv/sandbox/services
    nginx_path: "{{ playbook_dir }}/../docs/howto/nginx"
    fakes_path: "{{ playbook_dir }}/../tests"
"""

RETURN = r"""
msg:
  description: What was done, in one sentence.
  type: str
  returned: always
status:
  description: V(ok).
  type: str
  returned: success
running:
  description: Names of the services that run, or would.
  type: list
  elements: str
  returned: O(state=started)
missing:
  description: What is left out, and why; a sentence each.
  type: list
  elements: str
  returned: O(state=started)
addresses:
  description: File that says where to look at each of them.
  type: str
  returned: O(state=started)
duration_s:
  description: Duration in seconds.
  type: float
  returned: success
executed_queries:
  description: Always empty.
  type: list
  elements: str
  returned: success
"""

import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers.sandbox.sandbox import STATE_FILE, Home
from ansible.module_utils.runbook.drivers.sandbox.services import ADDRESSES, FOLDERS, Services
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.sandbox import demo_alerts, demo_history, demo_levels
from ansible.module_utils.runbook.rules.text import as_lines


def core(context: Context) -> dict[str, Any]:
    """Bring the services into the wanted state."""
    home = Home(context.params["path"])
    begun = time.monotonic()
    wanted = context.params["state"]
    with home.mine(write=not context.check_mode and (wanted == "started" or home.path.exists())):
        home.refuse_strangers(*FOLDERS)
        result = _started(context, home) if wanted == "started" else _ended(context, home)
    base = {"executed_queries": [], "duration_s": round(time.monotonic() - begun, 1)}
    if result["changed"]:
        base["diff"] = {"prepared": as_lines([result["msg"]])}
    return base | result


def _started(context: Context, home: Home) -> dict[str, Any]:
    services = Services(home)
    paths = (Path(context.params[name]).resolve() for name in ("nginx_path", "fakes_path"))
    now = datetime.now(UTC)
    services.start(
        *paths, history=demo_history.openmetrics(now, [*demo_alerts.openmetrics(now), *demo_levels.openmetrics(now)]),
        pagerduty=demo_alerts.pagerduty(now), would=context.check_mode,
    )  # fmt: skip
    for each in services.missing:
        context.warn(each)
    addresses = home.path / ADDRESSES
    running, started = ", ".join(services.running), ", ".join(services.started)
    if started:
        msg = f"{'Would start' if context.check_mode else 'Started'} {started}"
    else:
        msg = f"{running} already run" if running else "Nothing that could be started is installed"
    return {
        "changed": bool(started),
        "msg": f"{msg}; {addresses} says where." if started or running else f"{msg}.",
        "running": services.running + services.started,
        "missing": services.missing,
        "addresses": str(addresses),
    }


def _ended(context: Context, home: Home) -> dict[str, Any]:
    absent = context.params["state"] == "absent"
    services = None
    try:
        services = Services(home)
    except RunbookError:
        # What is about to be removed need not be whole.
        if not absent:
            raise
    there = (home.path / STATE_FILE).exists() if absent else services is not None and services.were_started
    if not there:
        return {"changed": False, "msg": f"The services in {home.path} do not run."}
    verb = "remove" if absent else "stop"
    if context.check_mode:
        return {"changed": True, "msg": f"Would {verb} the services in {home.path}."}
    if services:
        services.stop(signal.SIGKILL if absent else signal.SIGTERM)
    if absent:
        home.remove(*FOLDERS, ADDRESSES)
        return {"changed": True, "msg": f"Removed the services in {home.path}, and what they held."}
    return {"changed": True, "msg": f"Stopped the services in {home.path}; what they hold is kept."}


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="sandbox_services",
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "default": "started", "choices": ["started", "stopped", "absent"]},
            "nginx_path": {"type": "path"},
            "fakes_path": {"type": "path"},
        },
        required_if=[("state", "started", ["nginx_path", "fakes_path"])],
    )


if __name__ == "__main__":
    main()
