"""The part of Vercel's API that this project uses, with its state, and the site that its project serves.

A deployment has in it the environment variables of the moment at which it was made, as a real one has. The production
domains lead to one deployment, which requests for a rollback or a promotion change after a while. :class:`Site` is what
users see of that.

What Vercel's own description does not allow, although Vercel does it:

* ``PATCH /v1/global-config/…/items`` has no key but of ``w``, dash and backslash: its pattern has a backslash too many.
* ``GET``, ``PATCH`` and ``DELETE …/env/{id}`` and ``GET …/promote/aliases`` answer in one of several forms, and
  whatever they answer fits more than one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

from fakes.http import Asked, FakeService, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOKEN = "vc_c4n4ry" + "0" * 20
CONFIG = "ecfg_1a2b3c4d5e"
TEAM = "team_1a2b3c"
PROJECT = "prj_1a2b3c4d5e"
NAME = "mental-scribe"
#: Of the project, by the names of a module's options.
OPTIONS = {"project_id": PROJECT, "project_name": NAME, "team_id": TEAM, "access_token": TOKEN}
REGIONS = {"functionDefaultRegions": ["fra1"]}
CREATOR = {"uid": "u1", "username": "jo-doe"}


def commit(number: int) -> str:
    """A commit's hash."""
    return f"{number:040x}"


