#!/usr/bin/python
"""Start and stop the application of the sandbox."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_application
short_description: Run an application with its repository and its registry on loopback
description:
  - Makes a git repository with a small application, and starts what its updates talk to on 127.0.0.1. A registry of
    npm's (verdaccio) with its packages; and fakes of Vercel, which deploys what is pushed to the repository, of the
    sites of production and staging, and of OSV.
  - Its pages are served by nginx with a cache. Where nginx is not installed they are left out, and a warning says so.
  - One package of the application has a known vulnerability, and one is a major version behind.
  - pnpm and verdaccio are fetched by npm once, into O(cache_path).
  - The programs keep running after Ansible ends. How they are reached is in C(state.json), readable only by its owner,
    where the inventory reads it.
options:
  path:
    description:
      - Directory for the application alone.
    type: path
    required: true
  state:
    description:
      - V(started) starts what does not run. V(stopped) keeps the repository. V(absent) deletes it.
    type: str
    default: started
    choices: [started, stopped, absent]
  fakes_path:
    description:
      - Directory with the Python package C(fakes), which serves what is outside; C(tests).
    type: path
  cache_path:
    description:
      - Directory in which the programs that npm fetches are kept.
    type: path
attributes:
  check_mode:
    support: full
    description: Reports what would be done.
author: Mental Scribe operations (@mental-scribe)
"""

EXAMPLES = r"""
- name: Start the application
  sandbox_application:
    path: /srv/sandbox/application
    fakes_path: "{{ playbook_dir }}/../tests"
    cache_path: "{{ playbook_dir }}/../.cache/npm"
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
  description: Names of the programs that run.
  type: list
  elements: str
  returned: O(state=started)
"""

import signal
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers.sandbox.application import FOLDERS, Application
from ansible.module_utils.runbook.drivers.sandbox.sandbox import STATE_FILE, Home
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module


def core(context: Context) -> dict[str, Any]:
    """Bring the application into the wanted state."""
    home, wanted = Home(context.params["path"]), context.params["state"]
    with home.mine(write=not context.check_mode and (wanted == "started" or home.path.exists())):
        home.refuse_strangers(*FOLDERS)
        return _started(context, home) if wanted == "started" else _ended(context, home)


def _started(context: Context, home: Home) -> dict[str, Any]:
    application = Application(home)
    paths = (Path(context.params[name]).resolve() for name in ("fakes_path", "cache_path"))
    application.run(*paths, would=context.check_mode)
    for each in application.missing:
        context.warn(each)
    started = ", ".join(application.started)
    verb = "Would start" if context.check_mode else "Started"
    return {
        "changed": bool(started),
        "msg": f"{verb} {started}." if started else f"The application in {home.path} runs already.",
        "running": application.running + application.started,
    }


def _ended(context: Context, home: Home) -> dict[str, Any]:
    absent, application = context.params["state"] == "absent", None
    try:
        application = Application(home)
    except RunbookError:
        # What is about to be removed need not be whole.
        if not absent:
            raise
    there = (home.path / STATE_FILE).exists() if absent else application is not None and application.were_started
    if not there:
        return {"changed": False, "msg": f"The application in {home.path} does not run."}
    verb = "remove" if absent else "stop"
    if context.check_mode:
        return {"changed": True, "msg": f"Would {verb} the application in {home.path}."}
    if application:
        application.stop(signal.SIGKILL if absent else signal.SIGTERM)
    if absent:
        home.remove(*FOLDERS)
        return {"changed": True, "msg": f"Removed the application in {home.path}."}
    return {"changed": True, "msg": f"Stopped the application in {home.path}; its repository is kept."}


def main() -> None:
    """Entry point."""
    path = {"type": "path"}
    run_module(
        core,
        name="sandbox_application",
        argument_spec={
            "path": path | {"required": True},
            "state": {"type": "str", "default": "started", "choices": ["started", "stopped", "absent"]},
            "fakes_path": path,
            "cache_path": path,
        },
        required_if=[("state", "started", ["fakes_path", "cache_path"])],
    )


if __name__ == "__main__":
    main()
