"""Moments that people type: always with their time zone.

A bastion, a server and a person may each be in another zone, and an hour's difference restores another day's mistake.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from ansible.module_utils.runbook.errors import RunbookError


def read(option: str, text: str) -> datetime:
    """A moment as ISO 8601 with its time zone, in UTC.

    >>> read("before", "2026-11-23T04:00:00+01:00").isoformat()
    '2026-11-23T03:00:00+00:00'

    :raises RunbookError: it cannot be read, or does not say in which time zone; the sentence has it with a zone
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise RunbookError(f"{option}: {text!r} is no time; write it as 2026-11-23T14:29:00Z.") from None
    if moment.tzinfo is None:
        raise RunbookError(
            f"{option}: {text!r} does not say in which time zone; write {moment.isoformat()}Z if it is UTC, else with "
            f"its offset, as {moment.isoformat()}+01:00."
        )
    return moment.astimezone(UTC)


def zone(option: str, name: object) -> tzinfo:
    """A time zone by its name.

    :raises RunbookError: there is none of that name, or it is each machine's own
    """
    if name == "UTC":
        return UTC
    try:
        if not isinstance(name, str) or name == "localtime":
            raise TypeError
        return ZoneInfo(name)
    except (KeyError, OSError, TypeError, ValueError):
        raise RunbookError(
            f"{option}: {name!r} is no time zone of this machine; give a name such as Europe/Berlin, or UTC."
        ) from None
