#!/usr/bin/python
"""Ansible module alert_delivery_test: whether alerts arrive where they should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_delivery_test
short_description: Send a test alert to each receiver, and await its arrival there
description:
  - Hands a test alert with a code of its own to Alertmanager for each of O(receivers), with the labels that lead there,
    and waits until the code is seen at the receiver. That Alertmanager accepted it proves nothing.
  - Alertmanager says where the alert goes, and whether a silence or another alert keeps it back; each of these is red.
  - A receiver whose arrivals no machine can see is V(unknown), and so is one that is configured and not among
    O(receivers).
  - It is sent only within O(hours). The result, and check mode, say who is on call for it.
  - At its end the alert is resolved, and so is its incident at PagerDuty, also when the module is stopped. An alert
    whose module was killed ends by itself after O(wait_s). So does one without a proof, since of an alert that ends
    before its C(group_wait) Alertmanager tells nobody.
options:
  receivers:
    description: Where alerts should arrive. Of none nobody knows whether they do.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: As Alertmanager's configuration names it.
        type: str
        required: true
      labels:
        description: Labels by which the route leads to it.
        type: dict
        default: {}
      proof:
        description:
          - How its arrival is seen. V(page) looks for the code on a page, V(pagerduty) among the incidents of
            O(receivers[].services). With V(none) a person has to say it.
        type: str
        choices: [page, pagerduty, none]
        default: none
      url:
        description: The page. What stands before its query is printed, so it holds no user.
        type: str
      ca_cert:
        description: File with the certificate authorities that are trusted for it instead of the system's.
        type: path
      services:
        description: Ids of services at PagerDuty.
        type: list
        elements: str
  hours:
    description: When tests may reach people.
    type: dict
    default: {}
    suboptions:
      weekdays:
        description: On which days.
        type: list
        elements: str
        choices: [monday, tuesday, wednesday, thursday, friday, saturday, sunday]
        default: [monday, tuesday, wednesday, thursday, friday]
      begin:
        description: From when on.
        type: str
        default: "09:00"
      end:
        description: Until when.
        type: str
        default: "17:00"
      timezone:
        description: Of these times.
        type: str
        default: UTC
  pagerduty_from:
    description: E-mail address of the user of PagerDuty in whose name an incident is resolved. Needed for V(pagerduty).
    type: str
  wait_s:
    description:
      - Longest wait for the arrivals, in seconds, 5 to 3600. It has to be longer than C(group_wait) and
        C(group_interval) of the routes.
    type: int
    default: 600
  timeout_s:
    description: Longest wait for one answer of a service, in seconds, 1 to 600.
    type: int
    default: 30
extends_documentation_fragment:
  - runbook_alertmanager
  - runbook_pagerduty
attributes:
  check_mode:
    description: Says what would be sent and who is on call for it, and sends nothing.
    support: full
  diff_mode:
    description: Shows which alerts are sent.
    support: full
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Try whether alerts arrive
  alert_delivery_test:
    alertmanager_urls: [http://alertmanager.example.com:9093]
    receivers:
      - {name: pager, labels: {severity: page}, proof: pagerduty, services: [PSCRIBE]}
      - {name: team-mail, labels: {severity: info}}
    hours: {begin: "10:00", end: "16:00", timezone: Europe/Berlin}
    pagerduty_api_token: "{{ pagerduty_api_token }}"
    pagerduty_from: runbook@example.com
"""

