"""Cachet 3: maintenance is a schedule with its end, incidents and updates are beside it.

Docs: https://docs.cachethq.io/api-reference; a page's API is below the path that it is configured with. Times are sent
in UTC, which is Cachet's own zone unless somebody changed it. What is found again bears its reference as a last line of
its text, for Cachet's other fields differ from release to release.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError
from ansible.module_utils.runbook.drivers.http.api_pages import by_number
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.status_page import Kind, Level, Notice, Phase, Shown
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

_STATUS = {
    Level.OPERATIONAL: 1, Level.DEGRADED: 2, Level.PARTIAL_OUTAGE: 3, Level.MAJOR_OUTAGE: 4, Level.MAINTENANCE: 6,
}  # fmt: skip
_SCHEDULE = {0: Phase.SCHEDULED, 1: Phase.IN_PROGRESS, 2: Phase.COMPLETED}
_INCIDENT = {1: Phase.INVESTIGATING, 2: Phase.IDENTIFIED, 3: Phase.MONITORING, 4: Phase.RESOLVED}
_NUMBER = {phase: number for number, phase in _INCIDENT.items()}
_PATHS = {"maintenance": "/api/schedules", "incident": "/api/incidents"}
_FORMAT = "%Y-%m-%d %H:%M:%S"


class Cachet:
    """One installation."""

    def __init__(self, *, url: str, token: str, ca_cert: str | None, timeout_s: float, read_only: bool) -> None:
        self.read_only = read_only
        self._url = self.where = url.rstrip("/")
        self._api = ApiClient(
            service="Cachet",
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"},
            secrets={"cachet_token": token},
            read_only=read_only,
            timeout_s=timeout_s,
            fixes={
                401: "check cachet_token",
                404: "check cachet_url; the API has to be switched on in Cachet's settings",
            },
            ca_cert=ca_cert,
            options=("cachet_url", "ca_cert"),
        )

    def find(self, kind: Kind, reference: str, known: str) -> Shown | None:
        """As ``StatusPage.find``."""
        if known:
            try:
                answer = self._api.get(f"{_PATHS[kind]}/{known}")
            except ApiError as error:
                if error.http_status == 404:
                    return None
                raise
            return self._shown(kind, answer.get("data") if isinstance(answer, dict) else None)
        query = (("per_page", "100"), ("sort", "-id"))
        found = self._api.pages(_PATHS[kind], by_number, items="data", query=query)
        shown = [self._shown(kind, each) for each in found if _last_line(each) == _line(reference)]
        return next((each for each in shown if each.phase is None or not each.phase.is_over), None)

    def open(self, notice: Notice) -> tuple[Shown | None, bool]:
        """As ``StatusPage.open``; maintenance ends by itself."""
        body: dict[str, Any] = {
            "name": notice.title,
            "message": f"{notice.text}\n\n{_line(notice.reference)}",
            "notifications": notice.notify,
            "components": [{"id": int(name), "status": _STATUS[notice.level]} for name in notice.components],
        }
        if notice.starts_at is not None and notice.until is not None:
            body |= {"scheduled_at": _written(notice.starts_at), "completed_at": _written(notice.until)}
        else:
            body |= {"status": _NUMBER[Phase.INVESTIGATING], "visible": True}

        def create() -> Shown | None:
            made = self._api.post(_PATHS[notice.kind], body)
            data = made.get("data") if isinstance(made, dict) else None
            return self._shown(notice.kind, data) if data else None

        ensured = self._api.ensure(lambda: self.find(notice.kind, notice.reference, ""), create)
        return ensured.found, ensured.made

    def tell(self, shown: Shown, notice: Notice, phase: Phase | None) -> None:
        """As ``StatusPage.tell``; an incident's phase is that of its last update, which has no components."""
        path = f"{_PATHS[notice.kind]}/{shown.id}"
        body: dict[str, Any] = {"message": notice.text}
        if notice.kind == "incident":
            body["status"] = _NUMBER[phase or shown.phase or Phase.INVESTIGATING]

        def create() -> bool | None:
            made = self._api.post(f"{path}/updates", body)
            return True if isinstance(made, dict) and made.get("data") else None

        def told() -> bool | None:
            now = self.find(notice.kind, notice.reference, shown.id)
            return (now is not None and self._has_update(now, notice, phase)) or None

        self._api.ensure(told, create)
        if notice.kind == "incident":
            self.set_components(notice.components, notice.level)
        fields = {}
        if phase in (Phase.IN_PROGRESS, Phase.COMPLETED) and shown.phase is Phase.SCHEDULED:
            # Cachet has what begins later as upcoming, also where its end is over.
            fields["scheduled_at"] = _written(datetime.now(UTC))
        if phase is Phase.COMPLETED:
            fields["completed_at"] = _written(datetime.now(UTC))
        elif notice.until is not None:
            fields["completed_at"] = _written(notice.until)
        if fields:
            self._api.put(path, fields)

    def has_said(self, shown: Shown, notice: Notice, phase: Phase | None) -> bool:
        """As ``StatusPage.has_said``."""
        if not self._has_update(shown, notice, phase):
            return False
        return notice.kind == "maintenance" or not self._at_other_level(notice.components, notice.level)

    def _has_update(self, shown: Shown, notice: Notice, phase: Phase | None) -> bool:
        if notice.kind == "incident" and phase not in (None, shown.phase):
            return False
        path = f"{_PATHS[notice.kind]}/{shown.id}/updates"
        found = self._api.pages(path, by_number, items="data", query=(("per_page", "100"),))
        return any(_attributes(each).get("message") == notice.text for each in found)

    def set_components(self, components: Sequence[str], level: Level) -> list[str]:
        """As ``StatusPage.set_components``."""
        changed = self._at_other_level(components, level)
        for name in changed if not self.read_only else ():
            self._api.put(f"/api/components/{name}", {"status": _STATUS[level]})
        return changed

    def _at_other_level(self, components: Sequence[str], level: Level) -> list[str]:
        return [
            name
            for name in components
            if _value(_attributes(self._api.get(f"/api/components/{name}"), "data")) != _STATUS[level]
        ]

    def _shown(self, kind: Kind, data: Any) -> Shown:
        said = _attributes(data)
        phase = (_SCHEDULE if kind == "maintenance" else _INCIDENT).get(_value(said))
        ends = (said.get("completed") or {}).get("string") if kind == "maintenance" else None
        number = str(data.get("id") or said.get("id") or "")
        if not number:
            raise _odd("id")
        until = datetime.strptime(ends, _FORMAT).replace(tzinfo=UTC) if ends else None
        page = f"{self._url}/incidents/{said['guid']}" if said.get("guid") else self._url
        return Shown(number, page, phase, (), until)


def _line(reference: str) -> str:
    return f"Reference: {reference}"


def _last_line(data: Any) -> str:
    return str(_attributes(data).get("message") or "").rstrip().rpartition("\n")[2]


def _attributes(data: Any, field: str = "") -> dict[str, Any]:
    inner = data.get(field) if field and isinstance(data, dict) else data
    found = inner.get("attributes") if isinstance(inner, dict) else None
    if not isinstance(found, dict):
        raise _odd("attributes")
    return found


def _value(attributes: dict[str, Any]) -> int:
    status = attributes.get("status")
    value = status.get("value") if isinstance(status, dict) else status
    if not isinstance(value, int):
        raise _odd("status")
    return value


def _written(at: datetime) -> str:
    return f"{at.astimezone(UTC):{_FORMAT}}"


def _odd(field: str) -> RunbookError:
    return RunbookError(f"Cachet's answer has no {field}; check cachet_url.", status=Status.UNKNOWN)
