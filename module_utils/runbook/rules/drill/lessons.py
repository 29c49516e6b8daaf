"""The file of lessons that people complete after a drill."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Lesson:
    """What a person wrote down after a drill; a field that is empty is still missing."""

    text: str
    owner: str
    due_date: date | None
    done_date: date | None


_LESSON_KEYS = ("text", "owner", "due_date", "done_date")


def template(document: Mapping[str, Any]) -> str:
    """The file (TOML) that people fill in after a drill: one lesson for each advice, or an empty one."""
    head = (
        f"# Lessons of the drill {document['drill_id']} ({document['scenario']}, {document['status']}).\n"
        "# Each lesson needs text, owner and due_date; the next drill asks for what is empty. Write dates as\n"
        "# 2026-01-31. Set done_date when it is done. A drill that taught nothing says so in a text of its own.\n"
    )
    blocks = [
        f'\n[[lessons]]\ntext = {_quoted(text)}\nowner = ""\ndue_date = ""\ndone_date = ""\n'
        for text in list(document["advice"]) or [""]
    ]
    return head + "".join(blocks)


def _quoted(text: str) -> str:
    """A basic string of TOML (v1.0.0, "String"): backslash, quotation mark and control characters escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char >= " " and char != "\x7f" else f"\\u{ord(char):04X}" for char in escaped) + '"'


def parse(text: str, *, source: str) -> list[Lesson]:
    """Read a file of lessons.

    :param source: what an error calls the file
    :raises RunbookError: it is no TOML, or holds something else than lessons
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RunbookError(f"{source}: not readable as TOML: {error}. Mend that line.") from None
    entries = found.pop("lessons", [])
    if found or not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise RunbookError(f"{source}: only blocks [[lessons]] belong into it; take out the rest.")
    return [_lesson(entry, number, source) for number, entry in enumerate(entries, 1)]


def _lesson(entry: Mapping[str, Any], number: int, source: str) -> Lesson:
    strange = sorted(set(entry) - set(_LESSON_KEYS))
    if strange:
        raise RunbookError(f"{source}: lesson {number} has {strange[0]!r}; it may have {', '.join(_LESSON_KEYS)}.")
    dates: dict[str, date | None] = {}
    for key in ("due_date", "done_date"):
        value = entry.get(key, "")
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value.strip()) if value.strip() else None
            except ValueError:
                value = False
        elif isinstance(value, datetime):
            value = value.date()
        if value is not None and not isinstance(value, date):
            raise RunbookError(f"{source}: {key} of lesson {number} is no date; write it as 2026-01-31.")
        dates[key] = value
    texts = {}
    for key in ("text", "owner"):
        if not isinstance(entry.get(key, ""), str):
            raise RunbookError(f"{source}: {key} of lesson {number} is no text; put it in quotation marks.")
        texts[key] = entry.get(key, "").strip()
    return Lesson(texts["text"], texts["owner"], dates["due_date"], dates["done_date"])


def missing(lessons: Sequence[Lesson], *, today: date) -> list[str]:
    """What people still owe, by lesson; empty when all is filled in, and nothing is overdue.

    >>> missing([Lesson("Test the alert.", "", None, None)], today=date(2026, 3, 1))
    ['lesson 1: owner, due_date']
    """
    said = []
    for number, lesson in enumerate(lessons or [Lesson("", "", None, None)], 1):
        empty = [key for key in _LESSON_KEYS[:3] if not getattr(lesson, key)]
        if empty:
            said.append(f"lesson {number}: {', '.join(empty)}")
        if lesson.due_date is not None and lesson.done_date is None and lesson.due_date < today:
            said.append(
                f"lesson {number}: done_date (was due {lesson.due_date.isoformat()}, {lesson.owner or 'nobody'})"
            )
    return said


def owed(text: str | None, *, source: str, today: date) -> list[str]:
    """:func:`missing` for a file's contents in one sentence, or nothing; a file that cannot be read is owed as a whole.

    :param text: None: there is no file
    """
    if text is None:
        return [f"{source}: the file is gone"]
    try:
        found = missing(parse(text, source=source), today=today)
    except RunbookError as error:
        return [error.message]
    return [f"{source}: {'; '.join(found)}"] if found else []
