"""The notice of a change on a status page: one for each change, whatever the network does.

:func:`announce` notes in the change that there may be a notice before it asks for one, and its id afterwards. So
:func:`end` needs only the settings of the service and what was noted: whoever comes after a run that was killed can end
it. Maintenance ends by itself too, for it is announced with its end.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

from ansible.module_utils.runbook.drivers.change.cachet import Cachet
from ansible.module_utils.runbook.drivers.change.changes import Done
from ansible.module_utils.runbook.drivers.change.github_issues import API_URL, GitHubIssues
from ansible.module_utils.runbook.drivers.change.statuspage import API_URL as STATUSPAGE_URL
from ansible.module_utils.runbook.drivers.change.statuspage import Statuspage
from ansible.module_utils.runbook.drivers.change.upptime import Upptime
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.http.webhook import Webhook
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.status_page import Kind, Level, Notice, Phase, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.drivers.change.changes import Changes


class StatusPage(Protocol):
    """What every status page can do."""

    #: As in check mode: nothing is written, and what would be is told.
    read_only: bool
    #: Which one of its kind, without a secret; the same for everybody who means the same one.
    where: str

    def find(self, kind: Kind, reference: str, known: str) -> Shown | None:
        """A notice; None if there is none that is not over.

        :param known: its id, where it was noted; then also one that is over is found
        :raises RunbookError: refused, or no answer
        """

    def open(self, notice: Notice) -> tuple[Shown | None, bool]:
        """A notice, found or made, and whether it was made; none where check mode would make it.

        :raises RunbookError: refused, or nobody knows whether it was made
        """

    def tell(self, shown: Shown, notice: Notice, phase: Phase | None) -> None:
        """Add the text of ``notice``, bring what is shown to a phase, and its components to their level.

        :param phase: None where it stays
        :raises RunbookError: refused, or nobody knows whether it was done
        """

    def has_said(self, shown: Shown, notice: Notice, phase: Phase | None) -> bool:
        """Whether the text of ``notice`` is there, with this phase and its components at their level.

        :param phase: None where it does not matter
        """

    def set_components(self, components: Sequence[str], level: Level) -> list[str]:
        """Bring components to a level; those that were at another one.

        :raises RunbookError: refused, or no answer
        """


class WebhookPage:
    """A page that is told of notices, and need not tell anything.

    Each event is ``{"schema": "runbook-status-page", "schema_version": 1, "event", "kind", "notice", "phase", "title",
    "text", "components", "level", "starts_at", "until", "notify"}``. ``event`` is ``opened``, ``updated`` or
    ``components``; ``notice`` is the same in each event of a notice. The answer to ``opened`` may say ``url``.
    """

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self.read_only = webhook.read_only
        self.where = webhook.where

    def find(self, kind: Kind, reference: str, known: str) -> Shown | None:
        """As :meth:`StatusPage.find`; nobody can be asked, so it is taken to be there."""
        del kind, known
        return Shown(reference, "", None)

    def open(self, notice: Notice) -> tuple[Shown | None, bool]:
        """As :meth:`StatusPage.open`."""
        if self.read_only:
            return None, True
        said = self._send("opened", notice, Phase.SCHEDULED if notice.kind == "maintenance" else Phase.INVESTIGATING)
        return Shown(notice.reference, str(said.get("url") or ""), None), True

    def tell(self, shown: Shown, notice: Notice, phase: Phase | None) -> None:
        """As :meth:`StatusPage.tell`."""
        del shown
        self._send("updated", notice, phase)

    def has_said(self, shown: Shown, notice: Notice, phase: Phase | None) -> bool:
        """As :meth:`StatusPage.has_said`; the receiver knows by the key of the event."""
        del shown, notice, phase
        return False

    def set_components(self, components: Sequence[str], level: Level) -> list[str]:
        """As :meth:`StatusPage.set_components`."""
        if not self.read_only:
            body = {
                "schema": "runbook-status-page", "schema_version": 1, "event": "components",
                "components": list(components), "level": str(level),
            }  # fmt: skip
            # A level that is set back and forth is an event each time.
            self._webhook.send(f"components-{secrets.token_hex(8)}", body)
        return list(components)

    def _send(self, event: str, notice: Notice, phase: Phase | None) -> Mapping[str, Any]:
        body = {
            "schema": "runbook-status-page", "schema_version": 1, "event": event, "kind": notice.kind,
            "notice": notice.reference, "phase": str(phase or ""), "title": notice.title, "text": notice.text,
            "components": list(notice.components), "level": str(notice.level),
            "starts_at": notice.starts_at.isoformat() if notice.starts_at else None,
            "until": notice.until.isoformat() if notice.until else None, "notify": notice.notify,
        }  # fmt: skip
        # A notice is opened once; what is said of it later is another event wherever anything of it is another.
        said = "" if event == "opened" else f"-{phase or 'update'}-{notice.update_id(phase)}-{notice.item}".rstrip("-")
        return self._webhook.send(f"{notice.reference}-{event}{said}", body)


def from_params(params: Mapping[str, Any], *, read_only: bool) -> StatusPage | None:
    """The status page that a module's options name; None where the inventory decided to have none.

    :param params: checked by ``rules.change.status_page.check``
    :raises RunbookError: a token would travel unencrypted
    """
    common: dict[str, Any] = {
        "ca_cert": params["ca_cert"], "timeout_s": params["timeout_s"], "read_only": read_only
    }  # fmt: skip
    backend = params["backend"]
    if backend == "statuspage":
        return Statuspage(
            page=params["statuspage_page"], token=params["statuspage_token"],
            api_url=params["statuspage_api_url"] or STATUSPAGE_URL, **common,
        )  # fmt: skip
    if backend == "cachet":
        return Cachet(url=params["cachet_url"], token=params["cachet_token"], **common)
    if backend == "upptime":
        issues = GitHubIssues(
            repository=params["upptime_repository"], token=params["upptime_token"], service="upptime",
            api_url=params["upptime_api_url"] or API_URL, **common,
        )  # fmt: skip
        return Upptime(issues)
    if backend == "webhook":
        return WebhookPage(
            Webhook(service="The status page", url=params["webhook_url"], token=params["webhook_token"] or "", **common)
        )
    return None


def announce(
    changes: Changes | None, page: StatusPage, noted: Mapping[str, Any], notice: Notice, *, may_differ: bool = False
) -> Done:  # fmt: skip
    """Put a notice on the page, or find it.

    :param changes: where it is noted; None for what another run carries out and ends
    :param may_differ: one that is there keeps its end, as it was announced
    :param noted: what the change knows of it; at least its ``kind`` and ``reference``
    :raises RunbookError: refused, over already, or nobody knows whether it is there now
    """
    found = _find(page, noted) if noted.get("id") else None
    made = False
    if found is None:
        before = changes.current() if changes is not None else None
        _note(changes, page, noted)
        try:
            found, made = page.open(notice)
        except ApiError as error:
            if changes is not None and not (error.uncertain or page.read_only):
                changes.refused(notice.kind, before)
            raise
    if found is None:
        return Done(f"Would announce on the status page: {notice.title}.", facts={"changed": True})
    _note(changes, page, {**noted, "id": found.id, "url": found.url})
    if found.phase is not None and found.phase.is_over:
        raise RunbookError(f"The {notice.kind} of this change is over on the status page; announce it in a new run.")
    if found.until is not None and notice.until not in (None, found.until) and not may_differ:
        raise RunbookError(
            f"until: the {notice.kind} is announced already, until {found.until.isoformat()}; move its end with state "
            "maintenance_updated."
        )
    msg = f"The {notice.kind} {'was announced' if made else 'is announced already'} on the status page."
    return Done(msg, found.proof, _facts(found, changed=made))


def tell(page: StatusPage, noted: Mapping[str, Any], notice: Notice, phase: Phase | None) -> Done:
    """Say more of a notice, and bring it to a phase.

    :param noted: as in :func:`announce`
    :param phase: None where it stays
    :raises RunbookError: it is not there, or over; refused, or nobody knows whether it was done
    """
    found = _find(page, noted)
    if found is None and page.read_only:
        # In check mode nobody announced it.
        return Done(f"Would say more of the {notice.kind} on the status page.", facts={"changed": True})
    if found is None or (found.phase is not None and found.phase.is_over):
        gone = "is not" if found is None else "is over"
        raise RunbookError(f"The {notice.kind} of this change {gone} on the status page; announce it first.")
    # Pages start maintenance by themselves, and say so.
    reached = found.phase is phase if phase is Phase.IN_PROGRESS else page.has_said(found, notice, phase)
    if reached and notice.until in (None, found.until):
        return Done(f"The status page says so of the {notice.kind} already.", found.proof, _facts(found, changed=False))
    if not page.read_only:
        page.tell(found, notice, phase)
    said = "would be told on" if page.read_only else "was told on"
    return Done(f"The {notice.kind} {said} the status page.", found.proof, _facts(found, changed=True))


def end(page: StatusPage, noted: Mapping[str, Any], text: str, *, notify: bool = True) -> Done:
    """End a notice, with its components back in operation; no error where it is over or gone.

    :param noted: as in :func:`announce`, with its ``components``
    :raises RunbookError: refused, or nobody knows whether it ended
    """
    kind: Kind = "maintenance" if noted["kind"] == "maintenance" else "incident"
    found = _find(page, noted)
    if found is None:
        if page.read_only:
            return Done(f"Would end the {kind} on the status page.", facts={"changed": True})
        return Done(f"There is no {kind} of this change on the status page any more.")
    if found.phase is not None and found.phase.is_over:
        return Done(f"The {kind} is over already on the status page.", found.proof, _facts(found, changed=False))
    notice = Notice(
        kind, str(noted["reference"]), "", text, tuple(map(str, noted.get("components") or ())), Level.OPERATIONAL,
        notify=notify,
    )  # fmt: skip
    if not page.read_only:
        page.tell(found, notice, Phase.COMPLETED if kind == "maintenance" else Phase.RESOLVED)
    how = "would be ended" if page.read_only else "was ended"
    return Done(f"The {kind} {how} on the status page.", found.proof, _facts(found, changed=True))


def set_components(page: StatusPage, components: Sequence[str], level: Level) -> Done:
    """Bring components to a level.

    :raises RunbookError: refused, or no answer
    """
    changed = page.set_components(components, level)
    how = "would be set" if page.read_only else "were set"
    msg = f"{', '.join(changed)} {how} to {level}." if changed else f"All components are {level} already."
    return Done(msg, ", ".join(components), {"changed": bool(changed)})


def _find(page: StatusPage, noted: Mapping[str, Any]) -> Shown | None:
    return page.find(noted["kind"], str(noted["reference"]), str(noted.get("id") or ""))


def _note(changes: Changes | None, page: StatusPage, noted: Mapping[str, Any]) -> None:
    if changes is not None and not page.read_only:
        changes.opened(str(noted["kind"]), noted)


def _facts(shown: Shown, *, changed: bool) -> dict[str, Any]:
    return {"changed": changed, "notice_id": shown.id, "notice_url": shown.url}
