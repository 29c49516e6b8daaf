#!/usr/bin/python
"""Module incident_review_info: reviews of emergencies, and which of them are overdue."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident_review_info
short_description: Check that no post-incident review is overdue
description:
  - Reads every review of the environment, open or closed. One that is open after its due date is a V(breach). One that
    is due within two days is named. One that cannot be read is V(unknown), and hides no other.
extends_documentation_fragment: runbook_state
attributes:
  check_mode:
    support: full
    description: Nothing is written anyway.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Is a review overdue
  incident_review_info:
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg:
  description: What is overdue or due soon, or that nothing is.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where a review is overdue, or V(unknown) where one could not be read.
  type: str
  returned: always
checks:
  description: Of each review C(status), C(msg) and C(subject), the id of its change.
  type: list
  elements: dict
  returned: always
reviews:
  description: The reviews as M(incident_review) returns them, the oldest first.
  type: list
  elements: dict
  returned: always
"""

from typing import Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import review as rules
from ansible.module_utils.runbook.rules.status import Check, Status


def core(context: Context) -> dict[str, Any]:
    """Read and judge them."""
    documents = Documents.from_params(context.params, context.run)
    checks, reviews, near = [], [], []
    for name in documents.names("reviews/"):
        try:
            found = documents.read(name)
            if found.document is None:
                continue  # removed meanwhile
            review = rules.Review.of(found.document)
        except RunbookError as error:
            checks.append(Check("review", error.status, error.message, name.partition("/")[2]))
            continue
        checks.append(review.judge(found.now))
        reviews.append(review)
        near += [review] if review.is_near(found.now) else []
    return context.conclude(
        checks or Status.OK,
        msg=rules.summary(checks, near),
        reviews=[review.result() for review in sorted(reviews, key=lambda each: each.opened_at)],
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="incident_review_info", argument_spec=state_store.argument_spec())


if __name__ == "__main__":
    main()