RETURN = r"""
changed:
  description: Whether something was sent, or would be.
  type: bool
  returned: always
msg:
  description: One sentence for each receiver.
  type: str
  returned: always
status:
  description: V(ok) where all arrived, V(breach) where one did not, V(unknown) where one cannot be known.
  type: str
  returned: always
checks:
  description: One for each receiver, with its C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: always
on_call:
  description: Who is told first of incidents of the services at PagerDuty that are tested.
  type: list
  elements: str
  returned: always
sent:
  description: The tests, with C(receiver), C(code), C(arrived_s) and C(proof).
  type: list
  elements: dict
  returned: always
"""

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, stopping
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.drivers.observe import alertmanager, pagerduty
from ansible.module_utils.runbook.drivers.observe.alertmanager import Alertmanager
from ansible.module_utils.runbook.drivers.observe.pagerduty import PagerDuty
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import STOPPED, Context, run_module
from ansible.module_utils.runbook.rules.observe import delivery
from ansible.module_utils.runbook.rules.observe.delivery import LABEL, Hours, Receiver, Sent
from ansible.module_utils.runbook.rules.status import Check
from ansible.module_utils.runbook.rules.text import as_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS = {"wait_s": (5, 3600), "timeout_s": (1, 600)}
#: Between two looks.
_PAUSE_S = 1.0
#: So much longer than the wait an alert fires whose module was killed.
_SPARE_S = 60


class Test:
    """One test of all receivers."""

    def __init__(self, context: Context, environment: str) -> None:
        params = context.params
        self.context, self.wait_s = context, params["wait_s"]
        self.environment = environment
        read_only = context.check_mode
        self.managers = Alertmanager.from_params(params, timeout_s=params["timeout_s"], read_only=read_only)
        if not self.managers:
            raise RunbookError("alertmanager_urls: it is empty; give the address of Alertmanager.")
        self.account = PagerDuty.from_params(params, timeout_s=params["timeout_s"], read_only=read_only)
        self.sent: list[Sent] = []
        self.checks: list[Check] = []
        self.begun = datetime.now(UTC)

    def configured(self) -> dict[str, list[str]]:
        """Receivers, as the first Alertmanager that answers has them."""
        failed: list[RunbookError] = []
        for each in self.managers:
            try:
                return each.receivers()
            except RunbookError as error:
                failed.append(error)
        raise failed[-1]

    def send(self, receiver: Receiver) -> None:
        """Hand a test to each Alertmanager, as Prometheus does; one that does not take it is a check of its own."""
        self._go_on()
        test = Sent(receiver, f"RT{secrets.token_hex(5).upper()}")
        # Before it is sent, so that it is ended whatever happens.
        self.sent.append(test)
        self._hand_over(test, self.begun + timedelta(seconds=self.wait_s + _SPARE_S), is_end=False)

    def _go_on(self) -> None:
        """End here once this process was told to stop: who looks takes the signal for an answer that failed."""
        if stopping.told.is_set():
            raise RunbookError("Stopped; run the same command again.", code=STOPPED)

    def _hand_over(self, test: Sent, end: datetime, *, is_end: bool) -> None:
        labels, annotations = test.receiver.alert(test.nonce, self.environment)
        for each in self.managers:
            try:
                each.send(labels, annotations, begin=self.begun, end=end)
                test.taken = True
            except RunbookError as error:
                what = "end" if is_end else "take"
                said = f"{each.url} did not {what} test {test.nonce}: {error.message}"
                self.checks.append(Check("alertmanager", error.status, said, each.url))

    def look(self, test: Sent) -> None:
        """Look where a test is."""
        if not test.is_over:
            self._look_at_route(test)
            try:
                arrived = self._has_arrived(test)
                test.blind = ""
            except RunbookError as error:
                test.blind = error.message
            else:
                if arrived:
                    test.arrived_s = (datetime.now(UTC) - self.begun).total_seconds()

    def _look_at_route(self, test: Sent) -> None:
        if test.route is None:
            for each in self.managers:
                try:
                    test.route = test.route or each.find(LABEL, test.nonce)
                except RunbookError:
                    # Another one of the cluster may say it, or it may a moment later.
                    continue

    def _has_arrived(self, test: Sent) -> bool:
        if test.receiver.proof == "page":
            return test.nonce in _text(test.receiver, self.context.params["timeout_s"])
        if test.receiver.proof == "pagerduty":
            assert self.account is not None  # noqa: S101 - core() requires its key
            # Their clock may be behind ours.
            since = self.begun - timedelta(minutes=5)
            found = self.account.with_title(test.nonce, test.receiver.services, begin=since)
            test.incident = str(found["id"]) if found else test.incident
            return found is not None
        return False

    def wait(self) -> None:
        """Look until all are over, or the time is."""
        begun = time.monotonic()
        while True:
            for each in self.sent:
                self.look(each)
            self._go_on()
            passed_s = time.monotonic() - begun
            over = sum(each.is_over for each in self.sent)
            self.context.progress.update(f"arrivals, {passed_s:.0f} s", over, len(self.sent), "receivers")
            if over == len(self.sent) or passed_s >= self.wait_s:
                return
            time.sleep(_PAUSE_S)

    def end(self) -> None:
        """Resolve what was sent, and the incidents that it became."""
        for each in self.sent:
            if not each.taken or (each.ends_by_itself and not stopping.told.is_set()):
                continue
            self._look_beside(each)
            # One that ends now may be read before it has ended, and by a clock that is behind ours it always is:
            # Alertmanager keeps the later end then. It takes none that ends when it begins.
            self._hand_over(each, self.begun + timedelta(milliseconds=1), is_end=True)
            if each.incident and self.account is not None:
                self._resolve(self.account, each)

    def _look_beside(self, test: Sent) -> None:
        for each in self.managers:
            try:
                test.beside = each.beside(LABEL, test.nonce, test.receiver.name)
                return
            except RunbookError:
                # Another one of the cluster may say it.
                continue

    def _resolve(self, account: PagerDuty, test: Sent) -> None:
        if test.beside != 0:
            said = (
                f"Incident {test.incident} of test {test.nonce} was left to Alertmanager, as it may be of other alerts "
                "too; let its route group by alertname (group_by), and see that it is resolved."
            )
            self.checks.append(Check.unknown("incident", said, test.receiver.name))
            return
        try:
            account.resolve(test.incident)
        except RunbookError as error:
            said = f"Incident {test.incident} of test {test.nonce} was not resolved: {error.message}"
            self.checks.append(Check.breach("incident", said, test.receiver.name))


