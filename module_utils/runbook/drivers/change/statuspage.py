"""Atlassian Statuspage: maintenance and incidents are both incidents there, and its API takes one request a second.

Who asks more often is told 420 or 429; the client waits. Each ``PATCH`` adds an update that subscribers get, so that
none is sent again blindly. Docs: https://developer.statuspage.io.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError, Repeat
from ansible.module_utils.runbook.drivers.http.api_pages import by_number
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.status_page import Kind, Level, Notice, Phase, Shown
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

API_URL = "https://api.statuspage.io/v1"
#: Where an incident stands that is not over, by its kind.
_LISTS = {"maintenance": ("scheduled", "active_maintenance"), "incident": ("unresolved",)}
_STATUS = {
    Level.OPERATIONAL: "operational", Level.DEGRADED: "degraded_performance", Level.PARTIAL_OUTAGE: "partial_outage",
    Level.MAJOR_OUTAGE: "major_outage", Level.MAINTENANCE: "under_maintenance",
}  # fmt: skip
#: What it calls the impact of an incident, by its worst component; the worst first.
_IMPACTS = {
    _STATUS[Level.MAJOR_OUTAGE]: "critical", _STATUS[Level.PARTIAL_OUTAGE]: "major", _STATUS[Level.DEGRADED]: "minor",
}  # fmt: skip
#: Statuspage looks at maintenance once more before it is completed.
_PHASES = {phase.value: phase for phase in Phase} | {"verifying": Phase.IN_PROGRESS}


class Statuspage:
    """One page."""

    def __init__(
        self, *, page: str, token: str, api_url: str, ca_cert: str | None, timeout_s: float, read_only: bool
    ) -> None:  # fmt: skip
        self.read_only = read_only
        self.where = f"{api_url.rstrip('/')} {page}"
        self._path = f"/pages/{page}"
        self._api = ApiClient(
            service="Statuspage",
            base_url=api_url.rstrip("/"),
            headers={"Authorization": f"OAuth {token}"},
            secrets={"statuspage_token": token},
            read_only=read_only,
            timeout_s=timeout_s,
            fixes={401: "check statuspage_token", 404: "check statuspage_page and components"},
            ca_cert=ca_cert,
            options=("statuspage_api_url", "ca_cert"),
        )

    def find(self, kind: Kind, reference: str, known: str) -> Shown | None:
        """As ``StatusPage.find``."""
        if known:
            try:
                return _shown(self._api.get(f"{self._path}/incidents/{known}"))
            except ApiError as error:
                if error.http_status == 404:
                    return None
                raise
        for name in _LISTS[kind]:
            path = f"{self._path}/incidents/{name}"
            for each in self._api.pages(path, by_number, items=None, query=(("per_page", "100"),)):
                if _reference(each) == reference:
                    return _shown(each)
        return None

    def open(self, notice: Notice) -> tuple[Shown | None, bool]:
        """As ``StatusPage.open``; maintenance begins and ends by itself, its components with it."""
        incident: dict[str, Any] = {
            "name": notice.title,
            "body": notice.text,
            "component_ids": list(notice.components),
            "deliver_notifications": notice.notify,
            "metadata": {"runbook": {"reference": notice.reference}},
        }
        if notice.starts_at is not None and notice.until is not None:
            incident |= {
                "status": "scheduled",
                "scheduled_for": notice.starts_at.isoformat(),
                "scheduled_until": notice.until.isoformat(),
                "scheduled_auto_in_progress": True,
                "scheduled_auto_completed": True,
                "auto_transition_to_maintenance_state": True,
                "auto_transition_to_operational_state": True,
                "auto_transition_deliver_notifications_at_start": notice.notify,
                "auto_transition_deliver_notifications_at_end": notice.notify,
            }
        else:
            incident |= {
                "status": "investigating",
                "components": dict.fromkeys(notice.components, _STATUS[notice.level]),
            }
            incident |= {"impact_override": _impact([_STATUS[notice.level]])}

        def create() -> Shown | None:
            made = self._api.post(f"{self._path}/incidents", {"incident": incident})
            return _shown(made) if isinstance(made, dict) and "id" in made else None

        ensured = self._api.ensure(lambda: self.find(notice.kind, notice.reference, ""), create)
        return ensured.found, ensured.made

    def tell(self, shown: Shown, notice: Notice, phase: Phase | None) -> None:
        """As ``StatusPage.tell``."""
        wanted = phase or shown.phase
        incident: dict[str, Any] = {"body": notice.text, "deliver_notifications": notice.notify}
        if wanted is not None:
            incident["status"] = wanted.value
        touched = _touched(shown, notice, phase)
        if touched:
            incident["components"] = dict.fromkeys(touched, _STATUS[notice.level])
            if notice.kind == "incident" and not (phase and phase.is_over):
                incident["impact_override"] = _impact({**shown.components, **incident["components"]}.values())
        if notice.until is not None:
            incident["scheduled_until"] = notice.until.isoformat()

        def told() -> Shown | None:
            now = self.find(notice.kind, notice.reference, shown.id)
            if now is None or not self.has_said(now, notice, wanted):
                return None
            return now if notice.until in (None, now.until) else None

        def update() -> Shown | None:
            answer = self._api.patch(f"{self._path}/incidents/{shown.id}", {"incident": incident})
            return _shown(answer) if isinstance(answer, dict) and "id" in answer else None

        self._api.ensure(told, update)

    def has_said(self, shown: Shown, notice: Notice, phase: Phase | None) -> bool:
        """As ``StatusPage.has_said``."""
        if notice.text not in shown.texts or phase not in (None, shown.phase):
            return False
        # At the end another notice may have the one or the other component.
        is_over = phase is not None and phase.is_over
        return is_over or all(shown.components.get(name) == _STATUS[notice.level] for name in notice.components)

    def set_components(self, components: Sequence[str], level: Level) -> list[str]:
        """As ``StatusPage.set_components``."""
        changed = []
        for name in components:
            path = f"{self._path}/components/{name}"
            found = self._api.get(path)
            if not isinstance(found, dict) or "status" not in found:
                raise _odd("status")
            if found["status"] != _STATUS[level]:
                changed.append(name)
                if not self.read_only:
                    self._api.patch(path, {"component": {"status": _STATUS[level]}}, repeat=Repeat.ALWAYS)
        return changed


def _shown(incident: Any) -> Shown:
    try:
        updates = incident.get("incident_updates") or []
        texts = tuple(str(each.get("body") or "") for each in updates)
        # A status that is not known here is no phase; the incident is there all the same.
        phase = _PHASES.get(str(incident["status"]))
        ends = incident.get("scheduled_until")
        until = datetime.fromisoformat(ends).astimezone(UTC) if ends else None
        components = {str(each["id"]): str(each["status"]) for each in incident.get("components") or []}
        return Shown(str(incident["id"]), str(incident.get("shortlink") or ""), phase, texts, until, components)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _odd("id, status or times") from None


def _touched(shown: Shown, notice: Notice, phase: Phase | None) -> list[str]:
    """The components that a step of a notice sets; the end of one leaves to another what that one set."""
    if phase is None or not (phase.is_over or phase is Phase.IN_PROGRESS):
        return sorted(notice.components)
    touched = {*notice.components, *shown.components}
    if phase.is_over:
        ours = notice.kind == "maintenance"
        of_other = {
            name for name, status in shown.components.items() if (status == _STATUS[Level.MAINTENANCE]) is not ours
        }
        touched -= of_other
    return sorted(touched)


def _impact(statuses: Iterable[str]) -> str:
    found = frozenset(statuses)
    return next((impact for status, impact in _IMPACTS.items() if status in found), "none")


def _reference(incident: Any) -> str:
    metadata = incident.get("metadata") if isinstance(incident, dict) else None
    ours = metadata.get("runbook") if isinstance(metadata, dict) else None
    return str(ours.get("reference", "")) if isinstance(ours, dict) else ""


def _odd(field: str) -> RunbookError:
    return RunbookError(f"Statuspage's answer has no {field}; check statuspage_api_url.", status=Status.UNKNOWN)
