"""PagerDuty's REST API: who is on call, what happened to incidents, and an end to one of ours.

https://developer.pagerduty.com/docs/rest-api-v2/rest-api/
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.drivers.http.api_pages import MAX_PAGES, by_offset
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.observe.acts import Incident
from ansible.module_utils.runbook.rules.observe.incidents import Incident as Analysed
from ansible.module_utils.runbook.rules.observe.rota import Shift
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

API_URL = "https://api.pagerduty.com"
#: What a person does to an incident, as its log calls it.
_BY_PEOPLE = (
    "acknowledge_log_entry", "resolve_log_entry", "assign_log_entry", "delegate_log_entry", "annotate_log_entry",
    "snooze_log_entry", "escalate_log_entry", "urgency_change_log_entry",
)  # fmt: skip
#: The largest page there is.
_LIMIT = ("limit", "100")


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that name it; ``doc_fragments/runbook_pagerduty.py`` tells them."""
    return {
        "pagerduty_api_token": {"type": "str", "no_log": True},
        "pagerduty_api_url": {"type": "str", "default": API_URL},
    }


class PagerDuty:
    """One account."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, timeout_s: float, read_only: bool = True) -> PagerDuty | None:
        """The account that a module's options name; None where they name none.

        :raises RunbookError: the token would travel unencrypted
        """
        token = params["pagerduty_api_token"]
        if not token:
            return None
        headers = {"Authorization": f"Token token={token}", "Accept": "application/vnd.pagerduty+json;version=2"}
        return cls(
            ApiClient(
                service="PagerDuty",
                base_url=params["pagerduty_api_url"].rstrip("/"),
                headers=headers | ({"From": params["pagerduty_from"]} if params.get("pagerduty_from") else {}),
                secrets={"pagerduty_api_token": token},
                read_only=read_only,
                timeout_s=timeout_s,
                reset_headers=("ratelimit-reset",),
                options=("pagerduty_api_url", ""),
            )
        )

    def on_call(self, schedule: str, name: str, *, begin: datetime, end: datetime) -> list[Shift]:
        """All shifts of a schedule that overlap with a time.

        Each policy that uses a schedule tells its shifts again, so they are here once. ``earliest`` is never asked for:
        it leaves out every shift but each person's first.

        :param name: as the shifts call it
        :raises RunbookError: refused, no answer, or one that cannot be read
        """
        query = (("schedule_ids[]", schedule), *_span(begin, end))
        found = self._list("/oncalls", "oncalls", query)
        try:
            return sorted({_shift(each, name, begin, end) for each in found}, key=lambda each: each.begin)
        except (AttributeError, LookupError, TypeError, ValueError):
            raise _unreadable("who is on call") from None

    def on_call_now(self, services: Sequence[str], now: datetime) -> list[str]:
        """Who is told first of an incident of services, as things stand.

        :raises RunbookError: as :meth:`on_call`
        """
        listed = self._list("/services", "services", ())
        try:
            policies = [each["escalation_policy"]["id"] for each in listed if each["id"] in services]
            if not policies:
                return []
            query = (*(("escalation_policy_ids[]", each) for each in policies), *_span(now, now))
            found = self._list("/oncalls", "oncalls", query)
            return sorted({each["user"]["summary"] for each in found if each["escalation_level"] == 1})
        except (AttributeError, LookupError, TypeError, ValueError):
            raise _unreadable("who is on call") from None

    def people(self) -> dict[str, str]:
        """Names of all users by their ids.

        :raises RunbookError: as :meth:`on_call`
        """
        found = self._list("/users", "users", ())
        try:
            return {str(each["id"]): str(each.get("name") or each["summary"]) for each in found}
        except (AttributeError, LookupError, TypeError):
            raise _unreadable("its users") from None

    def log(self, *, begin: datetime, end: datetime) -> list[Incident]:
        """Incidents that began in a time, and what people did to them in it, by the account's log.

        The list of incidents would not do: who acknowledged one is no longer in it once it is resolved.

        :raises RunbookError: as :meth:`on_call`
        """
        found = self._list("/log_entries", "log_entries", (*_span(begin, end), ("is_overview", "true")))
        try:
            return list(_incidents(found))
        except (AttributeError, LookupError, TypeError, ValueError):
            raise _unreadable("its log") from None

    def analysed(self, *, begin: datetime, end: datetime) -> list[Analysed]:
        """Incidents that began in a time, with how long they took, by PagerDuty's analytics, which are a day behind.

        :raises RunbookError: as :meth:`on_call`
        """
        filters = {
            "created_at_start": begin.astimezone(UTC).isoformat(),
            "created_at_end": end.astimezone(UTC).isoformat(),
        }
        body: dict[str, Any] = {
            "filters": filters, "limit": 1000, "order": "asc", "order_by": "created_at", "time_zone": "Etc/UTC"
        }  # fmt: skip
        found: list[Analysed] = []
        for _ in range(MAX_PAGES):
            said = self._api.ask("/analytics/raw/incidents", body)
            try:
                some = [analysed(each) for each in said["data"]]
                more, last = said["more"] is True, said.get("last")
            except (AttributeError, LookupError, TypeError, ValueError):
                raise _unreadable("how long incidents took") from None
            found += some
            if not more:
                return found
            if not last or last == body.get("starting_after"):
                break
            body["starting_after"] = last
        raise _unreadable("where its list of incidents ends")

    def with_title(self, part: str, services: Sequence[str], *, begin: datetime) -> dict[str, Any] | None:
        """The incident of services whose title has a text, of those since a moment.

        :raises RunbookError: as :meth:`on_call`
        """
        end = datetime.now(UTC)
        query = (*(("service_ids[]", each) for each in services), *_span(begin, end))
        found = self._list("/incidents", "incidents", query)
        try:
            return next((each for each in found if part in str(each["title"])), None)
        except (AttributeError, LookupError, TypeError):
            raise _unreadable("its incidents") from None

    def resolve(self, incident: str) -> None:
        """End an incident, so that nobody else is told.

        :raises RunbookError: refused, or no answer
        """
        body = {"incident": {"type": "incident", "status": "resolved"}}
        self._api.put(f"/incidents/{quote(incident, safe='')}", body)

    def _list(self, path: str, items: str, query: Iterable[tuple[str, str]]) -> list[Any]:
        return self._api.pages(path, by_offset, items=items, query=(*query, _LIMIT))


def analysed(said: Mapping[str, Any]) -> Analysed:
    """An incident as the analytics have it; they say moments in UTC without saying so.

    :raises LookupError, TypeError, ValueError: it is none
    """
    begin = datetime.fromisoformat(said["created_at"])
    took, over = said.get("seconds_to_first_ack"), said.get("seconds_to_resolve")
    is_open = said.get("status") != "resolved" and not said.get("resolved_at")
    return Analysed(
        "pagerduty", str(said["id"]), str(said["description"]), str(said["service_name"]),
        begin.replace(tzinfo=begin.tzinfo or UTC).astimezone(UTC),
        None if took is None else float(took), None if over is None or is_open else float(over), is_open,
    )  # fmt: skip


def _shift(said: Mapping[str, Any], name: str, begin: datetime, end: datetime) -> Shift:
    """One shift; the end of one that has none is the end of what was asked for."""
    user = said["user"]
    return Shift(
        schedule=name,
        person=str(user["summary"]),
        begin=datetime.fromisoformat(said["start"]).astimezone(UTC) if said.get("start") else begin,
        end=datetime.fromisoformat(said["end"]).astimezone(UTC) if said.get("end") else end,
        person_id=str(user["id"]),
    )


def _incidents(entries: Sequence[Mapping[str, Any]]) -> Iterable[Incident]:
    title: dict[str, str] = {}
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    people: dict[str, set[str]] = {}
    for each in sorted(entries, key=lambda entry: str(entry["created_at"])):
        of, at = each["incident"], datetime.fromisoformat(each["created_at"]).timestamp()
        key, kind, agent = str(of["id"]), each["type"], each.get("agent") or {}
        if kind == "trigger_log_entry":
            title[key], begun[key] = str(of["summary"]), min(at, begun.get(key, at))
        if kind == "resolve_log_entry":
            ended[key] = at
        if kind in _BY_PEOPLE and agent.get("type") == "user_reference":
            people.setdefault(key, set()).add(str(agent.get("summary") or agent["id"]))
    for key, at in begun.items():
        yield Incident(key, title[key], at, ended.get(key), tuple(sorted(people.get(key, ()))))


def _span(begin: datetime, end: datetime) -> tuple[tuple[str, str], ...]:
    return ("since", begin.astimezone(UTC).isoformat()), ("until", end.astimezone(UTC).isoformat())


def _unreadable(what: str) -> RunbookError:
    return RunbookError(f"PagerDuty answered with something that does not say {what}.", status=Status.UNKNOWN)
