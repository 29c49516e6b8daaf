#!/usr/bin/python
"""Module incident_review: open or close the review of an emergency."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident_review
short_description: Open or close a post-incident review
description:
  - A review is a document of the state store, named after the change of its emergency. It outlives the change, and is
    overdue after its due date until it is closed.
  - With O(state=opened) it is opened within the open change of this run, whose reason, ticket and timeline it takes.
    Called again in the same run, it takes what was done since; so open it at once, and once more at the end.
  - With O(state=closed) a person says what was learned and what is to be done. What was written stays; closing it with
    the same words again changes nothing.
options:
  state:
    description:
      - What becomes of the review.
    type: str
    required: true
    choices: [opened, closed]
  kind:
    description:
      - What the emergency was, a critical vulnerability, corrupted data or an unstable system. For O(state=opened).
    type: str
    choices: [security, corruption, instability]
  owner:
    description:
      - Who holds the review, a role of the emergency contacts or a name. For O(state=opened).
    type: str
  due_days:
    description:
      - Until when, in days after it was opened, 1 to 60.
    type: int
    default: 5
  blocks:
    description:
      - Whether the playbook stops where it cannot be opened. With V(false) it goes on, the item C(review) of the change
        is V(unknown), and the run is not green.
    type: bool
    default: true
  change_id:
    description:
      - The change whose review is closed, as M(incident_review_info) lists it. For O(state=closed).
    type: str
  by:
    description:
      - Who closes it, a name. For O(state=closed).
    type: str
  text:
    description:
      - What was learned. It, O(link), or both.
    type: str
  link:
    description:
      - Where that is written.
    type: str
  actions:
    description:
      - What is to be done so that it does not happen again, at least one. For O(state=closed).
    type: list
    elements: dict
    default: []
    suboptions:
      text: {description: [What.], type: str}
      owner: {description: [Who.], type: str}
      due_date: {description: ["Until when, as V(2026-01-31)."], type: str}
extends_documentation_fragment: runbook_state
attributes:
  check_mode:
    support: full
    description: Says what would be written. The change of a check mode is never open.
  diff_mode:
    support: full
    description: Shows what is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Open the review
  incident_review:
    state: opened
    kind: corruption
    owner: database_admin
    state_bucket: mental-scribe-state

- name: Close it
  incident_review:
    state: closed
    change_id: 20261129T020000Z-emergency-1a2b3c
    by: Ada Byron
    text: A migration ran twice.
    actions:
      - {text: Let migrations take a lock, owner: Bo Katan, due_date: "2026-12-31"}
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether the document was written, or would be.
  type: bool
  returned: always
msg:
  description: What became of the review.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where something is missing, or V(unknown) where the state store gave no answer.
  type: str
  returned: always
review:
  description:
    - The review with C(id), C(kind), C(reason), C(opened_at), C(owner), C(due), C(ticket), C(timeline), C(closed_at)
      and C(closing) (C(by), C(text), C(link), C(actions)).
  type: dict
  returned: success, but in a check mode of O(state=opened)
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import review as rules
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.state_store import Reading
    from ansible.module_utils.runbook.rules.change.review import Review


def opened(context: Context) -> dict[str, Any]:
    """Open the review of this run's change, or take over what was done since."""
    params = context.params
    for option in ("kind", "owner"):
        if not params[option]:
            raise RunbookError(f"{option}: it is not set, and a review is not opened without it.")
    rules.check_name_filled("owner", params["owner"])
    changes = Changes.from_params(params, context.run)
    documents = Documents.from_params(params, context.run)
    change = changes.require_current()
    if change is None:
        msg = f"A review ({params['kind']}) would be opened, due in {params['due_days']} days."
        planned = changes.conduct(rules.ITEM, lambda: Done(msg, facts={"changed": True}), blocks=params["blocks"])
        return context.conclude(Status.OK, msg=msg, **planned.facts)
    wanted: list[Review] = []

    def write(found: Reading) -> dict[str, Any]:
        known = rules.Review.of(found.document) if found.document else None
        made = rules.Review.of_change(
            change, kind=params["kind"], owner=params["owner"], due_days=params["due_days"], opened_at=found.now
        )
        wanted[:] = [made if known is None else known.with_what_was_done(made)]
        return wanted[0].body()

    def act() -> Done:
        changed = documents.update(rules.Review.document_name(change.id), write)
        review = wanted[0]
        facts = {"changed": changed, "review": review.result(), **_diff(context, review, changed=changed)}
        return Done(f"{review.describe()}: open, due on {review.due}.", proof=f"due {review.due}", facts=facts)

    done = changes.conduct(rules.ITEM, act, blocks=params["blocks"])
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **done.facts)


def closed(context: Context) -> dict[str, Any]:
    """Close the review of a change."""
    params = context.params
    if not params["change_id"]:
        raise RunbookError("change_id: it is not set; name the change as playbooks/reviews.yml lists it.")
    closing = rules.closing(params["by"], params["text"], params["link"], params["actions"])
    documents = Documents.from_params(params, context.run)
    wanted: list[Review] = []

    def write(found: Reading) -> dict[str, Any]:
        if found.document is None:
            raise RunbookError(
                f"change_id: there is no review of {params['change_id']}; take an id that playbooks/reviews.yml lists."
            )
        wanted[:] = [rules.Review.of(found.document).closed(closing, found.now)]
        return wanted[0].body()

    changed = documents.update(rules.Review.document_name(params["change_id"]), write)
    review = wanted[0]
    verb = "would be" if changed and context.check_mode else "is" if changed else "was already"
    msg = f"{review.describe()} {verb} closed by {closing.by}."
    more = _diff(context, review, changed=changed)
    return context.conclude(Status.OK, msg=msg, changed=changed, review=review.result(), **more)


def _diff(context: Context, review: Review, *, changed: bool) -> dict[str, Any]:
    if not (context.diff and changed):
        return {}
    return {"diff": {"prepared": as_lines(f"+ {line}" for line in review.lines())}}


def core(context: Context) -> dict[str, Any]:
    """Open or close."""
    context.require_bounds({"due_days": (1, 60)})
    return opened(context) if context.params["state"] == "opened" else closed(context)


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str"}
    spec = {
        "state": {"type": "str", "required": True, "choices": ["opened", "closed"]},
        "kind": {"type": "str", "choices": list(rules.KINDS)},
        "owner": text,
        "due_days": {"type": "int", "default": 5},
        "blocks": {"type": "bool", "default": True},
        "change_id": text,
        "by": text,
        "text": text,
        "link": text,
        "actions": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"text": text, "owner": text, "due_date": text},
        },
    }
    run_module(core, name="incident_review", argument_spec=state_store.argument_spec() | spec)


if __name__ == "__main__":
    main()
