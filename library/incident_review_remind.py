#!/usr/bin/python
"""Module incident_review_remind: remind the team of reviews that are due."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident_review_remind
short_description: Remind the team of post-incident reviews that are due soon or overdue
description:
  - One message for each open review that is due within two days or overdue, once a day, to the channel of the team. A
    message of which nobody knows whether it arrived is not sent again on the same day. One that was certainly not sent
    is sent when this runs again.
  - One review hides no other, and nothing stops where a message could not be sent; the run is not green then.
options:
  backend:
    description:
      - As for M(change_notice). V(none) where the inventory decided to tell nobody.
    type: str
    required: true
    choices: [slack, teams, email, webhook, none]
  ca_cert:
    description:
      - File with the certificate authorities that are trusted instead of the system's.
    type: path
  timeout_s:
    description:
      - Longest wait for one answer of the service, in seconds, 1 to 600.
    type: int
    default: 30
extends_documentation_fragment:
  - runbook_channel
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Says what would be sent. No service is asked anything.
  diff_mode:
    support: none
    description: The record names the reviews.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Remind of what is due
  incident_review_remind:
    backend: slack
    slack_url: "{{ vault_change_notice_slack_url }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether a message was sent, or would be.
  type: bool
  returned: always
msg:
  description: What the team was reminded of.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where a message was not sent, or V(unknown) where it may have been.
  type: str
  returned: always
checks:
  description: What became of each reminder, with C(status), C(msg) and C(subject), the id of the change.
  type: list
  elements: dict
  returned: always
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change import notices
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import review as rules
from ansible.module_utils.runbook.rules.change.backend import NONE, check_options
from ansible.module_utils.runbook.rules.change.change import key
from ansible.module_utils.runbook.rules.change.note import note_key
from ansible.module_utils.runbook.rules.change.notice import BACKENDS, Notice, check_mailboxes
from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.drivers.state_store import Reading
    from ansible.module_utils.runbook.rules.change.review import Review


class Reminders:
    """The reminders of one day."""

    def __init__(self, context: Context) -> None:
        self.context, self.params = context, context.params
        self.documents = Documents.from_params(context.params, context.run)
        self.changed = False

    def remind(self, name: str) -> Check | None:
        """Note a reminder, and send it; None where there is nothing to remind of."""
        seen: list[tuple[Review | None, Reading]] = []

        def note(found: Reading) -> Mapping[str, Any] | None:
            review = rules.Review.of(found.document) if found.document else None
            seen[:] = [(review, found)]
            if review is None or not review.is_near(found.now) or not review.may_be_reminded(found.now):
                return None
            return review.with_reminder(found.now, Status.UNKNOWN).body()

        written = self.documents.update(name, note)
        review, found = seen[0]
        if review is None or not review.is_near(found.now):
            return None
        if not written:
            return self._known(review)
        self.changed = True
        title, text = rules.reminder(review, self.documents.environment, found.now)
        if self.context.check_mode:
            return Check.ok("reminder", f"{review.describe()}: the team would be reminded.", review.id)
        day = f"{found.now:%Y-%m-%d}"
        try:
            channel = notices.from_params(self.params, read_only=False)
            channel.send(Notice.of(note_key(key(review.id), f"review.{day}"), title, text))
        except RunbookError as error:
            if error.status is Status.BREACH:
                self._note(name, review.with_reminder(found.now, None))
            raise
        self._note(name, review.with_reminder(found.now, Status.OK))
        return Check.ok("reminder", f"{review.describe()}: the team was reminded.", review.id)

    def _known(self, review: Review) -> Check:
        """What became of a reminder that was noted today."""
        if review.reminded.get("status") == Status.OK:
            return Check.ok("reminder", f"{review.describe()}: the team was reminded today already.", review.id)
        said = f"{review.describe()}: today's reminder may have been sent, and is not sent again; look there."
        return Check.unknown("reminder", said, review.id)

    def _note(self, name: str, noted: Review) -> None:
        def write(found: Reading) -> Mapping[str, Any] | None:
            return {**found.document.body, "reminded": dict(noted.reminded)} if found.document else None

        self.documents.update(name, write)


def core(context: Context) -> dict[str, Any]:
    """Remind of each."""
    params = context.params
    context.require_bounds({"timeout_s": (1, 600), "email_port": (1, 65_535)})
    check_options(params, BACKENDS)
    check_mailboxes("email_from", [params["email_from"]] if params["email_from"] else [])
    check_mailboxes("email_to", params["email_to"] or [])
    reminders = Reminders(context)
    if params["backend"] == NONE:
        return context.conclude(
            Status.OK, msg="Skipped: the inventory decided to tell nobody (backend none).", checks=[]
        )
    checks = []
    for name in reminders.documents.names("reviews/"):
        try:
            check = reminders.remind(name)
        except RunbookError as error:
            check = Check("reminder", error.status, error.message, name.partition("/")[2])
        checks += [check] if check else []
    msg = " ".join(each.msg for each in checks) or "No review is due."
    return context.conclude(
        checks or Status.OK, msg=msg, fail_on_breach=False, fail_on_unknown=False, changed=reminders.changed
    )


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "backend": {"type": "str", "required": True, "choices": [*BACKENDS, NONE]},
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
    }
    run_module(
        core,
        name="incident_review_remind",
        argument_spec=state_store.argument_spec() | notices.argument_spec() | spec,
    )


if __name__ == "__main__":
    main()
