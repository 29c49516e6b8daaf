"""AWX 24.6, over real HTTP on loopback, as far as the modules of awx.awx ask.

What it has is kept as AWX keeps it: fields that nobody set have AWX's defaults, secrets come back as ``$encrypted$``,
lists come in pages, and associations are lists of their own. Templates of all kinds are counted in one row of numbers,
all else in rows of their own. Two schedules of one template have different names, two of different templates need not;
with a template its schedules go. An answer has what these modules and ours read, and no more.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode

from dateutil.rrule import rrulestr
from fakes.http import Asked, FakeService, Reply

TOKEN = "c4n4ry-awx-token"
INSTALL_UUID = "0e4ce5c5-2b1b-4d6c-9d5e-6a2f3c1b7a90"
#: By endpoint: the name of one, and what AWX says where nobody said anything.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "organizations": ("organization", {"description": "", "max_hosts": 0, "default_environment": None}),
    "execution_environments": ("execution_environment", {"description": "", "pull": "", "credential": None}),
    "projects": ("project", {"description": "", "scm_branch": "", "scm_clean": False, "credential": None}),
    "inventories": ("inventory", {"description": "", "kind": "", "variables": ""}),
    "inventory_sources": ("inventory_source", {"description": "", "source_path": "", "credential": None}),
    "credential_types": ("credential_type", {"description": "", "inputs": {}, "injectors": {}}),
    "credentials": ("credential", {"description": "", "inputs": {}}),
    "notification_templates": ("notification_template", {"description": "", "messages": None}),
    "job_templates": (
        "job_template",
        {"description": "", "job_type": "run", "limit": "", "job_tags": "", "extra_vars": "", "survey_enabled": False},
    ),
    "workflow_job_templates": ("workflow_job_template", {"description": "", "extra_vars": "", "survey_enabled": False}),
    "workflow_job_template_nodes": ("workflow_job_template_node", {"extra_data": {}, "job_tags": None}),
    "workflow_approval_templates": ("workflow_approval_template", {"description": "", "timeout": 0}),
    "schedules": ("schedule", {"description": "", "extra_data": {}, "job_tags": "", "limit": "", "enabled": True}),
}  # fmt: skip
#: What a template is that a node or a schedule may name.
UNIFIED = ("projects", "inventory_sources", "job_templates", "workflow_job_templates", "workflow_approval_templates")
BUILT_IN = {
    "Vault": {"fields": [{"id": "vault_password", "secret": True}, {"id": "vault_id"}]},
    "Amazon Web Services": {"fields": [{"id": "username"}, {"id": "password", "secret": True}]},
    "Source Control": {"fields": [{"id": "username"}, {"id": "ssh_key_data", "secret": True}]},
}


class FakeAWX(FakeService):
    """An installation that has the built-in types of credentials, and nothing else."""

    service: ClassVar[str] = "awx"
    headers: ClassVar[dict[str, str]] = {"X-API-Product-Name": "AWX", "X-API-Product-Version": "24.6.1"}
    #: Things on a page; so few that each list has several.
    page_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.things: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in KINDS}
        #: By endpoint, number and name of the association.
        self.associated: dict[tuple[str, int, str], list[int]] = {}
        self.surveys: dict[tuple[str, int], dict[str, Any]] = {}
        #: Requests that changed something, as ``METHOD path``.
        self.writes: list[str] = []
        #: Who asks: what is made is made by this user.
        self.user = "runbook"
        self._numbers: Counter[str] = Counter()
        for name, inputs in BUILT_IN.items():
            self._create("credential_types", {"name": name, "inputs": inputs})

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        """What there is of a kind, by name."""
        return {each["name"]: each for each in self.things[kind].values()}

    def made_by(self, user: str, kind: str, **fields: Any) -> dict[str, Any]:
        """What a person makes in AWX's own pages; an empty name is one who was deleted since."""
        self.user, before = user, self.user
        try:
            reply = self._posted(kind, fields)
        finally:
            self.user = before
        assert reply.status == 201, reply.body
        return self.things[kind][reply.body["id"]]

    def delete(self, kind: str, name: str) -> None:
        """As a person deletes it there: with a template its schedules go, and nodes of workflows lose it."""
        gone = self.named(kind)[name]["id"]
        del self.things[kind][gone]
        if kind in UNIFIED:
            kept = {n: each for n, each in self.things["schedules"].items() if each["unified_job_template"] != gone}
            self.things["schedules"] = kept
            for node in self.things["workflow_job_template_nodes"].values():
                if node.get("unified_job_template") == gone:
                    node["unified_job_template"] = None

    def answer(self, asked: Asked) -> Reply:
        """What AWX answers."""
        if asked.path == "/api/v2/ping/":
            return Reply(200, {"version": "24.6.1", "install_uuid": INSTALL_UUID})
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"detail": "Authentication credentials were not provided."})
        found = re.fullmatch(r"/api/v2/(\w+)/(?:(\d+)/)?(?:(\w+)/)?", asked.path)
        if not found:
            return Reply(404, {"detail": "Not found."})
        kind, number, part = found[1], int(found[2] or 0), found[3] or ""
        query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        with self._lock:
            if asked.method != "GET":
                self.writes.append(asked.line)
            if number:
                return self._one(kind, number, part, asked, query)
            if kind == "schedules" and part == "preview":
                return self._preview(asked.body)
            if kind not in (*KINDS, "unified_job_templates"):
                return Reply(404, {"detail": "Not found."})
            if asked.method == "POST":
                return self._posted(kind, asked.body)
            kinds = UNIFIED if kind == "unified_job_templates" else (kind,)
            there = [self._shown(each, item) for each in kinds for item in self.things[each].values()]
            return self._paged(asked.path, [item for item in there if _fits(item, query)], query)

    def _one(self, kind: str, number: int, part: str, asked: Asked, query: dict[str, str]) -> Reply:
        thing = self.things.get(kind, {}).get(number)
        if thing is None:
            return Reply(404, {"detail": "Not found."})
        if part == "survey_spec":
            if asked.method == "POST":
                self.surveys[kind, number] = asked.body
                return Reply(200, {})
            return Reply(200, self.surveys.get((kind, number), {}))
        if part == "create_approval_template":
            made = self._create("workflow_approval_templates", {
                name: asked.body[name] for name in ("name", "description", "timeout") if name in asked.body
            })  # fmt: skip
            thing["unified_job_template"] = made["id"]
            return Reply(201, self._shown("workflow_approval_templates", made))
        if part:
            return self._association(kind, number, part, asked, query)
        if asked.method == "PATCH":
            known = {**thing, **KINDS[kind][1]}
            changes = {name: value for name, value in asked.body.items() if name in known}
            wrong = self._wrong(kind, {**thing, **changes})
            if wrong:
                return Reply(400, wrong)
            thing.update(changes)
        return Reply(200, self._shown(kind, thing))

    def _association(self, kind: str, number: int, part: str, asked: Asked, query: dict[str, str]) -> Reply:
        there = self.associated.setdefault((kind, number, part), [])
        if asked.method == "GET":
            return self._paged(asked.path, [{"id": each} for each in there], query)
        if asked.body.get("disassociate"):
            there.remove(asked.body["id"])
        else:
            there.append(asked.body["id"])
        return Reply(204)

    def _posted(self, kind: str, body: dict[str, Any]) -> Reply:
        wrong = self._wrong(kind, body)
        return Reply(400, wrong) if wrong else Reply(201, self._shown(kind, self._create(kind, body)))

    def _wrong(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        if kind == "schedules":
            same = ("unified_job_template", "name")
            others = [each for number, each in self.things[kind].items() if number != body.get("id")]
            if any(all(each[name] == body[name] for name in same) for each in others):
                return {"__all__": ["Schedule with this Unified job template and Name already exists."]}
            return _of_rrule(body["rrule"])
        if kind == "job_templates" and not body.get("project"):
            return {"project": ["This field is required."]}
        return {}

    def _create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        row = "templates" if kind in UNIFIED else kind
        self._numbers[row] += 1
        thing = {**KINDS[kind][1], **body, "id": self._numbers[row], "made_by": self.user}
        self.things[kind][thing["id"]] = thing
        return thing

    def _shown(self, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        url = f"/api/v2/{kind}/{thing['id']}/"
        related = {"survey_spec": f"{url}survey_spec/"}
        if kind == "workflow_job_template_nodes" and thing.get("unified_job_template"):
            of = next(each for each in UNIFIED if thing["unified_job_template"] in self.things[each])
            related["unified_job_template"] = f"/api/v2/{of}/{thing['unified_job_template']}/"
        maker = {"created_by": {"username": thing["made_by"]}} if thing["made_by"] else {}
        shown = {**thing, "type": KINDS[kind][0], "url": url, "related": related, "summary_fields": maker}
        del shown["made_by"]
        if kind == "job_templates":
            # It has that of its project, whatever was sent.
            shown["organization"] = self.things["projects"].get(thing["project"], thing).get("organization")
        if kind == "schedules":
            shown["next_run"] = _next_run(thing)
        if kind == "credentials":
            fields = self.things["credential_types"][thing["credential_type"]]["inputs"].get("fields", [])
            secret = {field["id"] for field in fields if field.get("secret")}
            shown["inputs"] = {
                name: "$encrypted$" if name in secret else value for name, value in thing["inputs"].items()
            }  # fmt: skip
        return shown

    def _paged(self, path: str, found: list[dict[str, Any]], query: dict[str, str]) -> Reply:
        order = query.get("order_by")
        if order:
            found = sorted(found, key=lambda each: each[order])
        page = int(query.get("page", 1))
        size = min(int(query.get("page_size", self.page_size)), self.page_size)
        items = found[(page - 1) * size : page * size]
        if page > 1 and not items:
            return Reply(404, {"detail": "Invalid page."})
        more = page * size < len(found)
        following = f"{path}?{urlencode({**query, 'page': page + 1})}" if more else None
        return Reply(200, {"count": len(found), "next": following, "previous": None, "results": items})

    @staticmethod
    def _preview(body: dict[str, Any]) -> Reply:
        wrong = _of_rrule(body["rrule"])
        if wrong:
            return Reply(400, wrong)
        rule = rrulestr(as_lines(body["rrule"]))
        found = [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at, _ in zip(rule, range(10), strict=False)]
        return Reply(200, {"local": found, "utc": found})


def _fits(item: dict[str, Any], query: dict[str, str]) -> bool:
    """Whether a thing passes the filters of a query."""
    for name, value in query.items():
        if name in ("page", "page_size", "order_by") or name.startswith("or__"):
            continue
        if str(item.get(name)) != value:
            return False
    either = {name.removeprefix("or__"): value for name, value in query.items() if name.startswith("or__")}
    return not either or any(str(item.get(name)) == value for name, value in either.items())


def _next_run(schedule: dict[str, Any]) -> str | None:
    """When it starts something next: never where it is disabled, or its last date has passed."""
    following = rrulestr(as_lines(schedule["rrule"])).after(datetime.now(UTC).replace(tzinfo=None))
    return f"{following:%Y-%m-%dT%H:%M:%SZ}" if following and schedule["enabled"] else None


def _of_rrule(text: str) -> dict[str, Any]:
    """What AWX says of an RRULE that it does not take; nothing where it does."""
    if not re.match(r"DTSTART(;TZID=[\w/]+)?:\d{8}T\d{6}Z? ", text):
        return {"rrule": ["Valid DTSTART required in rrule. Value should start with: DTSTART:YYYYMMDDTHHMMSSZ"]}
    for rule in re.findall(r"RULE:(\S+)", text):
        if "INTERVAL=" not in rule:
            return {"rrule": ["INTERVAL required in rrule."]}
        if re.search(r"BYDAY=[+-]?\d", rule):
            return {"rrule": ["BYDAY with numeric prefix not supported."]}
    if re.search(r"EXDATE|RDATE", text):
        return {"rrule": ["EXDATE not allowed in rrule."]}
    return {}


def as_lines(text: str) -> str:
    """As dateutil reads it: a rule a line."""
    return re.sub(r" (RRULE|EXRULE):", r"\n\1:", re.sub(r"^DTSTART;TZID=Etc/UTC:", "DTSTART:", text))
