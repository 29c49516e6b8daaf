"""Upptime: a status page made of GitHub issues. It closes an issue of maintenance when its end has come.

Docs: https://upptime.js.org/docs/scheduled-maintenance. An incident bears no label of a site: Upptime closes whatever
bears one as soon as that site answers, while an incident may be about more than that.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.status_page import Kind, Level, Notice, Phase, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.drivers.change.github_issues import GitHubIssues

_LABELS = {"maintenance": "maintenance", "incident": "status"}
_GONE = (404, 410)
_TIME = "(?m)^{}: (.+?)\r?$"


class Upptime:
    """The repository of one status page."""

    def __init__(self, issues: GitHubIssues) -> None:
        self._issues = issues
        self.read_only = issues.read_only
        self.where = issues.where

    def find(self, kind: Kind, reference: str, known: str) -> Shown | None:
        """As ``StatusPage.find``."""
        if not known:
            found = self._issues.find(_LABELS[kind], f"reference: {reference}")
            shown = None if found is None else _shown(kind, found)
            return None if shown is None or (shown.phase is not None and shown.phase.is_over) else shown
        try:
            return _shown(kind, self._issues.get(known))
        except ApiError as error:
            if error.http_status in _GONE:
                return None
            raise

    def open(self, notice: Notice) -> tuple[Shown | None, bool]:
        """As ``StatusPage.open``; maintenance begins and ends by itself."""
        label = _LABELS[notice.kind]
        ensured = self._issues.ensure(label, f"reference: {notice.reference}", notice.title, _body(notice), [label])
        return (None if ensured.found is None else _shown(notice.kind, ensured.found)), ensured.made

    def tell(self, shown: Shown, notice: Notice, phase: Phase | None) -> None:
        """As ``StatusPage.tell``."""
        line = _line(notice, phase)
        self._issues.comment(shown.id, line, f"{notice.text}\n\n{line}")
        fields: dict[str, Any] = {}
        if notice.kind == "maintenance" and (notice.until is not None or phase is Phase.IN_PROGRESS):
            body = str(self._issues.get(shown.id).get("body") or "")
            if phase is Phase.IN_PROGRESS and shown.phase is Phase.SCHEDULED:
                body = _with(body, "start", datetime.now(UTC))
            if notice.until is not None:
                body = _with(body, "end", notice.until)
            fields["body"] = body
        if phase is not None and phase.is_over:
            fields |= {"state": "closed", "state_reason": "completed"}
        if fields:
            self._issues.edit(shown.id, fields)

    def has_said(self, shown: Shown, notice: Notice, phase: Phase | None) -> bool:
        """As ``StatusPage.has_said``."""
        return self._issues.has_comment(shown.id, _line(notice, phase))

    def set_components(self, components: Sequence[str], level: Level) -> list[str]:
        """As ``StatusPage.set_components``."""
        raise RunbookError(f"Upptime measures {', '.join(components)} itself; nobody can set it to {level}.")


def _body(notice: Notice) -> str:
    # Upptime reads the first comment, line by line.
    lines = [f"reference: {notice.reference}"]
    if notice.starts_at is not None and notice.until is not None:
        lines = [f"start: {_written(notice.starts_at)}", f"end: {_written(notice.until)}", *lines]
        lines += [f"expectedDown: {', '.join(notice.components)}"] if notice.components else []
    return "\n".join(("<!--", *lines, "-->", "", notice.text))


def _line(notice: Notice, phase: Phase | None) -> str:
    """By which a comment is found again."""
    return f"<!-- said: {notice.update_id(phase)} -->"


def _shown(kind: Kind, issue: Mapping[str, Any]) -> Shown:
    body, closed = str(issue.get("body") or ""), issue.get("state") == "closed"
    number, url = str(issue["number"]), str(issue.get("html_url") or "")
    if kind == "incident":
        return Shown(number, url, Phase.RESOLVED if closed else None)
    starts_at, until, now = _read(body, "start"), _read(body, "end"), datetime.now(UTC)
    if closed or (until is not None and until <= now):
        phase = Phase.COMPLETED
    else:
        phase = Phase.IN_PROGRESS if starts_at is not None and starts_at <= now else Phase.SCHEDULED
    return Shown(number, url, phase, (), until)


def _read(body: str, name: str) -> datetime | None:
    found = re.search(_TIME.format(name), body)
    try:
        return datetime.fromisoformat(found[1]).astimezone(UTC) if found else None
    except ValueError:
        return None


def _with(body: str, name: str, at: datetime) -> str:
    return re.sub(_TIME.format(name), f"{name}: {_written(at)}", body, count=1)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