class FakeVercel(FakeService):
    """A team with a project of three deployments, the newest of them live, and a Global Config.

    :param commits: of the deployments, the oldest first
    """

    service: ClassVar[str] = "vercel"
    headers: ClassVar[dict[str, str]] = {"x-ratelimit-remaining": "59"}

    def __init__(
        self, path: str = "global-config", commits: Sequence[str] = (commit(1), commit(2), commit(3))
    ) -> None:  # fmt: skip
        super().__init__()
        self.base = f"/v1/{path}"
        self.items: dict[str, Any] = {}
        self.branch = "main"
        #: Requests by path and the cache's result; None: the plan has no Observability Plus.
        self.requests_counted: list[tuple[str, str, int]] | None = None
        #: Variables by their id, with their values.
        self.variables: dict[str, dict[str, Any]] = {}
        #: Names of variables that are refused when they are written.
        self.refused: set[str] = set()
        #: By id, the oldest first; ``env`` is what was in them when they were made.
        self.deployments: dict[str, dict[str, Any]] = {}
        self.live = ""
        self.auto_assigns = True
        self.alias_request: dict[str, Any] | None = None
        #: States that a build and a move of the domains go through, one a look; the last one stays.
        self.build = ["QUEUED", "BUILDING", "READY"]
        self.moves = ["pending", "in-progress", "succeeded"]
        #: What users get in the place of what the domains lead to: a cache, or another project's domain.
        self.serves = ""
        self._moment, self._ago_days = 0, 8
        self.put_env("PUBLIC_NAME", "Mental Scribe", type="plain")
        self.put_env("SERVICE_KEY", "sb_secret_c4n4ry_" + "a" * 30, type="encrypted")
        for sha, self._ago_days in zip(commits, (7, 3, 1), strict=False):
            self.pushed("main", sha, build=["READY"])
        self._ago_days = 0

    # What tests and git do --------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Milliseconds since 1970; each moment is another one."""
        self._moment = max(self._moment + 1, int(time.time() * 1000) - self._ago_days * 86_400_000)
        return self._moment

    def put_env(self, name: str, value: str, **fields: Any) -> str:
        """Write a variable, as its owner would in the dashboard; the id of it."""
        targets = fields.pop("target", ["production", "preview"])
        branch = fields.get("gitBranch")
        now = self.now()
        variable_id = next(
            (
                each["id"]
                for each in self.variables.values()
                if each["key"] == name and each.get("gitBranch") == branch and set(each["target"]) & set(targets)
            ),
            f"env{len(self.variables) + 1}{now}",
        )
        made = self.variables.setdefault(variable_id, {"id": variable_id, "key": name, "createdAt": now})
        made |= {"type": "encrypted", "value": value, "target": targets, "updatedAt": now} | fields
        return str(variable_id)

    def pushed(self, branch: str, sha: str, *, build: list[str] | None = None) -> str:
        """A push that the git integration deploys: the id of the deployment. Looks let it go on."""
        target = "production" if branch == self.branch else None
        meta = {"githubCommitSha": sha, "githubCommitRef": branch, "githubOrg": "clinic", "githubRepo": NAME}
        return str(self._deploy(target, meta, build)["id"])

    def _deploy(self, target: str | None, meta: Mapping[str, str], build: list[str] | None = None) -> dict[str, Any]:
        number, now = len(self.deployments) + 1, self.now()
        env = {
            each["key"]: each["value"]
            for each in self.variables.values()
            if (target or "preview") in each["target"] and each.get("gitBranch") in (None, meta.get("githubCommitRef"))
        }
        made: dict[str, Any] = {
            "id": f"dpl_{number:04}{now}", "url": f"{NAME}-{number}.vercel.app", "target": target, "created": now,
            "meta": dict(meta), "env": env, "states": list(build or self.build), "candidate": True,
        }  # fmt: skip
        self.deployments[made["id"]] = made
        self._go_on(made)
        return made

    def _go_on(self, deployment: dict[str, Any]) -> str:
        """The state at this look. What was built for production goes live, unless a rollback turned that off."""
        states = deployment["states"]
        state = str(states.pop(0) if len(states) > 1 else states[0])
        was, deployment["state"] = deployment.get("state"), state
        if state == "READY" != was and deployment["target"] == "production" and self.auto_assigns:
            self._leads_to(deployment["id"])
        return state

    def _leads_to(self, deployment_id: str) -> None:
        self.live = deployment_id
        self.deployments[deployment_id]["was_live"] = True

    # The API ----------------------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        query = dict(parse_qsl(asked.query))
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}" or query.get("teamId") != TEAM:
            return _refused(403, "forbidden", "Not authorized")
        with self._lock:
            if asked.line == "POST /v2/observability/query":
                return self._requests(asked.body)
            if asked.path.startswith(self.base):
                return self._config(asked)
            if "/deployments" in asked.path:
                return self._deployments(asked, query)
            found = re.fullmatch(rf"/v\d+/projects/{PROJECT}(/.*)?", asked.path)
            if not found:
                return _refused(404, "not_found", "Project not found")
            what = found[1] or ""
            if what.startswith("/env"):
                return self._env(asked.method, what.removeprefix("/env").strip("/"), asked.body)
            return self._project(asked.method, what, asked.body)

    def _requests(self, body: Any) -> Reply:
        if self.requests_counted is None:
            return _refused(402, "payment_required", "Observability Plus is not enabled")
        wanted = {"metric": "vercel.request.count", "aggregation": "sum", "groupBy": ["request_path", "cache_result"]}
        if {key: body.get(key) for key in wanted} != wanted or body["scope"]["projectIds"] != [PROJECT]:
            return _refused(400, "bad_request", "Unknown query")
        rows = [
            {"request_path": path, "cache_result": result, "vercel_request_count_sum": number}
            for path, result, number in self.requests_counted
        ]
        return Reply(200, {"data": [], "summary": rows, "statistics": {}})

    def _config(self, asked: Asked) -> Reply:
        now = int(time.time() * 1000)
        base = f"{self.base}/{CONFIG}"
        if asked.line == f"GET {self.base}":
            found = {"id": CONFIG, "slug": "app", "sizeInBytes": 64, "itemCount": len(self.items), "purposeOf2027": "?"}
            return Reply(200, [found])
        if asked.path.startswith(f"{base}/item/") and asked.method == "GET":
            key = asked.path.removeprefix(f"{base}/item/")
            if key in self.items:
                item = {"key": key, "value": self.items[key], "edgeConfigId": CONFIG}
                return Reply(200, item | {"createdAt": now, "updatedAt": now})
            return _refused(404, "not_found", "Item not found")
        if asked.line == f"PATCH {base}/items":
            for each in asked.body["items"]:
                if each["operation"] != "upsert":
                    return _refused(400, "bad_request", "Unexpected operation")
                self.items[each["key"]] = each["value"]
            return Reply(200, {"status": "ok"})
        return _refused(404, "not_found", "Not found")

    def _project(self, method: str, what: str, body: Any) -> Reply:
        if (method, what) == ("GET", ""):
            self._move()
            return Reply(200, self._described())
        if (method, what) == ("PATCH", ""):
            self.auto_assigns = bool(body.get("autoAssignCustomDomains", self.auto_assigns))
            return Reply(200, self._described())
        if (method, what) == ("GET", "/promote/aliases"):
            failed = (self.alias_request or {}).get("jobStatus") == "failed"
            aliases = [{"status": "failed", "alias": "app.example.org", "id": "a1"}] if failed else []
            return Reply(200, {"aliases": aliases, "pagination": {"count": len(aliases), "next": None, "prev": None}})
        moved = re.fullmatch(r"/(rollback|promote)/(\w+)", what)
        if method == "POST" and moved:
            return self._ask(*moved.groups())
        return _refused(404, "not_found", "Not found")

    def _described(self) -> dict[str, Any]:
        live, asked = self.deployments.get(self.live), self.alias_request
        return {
            "accountId": TEAM, "id": PROJECT, "name": NAME, "autoAssignCustomDomains": self.auto_assigns,
            "framework": "nextjs", "nodeVersion": "22.x", "colourOf2027": "?",
            "targets": {"production": self._target(live) if live else None},
            "directoryListing": False, "resourceConfig": REGIONS, "defaultResourceConfig": REGIONS,
            "lastAliasRequest": asked and {name: value for name, value in asked.items() if name != "coming"},
            "link": {
                "type": "github", "org": "clinic", "repo": NAME, "productionBranch": self.branch,
                "gitCredentialId": "c1", "deployHooks": [],
            },
        }  # fmt: skip

    def _target(self, deployment: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": deployment["id"], "url": deployment["url"], "createdAt": deployment["created"], "createdIn": "fra1",
            "creator": CREATOR | {"email": "jo@example.org"},
            "deploymentHostname": deployment["url"], "name": NAME, "plan": "pro", "private": False,
            "readyState": deployment["state"], "type": "LAMBDAS", "userId": CREATOR["uid"],
        }  # fmt: skip

    def _ask(self, kind: str, to: str) -> Reply:
        """A request to let the domains lead elsewhere. A second one while the first is under way is refused."""
        deployment = self.deployments.get(to)
        if deployment is None:
            return _refused(404, "not_found", "Deployment not found")
        if self.alias_request and self.alias_request["jobStatus"] in ("pending", "in-progress"):
            return _refused(409, "conflict", "Another alias request is in progress")
        if deployment["state"] != "READY" or (kind == "rollback" and not deployment["candidate"]):
            return _refused(422, "unprocessable", "The deployment is not a candidate for a rollback")
        self.alias_request = {
            "fromDeploymentId": self.live, "toDeploymentId": to, "jobStatus": self.moves[0], "type": kind,
            "requestedAt": self.now(), "coming": list(self.moves[1:]),
        }  # fmt: skip
        if kind == "rollback":
            self.auto_assigns = False
        return Reply(201)

    def _move(self) -> None:
        """The domains, a look later."""
        asked = self.alias_request
        if asked and asked["coming"]:
            asked["jobStatus"] = asked["coming"].pop(0)
            if asked["jobStatus"] == "succeeded":
                self._leads_to(asked["toDeploymentId"])
                self.auto_assigns = self.auto_assigns or asked["type"] == "promote"

    def _deployments(self, asked: Asked, query: Mapping[str, str]) -> Reply:
        one = re.fullmatch(r"/v13/deployments/([\w.-]+)", asked.path)
        if asked.method == "GET" and one:
            found = next((each for each in self.deployments.values() if one[1] in (each["id"], each["url"])), None)
            if found is None:
                return _refused(404, "not_found", "The deployment was not found")
            self._go_on(found)
            return Reply(200, self._public(found))
        if asked.line == "POST /v13/deployments":
            source = self.deployments.get(asked.body.get("deploymentId"))
            if source is None:
                return _refused(404, "not_found", "The deployment was not found")
            made = self._deploy(asked.body.get("target"), source["meta"] | asked.body.get("meta", {}))
            return Reply(200, self._whole(made))
        if asked.line == "GET /v7/deployments" and query.get("projectId") == PROJECT:
            return self._listed(query)
        return _refused(404, "not_found", "Not found")

    def _listed(self, query: Mapping[str, str]) -> Reply:
        states = query.get("state", "").split(",") if query.get("state") else None
        found = [
            each
            for each in reversed(self.deployments.values())
            if query.get("target") in (None, each["target"] or "preview")
            and (states is None or each["state"] in states)
            and query.get("sha") in (None, each["meta"].get("githubCommitSha"))
            and each["created"] > int(query.get("since", 0))
            and each["created"] < int(query.get("until", 1 << 60))
        ]
        limit = int(query.get("limit", 20))
        page = found[:limit]
        following = page[-1]["created"] if len(found) > limit else None
        return Reply(
            200,
            {
                "deployments": [self._short(each) for each in page],
                "pagination": {"count": len(page), "next": following, "prev": None},
            },
        )

    def _short(self, deployment: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "uid": deployment["id"], "name": NAME, "projectId": PROJECT, "url": deployment["url"],
            "created": deployment["created"], "type": "LAMBDAS", "creator": CREATOR, "inspectorUrl": None,
            "state": deployment["state"], "readyState": deployment["state"], "meta": deployment["meta"],
            "isRollbackCandidate": deployment["candidate"],
            **self._substate(deployment),
            **({"target": deployment["target"]} if deployment["target"] else {}),
        }  # fmt: skip

    def _substate(self, deployment: Mapping[str, Any]) -> dict[str, str]:
        if deployment["state"] != "READY":
            return {}
        return {"readySubstate": "PROMOTED" if deployment.get("was_live") else "STAGED"}

    def _public(self, deployment: Mapping[str, Any]) -> dict[str, Any]:
        made = deployment["created"]
        failed = {"errorCode": "BUILD_FAILED", "errorMessage": 'Command "pnpm build" exited with 1'}
        return {
            "id": deployment["id"], "url": deployment["url"], "name": NAME, "meta": deployment["meta"],
            "readyState": deployment["state"], "status": deployment["state"], "createdAt": made, "bootedAt": made,
            "buildingAt": made, "buildSkipped": False, "creator": CREATOR, "public": False, "type": "LAMBDAS",
            "regions": ["fra1"], "version": 2, "aliasAssigned": deployment["id"] == self.live,
            **({"target": deployment["target"]} if deployment["target"] else {}),
            **self._substate(deployment), **(failed if deployment["state"] == "ERROR" else {}),
        }  # fmt: skip

    def _whole(self, deployment: Mapping[str, Any]) -> dict[str, Any]:
        return self._public(deployment) | {
            "projectId": PROJECT, "build": {"env": []}, "env": sorted(deployment["env"]), "inspectorUrl": None,
            "isInConcurrentBuildsQueue": False, "isInSystemBuildsQueue": False, "plan": "pro", "createdIn": "fra1",
            "projectSettings": {"commandForIgnoringBuildStep": None}, "ownerId": TEAM, "routes": None,
        }  # fmt: skip

    def _env(self, method: str, variable_id: str, body: Any) -> Reply:
        if method == "GET" and not variable_id:
            return Reply(200, {"envs": [self._hidden(each) for each in self.variables.values()]})
        if method == "POST":
            return self._write_env(body if isinstance(body, list) else [body])
        if variable_id not in self.variables:
            return _refused(404, "not_found", "Environment Variable not found")
        found = self.variables[variable_id]
        if method == "PATCH":
            if body.get("key") in self.refused:
                return _refused(400, "bad_request", f"Invalid value {body['value']}")
            found |= {name: value for name, value in body.items() if value is not None} | {"updatedAt": self.now()}
            return Reply(200, self._hidden(found))
        if method == "DELETE":
            del self.variables[variable_id]
            return Reply(200, self._hidden(found))
        if found["type"] == "sensitive":
            return Reply(200, {name: value for name, value in self._hidden(found).items() if name != "value"})
        return Reply(200, dict(found) | {"decrypted": True})

    def _write_env(self, wanted: list[dict[str, Any]]) -> Reply:
        created, failed = [], []
        for each in wanted:
            if each["key"] in self.refused:
                # The message repeats what was sent, as it may.
                said = {"code": "BAD_REQUEST", "message": f"Invalid value {each['value']}", "envVarKey": each["key"]}
                failed.append({"error": said})
                continue
            rest = {name: value for name, value in each.items() if name not in ("key", "value")}
            created.append(self._hidden(self.variables[self.put_env(each["key"], each["value"], **rest)]))
        return Reply(201, {"created": created, "failed": failed})

    def _hidden(self, variable: Mapping[str, Any]) -> dict[str, Any]:
        """As a list shows it: the value is a cipher, and of a sensitive one nothing."""
        cipher = b64encode(b"v2:" + variable["key"].encode()).decode()
        value = variable["value"] if variable["type"] == "plain" else "" if variable["type"] == "sensitive" else cipher
        return dict(variable) | {"value": value, "decrypted": False}


