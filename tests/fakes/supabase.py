"""The part of Supabase's Management API that backups and advisors need, over real HTTP on loopback.

It answers as the live API was seen to: bodies, status codes, ``x-ratelimit-*`` headers, and
``{"message": …}`` for errors. What goes wrong is set by the test.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

REF = "abcdefghijklmnopqrst"
TOKEN = "sbp_c4n4ry" + "0" * 34


@dataclass
class Fault:
    """What the next request whose line matches gets instead of its answer.

    :param on: regular expression for ``METHOD path``
    :param kind: ``status`` answers with ``status``, ``headers``, ``body``; ``reset`` drops the connection; ``early``
        sends half a body; ``slow`` waits ``wait_s`` first; ``lost`` does what was asked and drops the connection
    """

    on: str
    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    wait_s: float = 0
    times: int = 1


def lint(name: str, table: str = "messages", **fields: Any) -> dict[str, Any]:
    """A lint as the advisors give it, on a table of ``public``."""
    return {
        "name": name, "title": name.replace("_", " ").capitalize(), "level": "WARN", "facing": "EXTERNAL",
        "categories": ["PERFORMANCE"], "description": "What it is about.",
        "detail": f"Table \\`public.{table}\\` has something.",
        "remediation": f"https://supabase.com/docs/guides/database/database-linter?lint={name}",
        "metadata": {"schema": "public", "name": table, "type": "table"}, "cache_key": f"{name}_public_{table}",
    } | fields  # fmt: skip


class FakeSupabase:
    """A project that can be backed up and restored; a context manager."""

    def __init__(self) -> None:
        self.project: dict[str, Any] = {
            "id": REF, "ref": REF, "organization_id": "org", "organization_slug": "org", "name": "mental-scribe",
            "region": "us-east-1", "created_at": "2024-01-01T00:00:00Z", "status": "ACTIVE_HEALTHY",
            "database": {
                "host": f"db.{REF}.example.com", "version": "17.6.1.084", "postgres_engine": "17",
                "release_channel": "ga",
            },
        }  # fmt: skip
        now = int(time.time())
        self.backups: dict[str, Any] = {
            "region": "us-east-1",
            "pitr_enabled": True,
            "walg_enabled": True,
            "backups": [],
            "physical_backup_data": {
                "earliest_physical_backup_date_unix": now - 30 * 86400,
                "latest_physical_backup_date_unix": now - 90,
            },
        }
        self.health: dict[str, str] = {}
        #: What the advisors find, of all categories; and whether the deprecated endpoints are still there.
        self.lints: list[dict[str, Any]] = []
        self.has_v1_advisors = True
        #: States that the project goes through after a restore was accepted, one per look; the last one stays.
        self.after_restore = ["ACTIVE_HEALTHY", "RESTORING", "RESTORING", "ACTIVE_HEALTHY"]
        self.faults: list[Fault] = []
        #: ``METHOD path`` of each request that came, and the bodies of those that asked for something.
        self.requests: list[str] = []
        self.posted: list[tuple[str, Any]] = []
        self._coming: list[str] = []
        self._lock = threading.Lock()
        fake = self

        class Handler(_Handler):
            api = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take_fault(self, line: str) -> Fault | None:
        """The fault that this request gets, if any."""
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.on, line):
                    fault.times -= 1
                    return fault
        return None

    def answer(self, method: str, path: str, query: str, body: Any) -> tuple[int, Any]:
        """Status and body for a request."""
        base = f"/v1/projects/{REF}"
        if (method, path) == ("POST", f"/v2/projects/{REF}/advisors/run"):
            return self._run_advisors(body)
        if not path.startswith(base):
            return 404, {"message": "Project not found"}
        what = path.removeprefix(base)
        if method == "POST":
            return self._restore(what, body)
        if what == "":
            with self._lock:
                if self._coming:
                    self.project["status"] = self._coming.pop(0)
            return 200, self.project
        if what == "/database/backups":
            return 200, self.backups
        if what.startswith("/advisors/") and self.has_v1_advisors:
            category = what.rpartition("/")[2].upper()
            return 200, {"lints": [lint for lint in self.lints if category in lint["categories"]]}
        if what == "/health":
            asked = re.findall(r"services=(\w+)", query)
            if not asked:
                return 400, {"message": "services: Required"}
            return 200, [
                {"name": name, "healthy": True, "status": self.health.get(name, "ACTIVE_HEALTHY")} for name in asked
            ]
        return 404, {"message": "Cannot GET " + path}

    def _run_advisors(self, body: Any) -> tuple[int, Any]:
        """Version 2 runs what it is asked for by name, and answers in the form of JSON:API."""
        if not isinstance(body, dict) or body.get("data", {}).get("type") != "project_advisors":
            return 400, {"message": "data: Required"}
        asked = {one["name"] for one in body["data"]["attributes"]["lints"]}
        told = asked | {"advisor_check_unavailable", "project_not_active"}
        found = [lint for lint in self.lints if lint["name"] in told]
        return 200, {"data": {"type": "project_advisors", "attributes": {"lints": found}}}

    def _restore(self, what: str, body: Any) -> tuple[int, Any]:
        if what == "/database/backups/restore-pitr":
            if not self.backups["pitr_enabled"]:
                return 400, {"message": "PITR is not enabled for this project."}
            if type(body.get("recovery_time_target_unix")) is not int:
                return 400, {"message": "recovery_time_target_unix: Expected number"}
        elif what == "/database/backups/restore":
            if body.get("id") not in [one["id"] for one in self.backups["backups"]]:
                return 404, {"message": "Backup not found"}
        else:
            return 404, {"message": "Cannot POST " + what}
        self.posted.append((what.rpartition("/")[2], body))
        self._coming = list(self.after_restore)
        return 201, None


class _Handler(BaseHTTPRequestHandler):
    api: FakeSupabase
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        path, _, query = self.path.partition("?")
        line = f"{method} {path}"
        self.api.requests.append(line)
        fault = self.api.take_fault(line)
        if fault is not None and fault.kind == "slow":
            time.sleep(fault.wait_s)
        elif fault is not None and fault.kind == "status":
            self._send(fault.status, fault.body, fault.headers)
            return
        elif fault is not None and fault.kind in {"reset", "lost"}:
            if fault.kind == "lost":
                self.api.answer(method, path, query, body)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"message": "Unauthorized"}, {})
            return
        status, answer = self.api.answer(method, path, query, body)
        self._send(status, answer, {}, early=fault is not None and fault.kind == "early")

    def _send(self, status: int, body: Any, headers: dict[str, str], *, early: bool = False) -> None:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        limit = {"x-ratelimit-limit": "120", "x-ratelimit-remaining": "119", "x-ratelimit-reset": "60"}
        for name, value in (limit | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if early else content)
        if early:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