def core(context: Context) -> dict[str, Any]:
    """Send, wait, end."""
    params = context.params
    context.require_bounds(BOUNDS)
    approval = permits.require_approval(context.run)
    permits.require_environment(context.run, approval.environment)
    receivers = [Receiver.of(each) for each in params["receivers"]]
    if not receivers:
        said = "receivers: none is named, so nobody knows whether alerts arrive; name each with labels that lead to it."
        return context.conclude(
            [Check.unknown("delivery", said, "receivers")], msg=said, on_call=[], sent=[], fail_on_breach=False,
            fail_on_unknown=False,
        )  # fmt: skip
    if any(each.proof == "pagerduty" for each in receivers):
        # Before somebody is paged by what nobody could see, nor end.
        if not params["pagerduty_api_token"]:
            raise RunbookError("pagerduty_api_token: it is empty; give a key of the REST API that may end incidents.")
        if not params["pagerduty_from"]:
            raise RunbookError("pagerduty_from: it is empty; give the address in whose name incidents are resolved.")
    for each in receivers:
        # Before anybody is told.
        _page(each, params["timeout_s"])
    hours = Hours.of(params["hours"])
    test = Test(context, approval.environment)
    configured = test.configured()
    checks = list(delivery.beside(configured, receivers))
    ready = [each for each in receivers if configured.get(each.name)]
    on_call, told = _on_call(test, ready)
    refusal = hours.refusal(datetime.now(UTC))
    if refusal:
        checks += [Check.unknown("delivery", refusal, each.name) for each in ready]
        return _ended(context, test, checks, on_call, refusal)
    if context.check_mode:
        names = ", ".join(each.name for each in ready)
        said = f"Would send a test alert to {names or 'nobody'}{told}."
        return context.conclude(
            checks, msg=said, changed=bool(ready), on_call=on_call, sent=[], fail_on_breach=False,
            fail_on_unknown=False, **_diff(ready),
        )  # fmt: skip
    try:
        for each in ready:
            test.send(each)
        test.wait()
    finally:
        test.end()
    checks += [each.check(wait_s=test.wait_s) for each in test.sent]
    return _ended(context, test, checks, on_call, f"On call{told}." if told else "")