class Site(FakeService):
    """The application as users reach it: a start page, its health, which commit is served, and with which keys.

    :param branch: serves the newest deployment of this branch, as a domain of a preview does; else the live one
    """

    service: ClassVar[str] = "site"

    def __init__(self, api: FakeVercel, branch: str = "") -> None:
        super().__init__()
        self.api = api
        self.branch = branch
        #: Commits with a bug, and values of keys that are no longer valid: the application fails with them.
        self.broken: set[str] = set()
        self.dead: set[str] = set()

    def served(self) -> dict[str, Any] | None:
        """The deployment that a visitor gets."""
        made = self.api.deployments
        if self.branch:
            ready = [d for d in made.values() if d["state"] == "READY" and d["meta"]["githubCommitRef"] == self.branch]
            return ready[-1] if ready else None
        return made.get(self.api.serves or self.api.live)

    def answer(self, asked: Asked) -> Reply:
        """What a browser gets."""
        found = self.served()
        if found is None:
            return Reply(404, b"DEPLOYMENT_NOT_FOUND", {"Content-Type": "text/plain"})
        sha = found["meta"]["githubCommitSha"]
        works = sha not in self.broken and self.dead.isdisjoint(found["env"].values())
        pages = {
            "/": b"<html><body><h1>Welcome to Mental Scribe</h1></body></html>",
            "/health": b"ok",
            "/version": json.dumps({"commit": sha, "deployment": found["id"]}).encode(),
            "/keys": json.dumps({name: fingerprint(name, value) for name, value in found["env"].items()}).encode(),
        }
        if asked.path not in pages:
            return Reply(404, b"not found", {"Content-Type": "text/plain"})
        if not works and asked.path in ("/", "/health"):
            return Reply(500, b"Internal Server Error", {"Content-Type": "text/plain"})
        kind = "text/html" if asked.path == "/" else "application/json"
        return Reply(200, pages[asked.path], {"Content-Type": kind, "Cache-Control": "no-store"})


def fingerprint(name: str, value: str) -> str:
    """As docs/howto/app_rollback.md has an application make it, in its own language."""
    if len(value) < 24:
        return ""
    return hmac.new(value.encode(), f"runbook-fingerprint/{name}".encode(), hashlib.sha256).hexdigest()[:16]


def _refused(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": message}})
