"""The heartbeat: a small row now and then, by which a restored copy tells up to when it goes.

A drill compares the last row of the copy with the last one of the live database; what lies between is lost.
"""

from __future__ import annotations

from ansible.module_utils.runbook.errors import RunbookError


def beats(*, interval_s: int, duration_s: int) -> int:
    """How many rows one call writes, the first at once.

    :raises RunbookError: the interval is longer than the whole

    >>> beats(interval_s=10, duration_s=0), beats(interval_s=10, duration_s=30)
    (1, 4)
    """
    if duration_s and interval_s > duration_s:
        raise RunbookError(
            f"interval_s: {interval_s} is longer than duration_s, {duration_s}; give at most that, or no duration_s"
            " for one row."
        )
    return duration_s // interval_s + 1


def refused(user: str, *, is_missing: bool) -> str:
    """The sentence for a user who may not write it."""
    grant = f'GRANT USAGE ON SCHEMA runbook TO "{user}"; GRANT SELECT, INSERT, DELETE ON runbook.heartbeat TO "{user}"'
    if is_missing:
        return (
            f"There is no runbook.heartbeat, and user {user!r} may not make it; run once, as the owner: "
            f"CREATE TABLE runbook.heartbeat (id bigint PRIMARY KEY, beat_at timestamptz NOT NULL); {grant}."
        )
    return f"User {user!r} may not write to runbook.heartbeat; run once, as its owner: {grant}."
