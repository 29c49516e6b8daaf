"""What an inventory says in a dictionary: its keys, words, days and times. A mistake is one sentence with its fix."""

from __future__ import annotations

import re
from datetime import date, time, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def refuse_unknown(where: str, entry: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse a key that is none of those known."""
    for key in entry:
        if key not in known:
            raise RunbookError(f"{where}: {key!r} is unknown here; {choose(key, sorted(known))}")


def choose(value: object, known: Sequence[str]) -> str:
    """The fix for a word that is none of those known, with the end of its sentence."""
    close = get_close_matches(str(value).lower(), known, 1)
    return f"did you mean {close[0]}?" if close else f"take one of {', '.join(known)}."


def require(where: str, entry: Mapping[str, Any], keys: Iterable[str], why: str = "") -> None:
    """Refuse an entry that lacks one of these keys.

    :param why: behind the name of the key, with a comma before it
    """
    for key in sorted(keys):
        if key not in entry or entry[key] is None:
            raise RunbookError(f"{where}: {key} is missing{why}; add it.")


def weekday(where: str, value: object) -> int:
    """A day of the week; 0 is Monday."""
    if not isinstance(value, str) or value.lower() not in WEEKDAYS:
        raise RunbookError(f"{where}: weekday: {value!r} is no day of the week; {choose(value, WEEKDAYS)}")
    return WEEKDAYS.index(value.lower())


def week(where: str, value: object) -> int:
    """Which such day of the month, 1 to 4, or -1 for the last."""
    if value == "last":
        return -1
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4:
        raise RunbookError(f"{where}: week: {value!r} is not 1 to 4 or last; 1 is the first such day of the month.")
    return value


def time_of_day(where: str, key: str, value: object) -> time:
    """A time of day, in the quotes that YAML needs."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        # YAML 1.1 takes 22:00 for a number of base 60.
        raise RunbookError(
            f"{where}: {key}: YAML read {value}, a number; put the time in quotes: "
            f'{key}: "{value // 60:02}:{value % 60:02}".'
        )
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise RunbookError(f'{where}: {key}: {value!r} is no time of day; write it as "02:00", from 00:00 to 23:59.')
    return time(int(found[1]), int(found[2]))


def is_week(day: date, week: int) -> bool:
    """Whether a day is the first, second … or last of its weekday in the month."""
    if week == -1:
        return (day + timedelta(days=7)).month != day.month
    return (day.day - 1) // 7 + 1 == week
