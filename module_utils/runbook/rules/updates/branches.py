"""The branches on which updates are tried, and how their commits are called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy.git import OURS, check_branch
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.rules.updates.outdated import Change

#: Lines of a commit's message.
_MOST = 50


def of_major(package: str) -> str:
    """The branch of a major version: each has its own, so that tests and a review are about one.

    >>> of_major("next"), of_major("@supabase/ssr")
    ('runbook/major-next', 'runbook/major-supabase-ssr')
    """
    return f"{OURS}major-{re.sub(r'[^a-z0-9._]+', '-', package.lower()).strip('-.')}"


def check(option: str, branch: str) -> str:
    """A branch of updates.

    :raises RunbookError: it is none of ours
    """
    check_branch(option, branch)
    if not branch.startswith(OURS):
        raise RunbookError(f"{option}: {branch!r} is no branch of updates; they begin with {OURS}.")
    return branch


def message(changes: Sequence[Change], scripts: Sequence[str]) -> str:
    """What the commit of an update says.

    :param changes: what it changes, the project's own packages first
    :param scripts: of the application, with which it was tested
    """
    own = [each for each in changes if each.is_direct and each.to_version]
    first = (
        f"Update {own[0].package} from {own[0].from_version} to {own[0].to_version}"
        if len(own) == 1
        else f"Update {count(len(own) or len(changes), 'package')}"
    )
    lines = [f"- {each}" for each in changes[:_MOST]]
    if len(changes) > _MOST:
        lines.append(f"- and {len(changes) - _MOST} more")
    return "\n".join([first, "", *lines, "", f"Tested with: {', '.join(scripts)}", ""])
