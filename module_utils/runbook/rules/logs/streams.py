"""What is archived and for how long, as the inventory says it: streams, classes of retention, legal holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ansible.module_utils.runbook.rules.logs.chain import Link

#: Documentation that HIPAA asks for is kept for six years: 45 CFR 164.316(b)(2)(i). With two leap days.
HIPAA_DAYS = 6 * 365 + 2
#: No zone is further from UTC; bounds of an archive may be those of lines that say no zone, or of another one.
ZONES = timedelta(hours=14)
#: Classes that are commonly counted as such documentation; an inventory gives them less only with a reason.
PROTECTED = frozenset({"audit", "access", "evidence"})
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class RetentionClass:
    """How long lines of one class stay where they are, and in the archive; None: for ever."""

    name: str
    hot_days: int
    archive_days: int | None


@dataclass(frozen=True)
class Hold:
    """A legal hold: what it covers is not deleted, whatever its class says."""

    name: str
    reason: str
    #: Empty: every stream.
    streams: tuple[str, ...]
    #: Lines of this span; None where it is open.
    since: datetime | None
    until: datetime | None

    def covers(self, link: Link) -> bool:
        """Whether an archive may hold a line of it; one that does not say its times may."""
        if self.streams and link.stream not in self.streams:
            return False
        content = link.content
        if content is None or content.first_at is None or content.last_at is None:
            return True
        return not (
            (self.since is not None and content.last_at + ZONES < self.since)
            or (self.until is not None and content.first_at - ZONES > self.until)
        )


def check_name(option: str, name: object) -> str:
    """The name of a stream, a host's folder or a class, which becomes part of a key.

    :raises RunbookError: it is none
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RunbookError(
            f"{option}: {name!r} is no name; write at most 63 small letters, digits, dots, dashes and underscores, a "
            "letter or digit first."
        )
    return name


@dataclass(frozen=True)
class Place:
    """The archive of one inventory host in its bucket."""

    host: str
    #: Empty, or with a slash at its end.
    folder: str

    @classmethod
    def of(cls, prefix: str, host: str) -> Place:
        """As the options ``prefix`` and ``archive_host`` say.

        :raises RunbookError: the host is no name
        """
        base = prefix.strip("/")
        return cls(check_name("archive_host", host), f"{base}/{host}/" if base else f"{host}/")


def classes(given: Mapping[str, Any]) -> dict[str, RetentionClass]:
    """The inventory's classes by their names.

    :raises RunbookError: one is not whole, or keeps documentation for less than six years without a reason
    """
    found = {}
    for name, said in given.items():
        check_name("classes", name)
        if not isinstance(said, dict) or set(said) - {"hot_days", "archive_days", "shorter_because"}:
            raise RunbookError(
                f"classes: {name} is {said!r}; give it hot_days, archive_days and, where that is less than six years "
                "for audit, access or evidence, shorter_because."
            )
        hot, kept = _days(name, "hot_days", said.get("hot_days")), said.get("archive_days")
        archive = None if kept == "forever" else _days(name, "archive_days", kept)
        if archive is not None and archive < hot:
            raise RunbookError(
                f"classes: {name} is kept in the archive for {archive} days, and where it was written for {hot}; raise "
                "archive_days."
            )
        if name in PROTECTED and archive is not None and archive < HIPAA_DAYS and not said.get("shorter_because"):
            raise RunbookError(
                f"classes: {name} is kept for {archive} days, and documentation for HIPAA for six years ({HIPAA_DAYS} "
                "days, 45 CFR 164.316(b)(2)(i)); raise archive_days, or give the reason in shorter_because."
            )
        found[name] = RetentionClass(name, hot, archive)
    return found


def _days(name: str, key: str, value: object) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 0 <= value <= 36_500
        or (key == "archive_days" and value < 1)
    ):
        more = ", or forever" if key == "archive_days" else ""
        raise RunbookError(f"classes: {key} of {name} is {value!r}; give a number of days up to 36500{more}.")
    return value


def holds(given: Sequence[Mapping[str, Any]], known: Collection[str]) -> list[Hold]:
    """The inventory's legal holds.

    :param known: the streams that there are: a hold on any other one holds nothing
    :raises RunbookError: one is not whole
    """
    found = []
    for said in given:
        name, reason, named = said.get("name"), said.get("reason"), said.get("streams") or []
        if not name or not reason or set(said) - {"name", "reason", "streams", "since", "until"}:
            raise RunbookError(
                f"legal_holds: {dict(said)!r} is no hold; give it a name and a reason, and where it does not cover "
                "all, streams, since and until."
            )
        if not isinstance(named, list):
            raise RunbookError(f"legal_holds: streams of {name} is {named!r}; give a list.")
        strange = [stream for stream in named if stream not in known]
        if strange:
            raise RunbookError(
                f"legal_holds: {name} names the stream {strange[0]!r}, which is neither in the archive nor in the "
                f"inventory of this host ({', '.join(sorted(known)) or 'there is none'}); correct it, or give the hold "
                "to the host that has the stream."
            )
        since, until = (
            moment.read(f"legal_holds: {key} of {name}", str(said[key])) if said.get(key) else None
            for key in ("since", "until")
        )
        if since and until and until < since:
            raise RunbookError(f"legal_holds: until of {name} is before its since; exchange them.")
        found.append(Hold(str(name), str(reason), tuple(named), since, until))
    return found


@dataclass(frozen=True)
class Fate:
    """What becomes of an archive."""

    is_due: bool
    why: str


def fate(
    link: Link, known: Mapping[str, RetentionClass], held: Sequence[Hold], now: datetime, *, stream_class: str = ""
) -> Fate:
    """Whether the time of an archive is over.

    It is counted from the last line, or from the day it was archived where that is later or no line says its time. Of
    the class that it was archived under and the one that its stream has now, the longer counts. A class that nobody
    knows keeps for ever.

    :param stream_class: the class that the inventory gives its stream by now; empty where it names the stream no more
    """
    hold = next((each for each in held if each.covers(link)), None)
    if hold is not None:
        return Fate(False, f"legal hold {hold.name}: {hold.reason}")
    names = {link.retention_class, stream_class or link.retention_class}
    unknown = sorted(names - known.keys())
    if unknown:
        return Fate(False, f"the inventory knows no class {unknown[0]}")
    spans = [known[name].archive_days for name in names]
    if None in spans:
        return Fate(False, "its class keeps for ever")
    days = max(span for span in spans if span is not None)
    last = link.content.last_at if link.content else None
    ends = max(filter(None, (last, link.at))) + timedelta(days=days)
    if now < ends:
        return Fate(False, f"kept until {ends.astimezone(UTC):%Y-%m-%d}")
    return Fate(True, f"{days} days were over on {ends.astimezone(UTC):%Y-%m-%d}")


def is_cool(modified_at: datetime, retention_class: RetentionClass | None, now: datetime) -> bool:
    """Whether a rotated file may leave its host, once it is archived; of an unknown class never."""
    return retention_class is not None and now >= modified_at + timedelta(days=retention_class.hot_days)
