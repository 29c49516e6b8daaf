"""The part of Supabase's Management API that backups, advisors, logs and capacity need, over real HTTP on loopback.

It answers as the live API was seen to: bodies, status codes, ``x-ratelimit-*`` headers, and
``{"message": …}`` for errors.
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote_plus

from fakes.http import Asked, FakeService, Reply

REF = "abcdefghijklmnopqrst"
TOKEN = "sbp_c4n4ry" + "0" * 34


def lint(name: str, table: str = "messages", **fields: Any) -> dict[str, Any]:
    """A lint as the advisors give it, on a table of ``public``."""
    return {
        "name": name, "title": name.replace("_", " ").capitalize(), "level": "WARN", "facing": "EXTERNAL",
        "categories": ["PERFORMANCE"], "description": "What it is about.",
        "detail": f"Table \\`public.{table}\\` has something.",
        "remediation": f"https://supabase.com/docs/guides/database/database-linter?lint={name}",
        "metadata": {"schema": "public", "name": table, "type": "table"}, "cache_key": f"{name}_public_{table}",
    } | fields  # fmt: skip


class FakeSupabase(FakeService):
    """A project that can be backed up and restored."""

    service: ClassVar[str] = "supabase"
    headers: ClassVar[dict[str, str]] = {
        "x-ratelimit-limit": "120", "x-ratelimit-remaining": "119", "x-ratelimit-reset": "60",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
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
        #: What a query on the logs finds, and the error that comes in its place, with a status that says yes.
        self.log_rows: list[dict[str, Any]] = [{"errors": "3", "lines": "900"}]
        self.log_error: str | None = None
        #: API keys with their values, as the API shows them revealed; and how often a key is in the logs, by its value.
        self.api_keys: list[dict[str, Any]] = [
            {"name": "anon", "api_key": "eyJ0", "id": "anon", "type": "legacy", "hash": "h0", "prefix": "tbn2D"},
        ]
        self.key_uses: dict[str, int] = {}
        #: Requests by hour and service; edge functions with how often each ran in the last day; use of the disk.
        self.hours: list[dict[str, Any]] = []
        self.runs: dict[str, list[int]] = {}
        self.disk = {"fs_size_bytes": 8_000_000_000, "fs_avail_bytes": 3_000_000_000, "fs_used_bytes": 5_000_000_000}
        self.usage_error: str | None = None
        #: What was asked for, and the bodies.
        self.posted: list[tuple[str, Any]] = []
        self._coming: list[str] = []

    def description(self, asked: Asked) -> str:
        """Version 2 has a description of its own.

        So would ``logs`` have, which took the place of ``logs.all`` in September 2026: descriptions of before lack it.
        """
        if asked.path.endswith("/analytics/endpoints/logs"):
            return "supabase-logs"
        return "supabase-v2" if asked.path.startswith("/v2/") else self.service

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"message": "Unauthorized"})
        method, path, body = asked.method, asked.path, asked.body
        base = f"/v1/projects/{REF}"
        if (method, path) == ("POST", f"/v2/projects/{REF}/advisors/run"):
            return self._run_advisors(body)
        if not path.startswith(base):
            return Reply(404, {"message": "Project not found"})
        what = path.removeprefix(base)
        if method == "POST" or what.startswith("/api-keys"):
            return self._api_keys(method, what, asked) if what.startswith("/api-keys") else self._restore(what, body)
        if what == "":
            with self._lock:
                if self._coming:
                    self.project["status"] = self._coming.pop(0)
            return Reply(200, self.project)
        found = {
            "/database/backups": self.backups,
            "/analytics/endpoints/logs": {
                "result": None if self.log_error else self._logged(asked), "error": self.log_error
            },
        }  # fmt: skip
        if what in found:
            return Reply(200, found[what])
        if what.startswith("/advisors/") and self.has_v1_advisors:
            category = what.rpartition("/")[2].upper()
            return Reply(200, {"lints": [lint for lint in self.lints if category in lint["categories"]]})
        if what == "/health":
            names = re.findall(r"services=(\w+)", asked.query)
            if not names:
                return Reply(400, {"message": "services: Required"})
            return Reply(
                200,
                [{"name": name, "healthy": True, "status": self.health.get(name, "ACTIVE_HEALTHY")} for name in names],
            )
        return self._usage(what, asked.query)

    def _usage(self, what: str, query: str) -> Reply:
        """What capacity is judged by."""
        given = parse_qs(query)
        if what == "/functions":
            stamps = {"version": 1, "created_at": 1_700_000_000_000, "updated_at": 1_700_000_000_000}
            return Reply(
                200,
                [{"id": each, "slug": each, "name": each, "status": "ACTIVE", **stamps} for each in self.runs],
            )
        if what == "/config/disk/util":
            return Reply(200, {"timestamp": "2026-11-29T00:00:00Z", "metrics": self.disk})
        rows: list[dict[str, Any]] = []
        if what == "/analytics/endpoints/usage.api-counts":
            rows = self.hours
        elif what == "/analytics/endpoints/functions.combined-stats":
            if given.get("interval") != ["1day"] or "function_id" not in given:
                return Reply(400, {"message": "interval, function_id: Required"})
            rows = [{"timestamp": 1, "requests_count": count} for count in self.runs[given["function_id"][0]]]
        else:
            return Reply(404, {"message": "Cannot GET " + what})
        return Reply(200, {"result": rows} | ({"error": self.usage_error} if self.usage_error else {}))

    def add_key(self, name: str, kind: str = "secret", days_ago: int = 0) -> dict[str, Any]:
        """Make a key, as its owner would in the dashboard."""
        value = f"sb_{kind}_{secrets.token_hex(15)}"
        at = datetime.fromtimestamp(time.time() - days_ago * 86_400, UTC).isoformat().replace("+00:00", "Z")
        made = {
            "name": name, "api_key": value, "id": str(uuid.uuid4()), "type": kind, "hash": "h", "description": None,
            "prefix": value.split("_")[2][:5], "inserted_at": at, "updated_at": at,
        }  # fmt: skip
        self.api_keys.append(made)
        return made

    def accepts(self, value: str) -> bool:
        """Whether a request with this key would be let in."""
        return any(each["api_key"] == value for each in self.api_keys)

    def _api_keys(self, method: str, what: str, asked: Asked) -> Reply:
        key_id, is_revealed = what.removeprefix("/api-keys").strip("/"), "reveal=true" in asked.query

        def shown(each: dict[str, Any]) -> dict[str, Any]:
            hidden = each["type"] != "legacy" and not is_revealed
            return each | ({"api_key": each["api_key"][:15] + "·" * 10} if hidden else {})

        if method == "GET" and not key_id:
            return Reply(200, [shown(each) for each in self.api_keys])
        if method == "POST":
            name = asked.body.get("name", "")
            if not re.fullmatch(r"[a-z_][a-z0-9_]{3,63}", name) or any(each["name"] == name for each in self.api_keys):
                return Reply(400, {"message": "name: invalid, or taken"})
            made = self.add_key(name, asked.body["type"])
            made |= {
                name: asked.body.get(name) for name in ("description", "secret_jwt_template") if asked.body.get(name)
            }
            return Reply(201, shown(made))
        found = next((each for each in self.api_keys if each["id"] == key_id and each["type"] != "legacy"), None)
        if found is None:
            return Reply(404, {"message": "API key not found"})
        if method == "DELETE":
            self.api_keys.remove(found)
        return Reply(200, shown(found))

    def _logged(self, asked: Asked) -> list[dict[str, Any]]:
        """What a query finds: how often each of two keys was used, by how they begin, or any other thing."""
        if "apikey.prefix" not in asked.query:
            return self.log_rows
        prefixes = re.findall(r"'(\w+)'\)", unquote_plus(asked.query))
        uses = {each["prefix"]: self.key_uses.get(each["api_key"], 0) for each in self.api_keys}
        old, new = (uses.get(each, 0) for each in prefixes)
        return [{"old": str(old), "new": str(new)}]

    def _run_advisors(self, body: Any) -> Reply:
        """Version 2 runs what it is asked for by name, and answers in the form of JSON:API."""
        if not isinstance(body, dict) or body.get("data", {}).get("type") != "project_advisors":
            return Reply(400, {"message": "data: Required"})
        asked = {one["name"] for one in body["data"]["attributes"]["lints"]}
        told = asked | {"advisor_check_unavailable", "project_not_active"}
        found = [lint for lint in self.lints if lint["name"] in told]
        return Reply(200, {"data": {"type": "project_advisors", "attributes": {"lints": found}}})

    def _restore(self, what: str, body: Any) -> Reply:
        if what == "/database/backups/restore-pitr":
            if not self.backups["pitr_enabled"]:
                return Reply(400, {"message": "PITR is not enabled for this project."})
            if type(body.get("recovery_time_target_unix")) is not int:
                return Reply(400, {"message": "recovery_time_target_unix: Expected number"})
        elif what == "/database/backups/restore":
            if body.get("id") not in [one["id"] for one in self.backups["backups"]]:
                return Reply(404, {"message": "Backup not found"})
        else:
            return Reply(404, {"message": "Cannot POST " + what})
        self.posted.append((what.rpartition("/")[2], body))
        self._coming = list(self.after_restore)
        return Reply(201, None)