def _on_call(test: Test, ready: Sequence[Receiver]) -> tuple[list[str], str]:
    """Who is told first at PagerDuty, and how a sentence ends with that."""
    services = [service for each in ready for service in each.services]
    if not services or test.account is None:
        return [], ""
    try:
        names = test.account.on_call_now(services, datetime.now(UTC))
    except RunbookError as error:
        return [], f"; who is on call is not known: {error.message.rstrip('.')}"
    return names, f"; PagerDuty tells {', '.join(names) or 'nobody'}"


def _ended(context: Context, test: Test, checks: list[Check], on_call: list[str], said: str) -> dict[str, Any]:
    checks = [*checks, *test.checks]
    sent = [
        {
            "receiver": each.receiver.name, "code": each.nonce, "proof": each.receiver.proof,
            "arrived_s": None if each.arrived_s is None else round(each.arrived_s, 1),
        }
        for each in test.sent
    ]  # fmt: skip
    msg = " ".join(filter(None, [said, *dict.fromkeys(each.msg for each in checks if each.msg != said)]))
    return context.conclude(
        checks, msg=msg or "There is no receiver to test.", changed=bool(test.sent), on_call=on_call, sent=sent,
        fail_on_breach=False, fail_on_unknown=False, **_diff([each.receiver for each in test.sent]),
    )  # fmt: skip


def _diff(receivers: Sequence[Receiver]) -> dict[str, Any]:
    return {"diff": {"prepared": as_lines([f"test alert to {each.name}" for each in receivers])}} if receivers else {}


def _page(receiver: Receiver, timeout_s: float) -> ApiClient:
    """What looks at its page.

    :raises RunbookError: its file of certificates cannot be read
    """
    return ApiClient(
        service=f"The page {receiver.shown}", base_url=receiver.url, headers={}, secrets={}, read_only=True,
        timeout_s=timeout_s, ca_cert=receiver.ca_cert, options=("url", "ca_cert"),
    )  # fmt: skip


def _text(receiver: Receiver, timeout_s: float) -> str:
    """What its page shows."""
    answer = _page(receiver, timeout_s).look()
    if answer.status != 200:
        raise RunbookError(f"{receiver.shown} answered with {answer.status}.")
    return answer.body.decode(errors="replace")


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="alert_delivery_test", argument_spec=argument_spec())


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    receiver = {
        "name": {"type": "str", "required": True},
        "labels": {"type": "dict", "default": {}},
        "proof": {"type": "str", "choices": ["page", "pagerduty", "none"], "default": "none"},
        "url": {"type": "str"},
        "ca_cert": {"type": "path"},
        "services": {"type": "list", "elements": "str"},
    }
    weekdays = list(delivery.WEEKDAYS)
    hours = {
        "weekdays": {"type": "list", "elements": "str", "choices": weekdays, "default": weekdays[:5]},
        "begin": {"type": "str", "default": "09:00"},
        "end": {"type": "str", "default": "17:00"},
        "timezone": {"type": "str", "default": "UTC"},
    }
    return (
        alertmanager.argument_spec()
        | pagerduty.argument_spec()
        | {
            "receivers": {"type": "list", "elements": "dict", "required": True, "options": receiver},
            "hours": {"type": "dict", "default": {}, "options": hours, "apply_defaults": True},
            "pagerduty_from": {"type": "str"},
            "wait_s": {"type": "int", "default": 600},
            "timeout_s": {"type": "int", "default": 30},
        }
    )


if __name__ == "__main__":
    main()
