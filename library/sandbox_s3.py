#!/usr/bin/python
"""Start and stop the sandbox's S3 API."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_s3
short_description: Run a disposable S3 API on loopback
description:
  - Starts or stops an S3 API on 127.0.0.1 (moto's server) and makes a bucket with versioning in it.
  - Objects live in the server's memory. They are gone when it stops.
  - The server is detached; it goes on when Ansible ends. It takes any credentials.
  - What a client needs to know stands in C(state.json) in O(path).
options:
  path:
    description:
      - Folder that the server may have for itself.
    type: path
    required: true
  state:
    description:
      - V(absent) stops the server and removes its log and state.
    type: str
    default: started
    choices: [started, stopped, absent]
  port:
    description:
      - Port on loopback. Without it a free one is chosen, and kept as long as it stays free.
    type: int
  bucket:
    description:
      - Bucket to make, with versioning. Needed with O(state=started).
    type: str
  region:
    description:
      - Region of the bucket.
    type: str
    default: us-east-1
attributes:
  check_mode:
    support: full
    description: Says what would be done.
author: Mental Scribe operations (@mental-scribe)
requirements:
  - boto3
  - moto[server]
"""

EXAMPLES = r"""
- name: Start the sandbox's S3 API
  sandbox_s3:
    path: /srv/sandbox/s3
    bucket: mental-scribe-backups
"""

RETURN = r"""
msg:
  description: One sentence that says what was done.
  type: str
  returned: always
status:
  description: V(ok).
  type: str
  returned: success
endpoint_url:
  description: Address of the API; where check mode would start it, the address that it would try.
  type: str
  returned: O(state=started)
port:
  description: Port on 127.0.0.1.
  type: int
  returned: O(state=started)
bucket:
  description: The bucket.
  type: str
  returned: O(state=started)
duration_s:
  description: Seconds that it took.
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

from ansible.module_utils.runbook.drivers import s3
from ansible.module_utils.runbook.drivers.s3_server import S3Server
from ansible.module_utils.runbook.drivers.sandbox import STATE_FILE, Home, choose_port
from ansible.module_utils.runbook.module import Context, run_module

_LOG = "server.log"


def core(context: Context) -> dict[str, Any]:
    """Bring the server into the wanted state."""
    home = Home(context.params["path"])
    begun = time.monotonic()
    with home.mine(write=not context.check_mode and (context.params["state"] == "started" or home.path.exists())):
        result = _started(context, home) if context.params["state"] == "started" else _ended(context, home)
    base = {"status": "ok", "executed_queries": [], "duration_s": round(time.monotonic() - begun, 1)}
    if result["changed"]:
        base["diff"] = {"prepared": result["msg"] + "\n"}
    return base | result


def _started(context: Context, home: Home) -> dict[str, Any]:
    bucket, region, wanted = (context.params[key] for key in ("bucket", "region", "port"))
    state = home.read()
    server = S3Server(state.get("port", 0), state.get("pid", 0))
    running = server.is_running() and server.answers() and wanted in (None, server.port)
    if not running:
        if server.is_running() and not context.check_mode:
            server.stop()
        server = S3Server(choose_port(wanted, state.get("port")))
    facts = {"endpoint_url": server.endpoint_url, "port": server.port, "bucket": bucket}
    if not running:
        if context.check_mode:
            return facts | {
                "changed": True,
                "msg": f"Would start an S3 API on {server.endpoint_url} with bucket {bucket}.",
            }
        server = server.start(home.path / _LOG)
        home.write({"port": server.port, "pid": server.pid, "endpoint_url": server.endpoint_url})
    # This server takes any keys, but boto3 wants some.
    keys = {"access_key": "sandbox", "secret_key": "sandbox"}
    client = s3.connect(endpoint_url=server.endpoint_url, region=region, **keys)
    with s3.explained(f"Making bucket {bucket} on {server.endpoint_url}"):
        there = s3.has_versioned_bucket(client, bucket)
        if not there and not context.check_mode:
            s3.make_versioned_bucket(client, bucket, region)
    if not running:
        return facts | {"changed": True, "msg": f"Started an S3 API on {server.endpoint_url} with bucket {bucket}."}
    if not there:
        would = "Would make" if context.check_mode else "Made"
        return facts | {"changed": True, "msg": f"{would} bucket {bucket} on {server.endpoint_url}."}
    return facts | {"changed": False, "msg": f"The S3 API runs on {server.endpoint_url} with bucket {bucket}."}


def _ended(context: Context, home: Home) -> dict[str, Any]:
    absent = context.params["state"] == "absent"
    there = (home.path / STATE_FILE).exists()
    state = home.read(lenient=absent)
    server = S3Server(state.get("port", 0), state.get("pid", 0))
    running = server.is_running()
    if not running and not (absent and there):
        return {"changed": False, "msg": f"The S3 API in {home.path} does not run."}
    verb = "remove" if absent else "stop"
    if context.check_mode:
        return {"changed": True, "msg": f"Would {verb} the S3 API in {home.path}."}
    if running:
        server.stop()
    if absent:
        home.remove(_LOG)
    return {
        "changed": True,
        "msg": f"{'Removed' if absent else 'Stopped'} the S3 API in {home.path}; its objects are gone.",
    }


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="sandbox_s3",
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "default": "started", "choices": ["started", "stopped", "absent"]},
            "port": {"type": "int"},
            "bucket": {"type": "str"},
            "region": {"type": "str", "default": "us-east-1"},
        },
        required_if=[("state", "started", ["bucket"])],
    )


if __name__ == "__main__":
    main()
