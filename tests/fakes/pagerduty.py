"""PagerDuty, over real HTTP on loopback: its REST API, and the Events API that Alertmanager sends to.

Lists come in pages of two, whatever limit was asked for. Of ``/log_entries``, ``/services`` and ``/users`` it answers
what the vendor's description has for their entries. An event with a known key updates its incident, as there.
"""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs

from fakes.http import Asked, FakeService, Reply

TOKEN = "c4n4ry-pagerduty-token"
ROUTING_KEY = "c4n4ry" + "0" * 26
SERVICE, POLICY, SCHEDULE = "PSCRIBE", "PPOLICY", "PPRIMARY"
SITE = "https://clinic.pagerduty.com"
PEOPLE = ({"id": "PADA", "name": "Ada Byron"}, {"id": "PGRACE", "name": "Grace Murray"})


class FakePagerDuty(FakeService):
    """One account with a service, a policy and a schedule."""

    service: ClassVar[str] = "pagerduty-rest"

    def __init__(self) -> None:
        super().__init__()
        #: Incidents of the past: ``id title begin end person``, the times in seconds since 1970.
        self.history: list[dict[str, Any]] = []
        #: Who is on call: ``person`` (a number), ``begin``, ``end``, and ``schedule`` where it is another one.
        self.shifts: list[dict[str, Any]] = []
        #: What came by the Events API.
        self.incidents: list[dict[str, Any]] = []
        self.people: list[dict[str, Any]] = [dict(each) for each in PEOPLE]
        self.page = 2

    def description(self, asked: Asked) -> str:
        """Two APIs, two descriptions."""
        return "pagerduty-events-v2" if asked.path == "/v2/enqueue" else self.service

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.path == "/v2/enqueue":
            with self._lock:
                return self._event(asked.body)
        if asked.headers.get("Authorization") != f"Token token={TOKEN}":
            return Reply(401, {"error": {"code": 2006, "message": "Authentication failed"}})
        if "version=2" not in str(asked.headers.get("Accept")):
            return Reply(406, {"error": {"message": "Not acceptable"}})
        query = parse_qs(asked.query)
        with self._lock:
            if asked.method == "PUT" and (found := re.fullmatch(r"/incidents/(\w+)", asked.path)):
                return self._update(found[1], asked)
            if asked.line == "POST /analytics/raw/incidents":
                return Reply(200, self._analysed(asked.body))
            listed = {
                "/oncalls": ("oncalls", self._on_calls), "/users": ("users", self._users),
                "/services": ("services", self._services), "/log_entries": ("log_entries", self._log),
                "/incidents": ("incidents", self._incidents),
            }.get(asked.path)  # fmt: skip
            if asked.method != "GET" or listed is None:
                return Reply(404, {"error": {"code": 2100, "message": "Not Found"}})
            name, make = listed
            items = make(query)
        offset = int(query.get("offset", ["0"])[0])
        some = items[offset : offset + self.page]
        more = offset + len(some) < len(items)
        return Reply(200, {name: some, "limit": self.page, "offset": offset, "more": more, "total": None})

    def _analysed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Incidents of the past; a person takes one after two minutes, as in the log."""
        begin, end = (
            datetime.fromisoformat(body["filters"][f"created_at_{edge}"]).timestamp() for edge in ("start", "end")
        )
        found = sorted((each for each in self.history if begin <= each["begin"] < end), key=lambda each: each["begin"])
        names = [each["id"] for each in found]
        at = names.index(body["starting_after"]) + 1 if body.get("starting_after") else 0
        some = found[at : at + self.page]
        return {
            "data": [_analysed(each) for each in some], "more": at + len(some) < len(found), "limit": self.page,
            "first": some[0]["id"] if some else "", "last": some[-1]["id"] if some else "", "order": "asc",
            "order_by": "created_at", "time_zone": "Etc/UTC", "filters": body["filters"],
        }  # fmt: skip

    def _span(self, query: dict[str, list[str]]) -> tuple[float, float]:
        now = datetime.now(UTC).timestamp()
        begin, end = (
            datetime.fromisoformat(query[name][0]).timestamp() if name in query else now for name in ("since", "until")
        )
        return begin, end

    def _on_calls(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        begin, end = self._span(query)
        wanted = query.get("schedule_ids[]")
        found: list[dict[str, Any]] = []
        # Two policies use the schedule, so each shift is there twice.
        for policy, shift in itertools.product((POLICY, "PSECOND"), self.shifts):
            schedule = shift.get("schedule", SCHEDULE)
            if shift["begin"] > end or shift["end"] <= begin or (wanted and schedule not in wanted):
                continue
            if policy not in query.get("escalation_policy_ids[]", [policy]):
                continue
            person = self.people[shift["person"]] if isinstance(shift["person"], int) else shift["person"]
            found.append(
                {
                    "user": reference("user", person["id"], person["name"]),
                    "schedule": reference("schedule", schedule, schedule.removeprefix("P").capitalize()),
                    "escalation_policy": reference("escalation_policy", policy, "Escalation"),
                    "escalation_level": 1,
                    "start": stamp(shift["begin"]),
                    "end": stamp(shift["end"]),
                }
            )
        if query.get("earliest") == ["true"]:
            first: dict[Any, dict[str, Any]] = {}
            for each in found:
                first.setdefault((each["user"]["id"], each["escalation_policy"]["id"]), each)
            found = list(first.values())
        return found

    def _users(self, _query: dict[str, list[str]]) -> list[dict[str, Any]]:
        return [
            reference("user", each["id"], each["name"])
            | {"type": "user", "name": each["name"], "email": f"{each['id'].lower()}@example.com", "role": "user"}
            for each in self.people
        ]

    def _services(self, _query: dict[str, list[str]]) -> list[dict[str, Any]]:
        policy = reference("escalation_policy", POLICY, "Escalation")
        return [
            reference("service", SERVICE, "Mental Scribe")
            | {"type": "service", "status": "active", "escalation_policy": policy},
        ]  # fmt: skip

    def _log(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        begin, end = self._span(query)
        found = []
        for each in self.history:
            integration = reference("integration", "PINTEGR", "Prometheus")
            person = each.get("person")
            agent = (
                integration
                if person is None
                else reference("user", self.people[person]["id"], self.people[person]["name"])
            )
            acts = [("trigger", each["begin"], integration)]
            acts += [("acknowledge", each["begin"] + 120, agent)] if person is not None else []
            acts += [("resolve", each["end"], integration)] if each.get("end") else []
            for number, (kind, at, by) in enumerate(acts):
                if begin <= at <= end:
                    found.append(self._entry(each, f"R{each['id']}{number}", kind, at, by))
        return sorted(found, key=lambda entry: str(entry["created_at"]), reverse=True)

    def _entry(self, of: dict[str, Any], name: str, kind: str, at: float, by: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": name, "type": f"{kind}_log_entry", "summary": f"{kind.capitalize()}d", "self": None, "html_url": None,
            "created_at": stamp(at), "agent": by, "channel": {"type": "api"},
            "service": reference("service", SERVICE, "Mental Scribe"),
            "incident": reference("incident", of["id"], f"[#1] {of['title']}"), "teams": [],
        }  # fmt: skip

    def _incidents(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        begin, end = self._span(query)
        if SERVICE not in query.get("service_ids[]", [SERVICE]):
            return []
        return [self._shown(each) for each in self.incidents if begin <= each["begin"] <= end]

    def _shown(self, each: dict[str, Any]) -> dict[str, Any]:
        status = "resolved" if each["end"] else "triggered"
        ended = stamp(each["end"]) if each["end"] else None
        return reference("incident", each["id"], f"[#1] {each['title']}") | {
            "type": "incident", "title": each["title"], "incident_number": 1, "incident_key": each["key"],
            "created_at": stamp(each["begin"]), "status": status, "resolved_at": ended, "urgency": "high",
            "service": reference("service", SERVICE, "Mental Scribe"), "assignments": [], "acknowledgements": [],
            "last_status_change_at": ended or stamp(each["begin"]),
            "escalation_policy": reference("escalation_policy", POLICY, "Escalation"), "teams": [],
        }  # fmt: skip

    def _update(self, name: str, asked: Asked) -> Reply:
        found = next((each for each in self.incidents if each["id"] == name), None)
        if found is None:
            return Reply(404, {"error": {"code": 2100, "message": "Not Found"}})
        if "@" not in str(asked.headers.get("From")):
            return Reply(400, {"error": {"code": 2001, "message": "Invalid Input", "errors": ["From header missing"]}})
        if asked.body["incident"]["status"] == "resolved":
            found["end"] = found["end"] or datetime.now(UTC).timestamp()
        return Reply(200, {"incident": self._shown(found)})

    def _event(self, event: dict[str, Any]) -> Reply:
        if event.get("routing_key") != ROUTING_KEY:
            return Reply(
                400, {"status": "invalid event", "message": "Event object is invalid", "errors": ["routing_key"]}
            )
        now, key = datetime.now(UTC).timestamp(), event.get("dedup_key") or f"key{len(self.incidents)}"
        found = next((each for each in self.incidents if each["key"] == key and not each["end"]), None)
        if event["event_action"] == "resolve":
            if found:
                found["end"] = now
        elif found is None:
            title = event["payload"]["summary"]
            self.incidents.append(
                {"id": f"PLIVE{len(self.incidents):02}", "key": key, "title": title, "begin": now, "end": None}
            )  # fmt: skip
        return Reply(202, {"status": "success", "message": "Event processed", "dedup_key": key})


def _analysed(each: dict[str, Any]) -> dict[str, Any]:
    """As the analytics have an incident: moments in UTC, without saying so."""
    over = each.get("end")
    return {
        "id": each["id"], "incident_number": 1, "description": each["title"], "service_id": SERVICE,
        "service_name": "Mental Scribe", "created_at": stamp(each["begin"]).rstrip("Z"), "urgency": "high",
        "status": "resolved" if over else "triggered", "major": False, "priority_name": None,
    } | (
        {"resolved_at": stamp(over).rstrip("Z"), "seconds_to_resolve": int(over - each["begin"])} if over else {}
    ) | ({"seconds_to_first_ack": 120} if each.get("person") is not None else {})  # fmt: skip


def reference(kind: str, name: str, summary: str) -> dict[str, Any]:
    """As PagerDuty names a thing elsewhere."""
    return {
        "id": name, "type": f"{kind}_reference", "summary": summary, "self": f"https://api.pagerduty.com/{kind}s/{name}",
        "html_url": f"{SITE}/{kind}s/{name}",
    }  # fmt: skip


def stamp(at: float) -> str:
    """As PagerDuty writes a moment."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
