"""Advisories that affect packages of ours: until when each must be dealt with, and what a waiver puts off.

The clock of an advisory runs from its publication, as everybody who would use it can read it from then on. It does not
matter when we first looked, or that the package was added yesterday.

The deadlines: UK Cyber Essentials wants what is critical or high fixed within 14 days of the fix's release; FedRAMP's
vulnerability scanning requirements give what is moderate 90 days and what is low 180. The runbook says "critical
patches immediately", which is taken as 7 days. An inventory may shorten them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.updates import versions
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.updates.packages import Package

Severity = Literal["critical", "high", "moderate", "low", "unscored"]
State = Literal["overdue", "open", "waived", "undated"]

#: Days within which an advisory must be dealt with, the worst first.
DEADLINE_DAYS: dict[str, int] = {"critical": 7, "high": 14, "moderate": 90, "low": 180}
#: What nobody has scored may be anything.
UNSCORED: Severity = "unscored"
#: What the services say.
_SAID: dict[str, Severity] = {
    "critical": "critical", "high": "high", "moderate": "moderate", "medium": "moderate", "low": "low", "info": "low",
}  # fmt: skip
_ORDER: tuple[Severity, ...] = ("critical", UNSCORED, "high", "moderate", "low")
#: A waiver is lent: whoever wants it longer says so again.
MAX_WAIVER_DAYS = 180
#: Names of advisories as OSV writes them, the one that people look up first.
_FAMILIES = ("GHSA-", "CVE-", "PYSEC-", "MAL-")
_ID = re.compile(r"[A-Z]{2,12}-[0-9A-Za-z-]{4,60}")
#: Packages that were made to do harm. They have no score, and need none.
_MALICIOUS = "MAL-"
_AT_LEAST = re.compile(r">=\s*([0-9][^\s,|<>=]*)")
_MAX_SUMMARY = 200


@dataclass(frozen=True)
class Advisory:
    """What is known of one vulnerability in one version of one package."""

    id: str
    #: Under which other names it is known.
    aliases: frozenset[str]
    package: Package
    summary: str
    severity: Severity
    #: Since when anybody can know it; None where no source says it.
    published: datetime | None
    #: The least version that is newer and has the fix; empty where there is none.
    fixed: str
    #: Who says so.
    sources: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """All names of it."""
        return self.aliases | {self.id}


@dataclass(frozen=True)
class Waiver:
    """A decision of a person to live with an advisory for a while."""

    id: str
    #: Empty where it is for each package that the advisory is about.
    package: str
    owner: str
    reason: str
    expires_on: date

    def covers(self, advisory: Advisory) -> bool:
        """Whether it is about this one."""
        return self.id in advisory.names and self.package in ("", advisory.package.name)


@dataclass(frozen=True)
class Judged:
    """An advisory, and what it means today."""

    advisory: Advisory
    state: State
    due_at: datetime | None
    #: The one that puts it off, or did until it expired.
    waiver: Waiver | None

    @property
    def status(self) -> Status:
        """Nothing that is in time is red: its deadline is what the figures are for."""
        return {"overdue": Status.BREACH, "undated": Status.UNKNOWN}.get(self.state, Status.OK)


# --- what the services say --------------------------------------------------------------------------------------------


def of_osv(record: Mapping[str, Any], package: Package, source: str) -> Advisory | None:
    """A record of OSV's, as far as it is about ``package``; None where it was withdrawn.

    https://ossf.github.io/osv-schema/

    :raises RunbookError: it has no id, or a field has a form that the schema does not know
    """
    name = record.get("id")
    if not isinstance(name, str) or not name:
        raise RunbookError("OSV: a record has no id, so it is not read as one; check osv_url.", status=Status.UNKNOWN)
    if record.get("withdrawn"):
        return None
    fixes: list[str] = []
    said = [_words(record.get("database_specific")).get("severity")]
    for affected in _list(record.get("affected")):
        about = _words(affected.get("package"))
        if str(about.get("name", "")).lower() != package.name.lower():
            continue
        said += [_words(affected.get(key)).get("severity") for key in ("database_specific", "ecosystem_specific")]
        for each in _list(affected.get("ranges")):
            if each.get("type") != "GIT":
                fixes += [str(event["fixed"]) for event in _list(each.get("events")) if "fixed" in event]
    aliases = frozenset(str(each) for each in record.get("aliases") or () if isinstance(each, str))
    return Advisory(
        id=name,
        aliases=aliases,
        package=package,
        summary=_summary(record.get("summary") or record.get("details")),
        severity="critical" if name.startswith(_MALICIOUS) else worst_severity(map(severity, said)),
        published=moment(record.get("published")),
        fixed=least_newer(package.version, fixes),
        sources=(source,),
    )


def severity(said: object) -> Severity:
    """What a service calls a severity, in the words that npm and GitHub use.

    >>> severity("MODERATE"), severity("medium"), severity(None), severity("CVSS:3.1/AV:N")
    ('moderate', 'moderate', 'unscored', 'unscored')
    """
    return _SAID.get(said.lower(), UNSCORED) if isinstance(said, str) else UNSCORED


def worst_severity(found: Iterable[Severity]) -> Severity:
    """The worst of those that were scored; unscored where none was."""
    scored = {each for each in found if each != UNSCORED}
    return next((each for each in _ORDER if each in scored), UNSCORED)


def least_newer(version: str, fixes: Iterable[str]) -> str:
    """The least of some versions that is newer than ``version``; empty where there is none.

    The ranges of an advisory do not overlap, so it is the end of the range in which the version lies.

    >>> least_newer("2.3.0", ["1.9.9", "2.5.0", "3.2.0"]), least_newer("4.0.0", ["3.2.0"])
    ('2.5.0', '')
    """
    own = versions.key(version)
    known = [(found, fix) for fix in fixes if (found := versions.key(fix)) is not None and own and found > own]
    return min(known)[1] if known else ""


def least_of_range(version: str, said: object) -> str:
    """The same of a range as npm writes it.

    >>> least_of_range("4.17.20", ">=4.17.21"), least_of_range("1.0.0", ">=0.5.1 <0.6.0 || >=1.0.3"), \
        least_of_range("1.0.0", "<0.0.0")
    ('4.17.21', '1.0.3', '')
    """
    return least_newer(version, _AT_LEAST.findall(said)) if isinstance(said, str) else ""


def moment(said: object) -> datetime | None:
    """A moment as OSV writes it; None where it is none."""
    try:
        found = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def together(advisories: Iterable[Advisory]) -> list[Advisory]:
    """Each vulnerability of each package once, whatever name a source gives it, the worst first.

    Of what the sources say the worst counts: the severest, the earliest publication, and the fix that covers them all.
    """
    groups: list[list[Advisory]] = []
    for each in advisories:
        same = [group for group in groups if any(_is_same(each, other) for other in group)]
        groups = [group for group in groups if group not in same]
        groups.append([each, *(other for group in same for other in group)])
    merged = [_merged(group) for group in groups]
    return sorted(merged, key=lambda each: (_ORDER.index(each.severity), each.package, each.id))


def _is_same(one: Advisory, other: Advisory) -> bool:
    return one.package == other.package and not one.names.isdisjoint(other.names)


def _merged(group: Sequence[Advisory]) -> Advisory:
    names = frozenset().union(*(each.names for each in group))
    family = {
        name: next((place for place, begin in enumerate(_FAMILIES) if name.startswith(begin)), 9) for name in names
    }
    name = min(names, key=lambda each: (family[each], each))
    said = [each for each in group if each.summary]
    return replace(
        group[0],
        id=name,
        aliases=names - {name},
        summary=min((each.summary for each in said), key=len, default=""),
        severity=worst_severity(each.severity for each in group),
        published=min((each.published for each in group if each.published), default=None),
        fixed=versions.newest([each.fixed for each in group if each.fixed]),
        sources=tuple(sorted({source for each in group for source in each.sources})),
    )


# --- what the inventory says ------------------------------------------------------------------------------------------


def deadlines(said: Mapping[str, Any]) -> dict[str, int]:
    """Days by severity: the defaults, or less.

    :raises RunbookError: it names no severity, no number of days, or more days than the default
    """
    for name, days in said.items():
        if name not in DEADLINE_DAYS:
            raise RunbookError(f"deadline_days: {name!r} is no severity; give {', '.join(DEADLINE_DAYS)}.")
        if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= DEADLINE_DAYS[name]:
            raise RunbookError(
                f"deadline_days: {name}: {days!r} is out of bounds; give a number of days from 1 to "
                f"{DEADLINE_DAYS[name]}. Who needs longer writes a waiver."
            )
    return DEADLINE_DAYS | {name: int(days) for name, days in said.items()}


def waivers(said: Sequence[Mapping[str, Any]], today: date) -> tuple[Waiver, ...]:
    """The waivers of an inventory.

    :raises RunbookError: one of them lacks something, or is for too long
    """
    found: list[Waiver] = []
    for number, each in enumerate(said):
        where = f"waivers[{number}]"
        name, package = str(each.get("id") or "").strip(), str(each.get("package") or "").strip()
        if not _ID.fullmatch(name):
            raise RunbookError(f"{where}.id: {name!r} is no name of an advisory; give one such as CVE-2021-23337.")
        for key in ("owner", "reason"):
            if not str(each.get(key) or "").strip():
                raise RunbookError(f"{where}.{key}: it is empty; say who waives {name}, and why.")
        ends = _date(f"{where}.expires_on", each.get("expires_on"))
        if ends > today + timedelta(days=MAX_WAIVER_DAYS):
            raise RunbookError(
                f"{where}.expires_on: {ends} is more than {MAX_WAIVER_DAYS} days ahead; give an earlier day, and "
                "decide again then."
            )
        if any((other.id, other.package) == (name, package) for other in found):
            raise RunbookError(f"{where}.id: {name} is waived twice; keep one of them.")
        found.append(Waiver(name, package, str(each["owner"]).strip(), str(each["reason"]).strip(), ends))
    return tuple(found)


def _date(where: str, said: object) -> date:
    if isinstance(said, datetime):
        return said.date()
    if isinstance(said, date):
        return said
    try:
        return date.fromisoformat(str(said))
    except ValueError:
        raise RunbookError(f"{where}: {said!r} is no day; give one such as 2026-12-31.") from None


# --- the judgement ----------------------------------------------------------------------------------------------------


def judge(
    found: Sequence[Advisory], given: Sequence[Waiver], days: Mapping[str, int], now: datetime
) -> list[Judged]:  # fmt: skip
    """What each advisory means today.

    :param days: by severity; what is unscored has the shortest
    """
    judged = []
    for each in found:
        limit = days.get(each.severity, min(days.values()))
        due = each.published + timedelta(days=limit) if each.published else None
        waiver = next((one for one in given if one.covers(each)), None)
        state: State = "undated" if due is None else "overdue" if now >= due else "open"
        if waiver and now.date() <= waiver.expires_on:
            state = "waived"
        judged.append(Judged(each, state, due, waiver))
    return judged


def checks(judged: Sequence[Judged], given: Sequence[Waiver], now: datetime, *, complete: bool) -> list[Check]:
    """One for each advisory, and one for each waiver that is not as it must be.

    :param complete: every source answered, so that what was not found is not there
    """
    made = [Check(each.advisory.id, each.status, sentence(each, now), str(each.advisory.package)) for each in judged]
    for waiver in given:
        used = any(waiver.covers(each.advisory) for each in judged)
        about = waiver.package or "any package"
        if not used and complete:
            made.append(
                Check.breach("waiver", f"It is for {waiver.id} in {about}, which affects nothing here; take it out.",
                             waiver.id)
            )  # fmt: skip
        elif now.date() > waiver.expires_on:
            made.append(
                Check.breach(
                    "waiver",
                    f"It expired on {waiver.expires_on}: {waiver.owner} fixes {waiver.id}, or decides again.",
                    waiver.id,
                )
            )
    return made


def sentence(judged: Judged, now: datetime) -> str:
    """What a person has to know of one advisory."""
    advisory, due, waiver = judged.advisory, judged.due_at, judged.waiver
    fix = f"update to {advisory.fixed}" if advisory.fixed else "there is no fixed version yet: replace it, or waive it"
    about = f"{advisory.severity.capitalize()}{f': {advisory.summary}' if advisory.summary else ''}"
    if judged.state == "waived" and waiver:
        return f"{about}; waived by {waiver.owner} until {waiver.expires_on}: {waiver.reason}."
    if due is None:
        return f"{about}; no source says since when it is known, so its deadline is unknown; {fix}."
    if judged.state == "overdue":
        return f"{about}; overdue since {due:%Y-%m-%d}; {fix}."
    left = (due - now).days
    return f"{about}; due on {due:%Y-%m-%d} ({count(left, 'day')} left); {fix}."


def wanted(judged: Iterable[Judged], direct: frozenset[str]) -> list[dict[str, Any]]:
    """What to update, and to what: each version of a package once, what is due first.

    :param direct: names of packages that the project itself asks for
    """
    found: dict[Package, list[Judged]] = {}
    for each in judged:
        if each.advisory.fixed and each.state != "waived":
            found.setdefault(each.advisory.package, []).append(each)
    listed = []
    for package, some in found.items():
        to = versions.newest([each.advisory.fixed for each in some])
        due = min((each.due_at for each in some if each.due_at), default=None)
        listed.append(
            {
                "package": package.name,
                "ecosystem": package.ecosystem,
                "from": package.version,
                "to": to,
                "step": versions.step(package.version, to),
                "is_direct": package.name in direct,
                "advisories": [each.advisory.id for each in some],
                "due_at": due.isoformat() if due else None,
                "due_on": f"{due:%Y-%m-%d}" if due else "",
            }
        )
    return sorted(listed, key=lambda each: (each["due_at"] or "", each["package"], each["from"]))


def figures(judged: Judged) -> dict[str, Any]:
    """An advisory as a result has it."""
    advisory = judged.advisory
    return {
        "id": advisory.id,
        "aliases": sorted(advisory.aliases),
        "package": advisory.package.name,
        "ecosystem": advisory.package.ecosystem,
        "version": advisory.package.version,
        "severity": advisory.severity,
        "state": judged.state,
        "summary": advisory.summary,
        "published_at": advisory.published.isoformat() if advisory.published else None,
        "due_at": judged.due_at.isoformat() if judged.due_at else None,
        "due_on": f"{judged.due_at:%Y-%m-%d}" if judged.due_at else "",
        "fixed": advisory.fixed,
        "waived_by": judged.waiver.owner if judged.waiver else "",
        "waived_until": str(judged.waiver.expires_on) if judged.waiver else "",
        "sources": list(advisory.sources),
    }


def _summary(said: object) -> str:
    """The first sentence or so of what somebody else wrote, on one line."""
    text = " ".join(str(said or "").split())
    return (text if len(text) <= _MAX_SUMMARY else f"{text[:_MAX_SUMMARY].rsplit(' ', 1)[0]} …").rstrip(".")


def _list(said: object) -> list[Mapping[str, Any]]:
    return [each for each in said if isinstance(each, Mapping)] if isinstance(said, (list, tuple)) else []


def _words(said: object) -> Mapping[str, Any]:
    return said if isinstance(said, Mapping) else {}
