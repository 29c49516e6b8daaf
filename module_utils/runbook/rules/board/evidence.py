"""The evidence of a quarter: each bullet of the runbook, the runs that did it, and when it was not done.

The map (``docs/runbook.md``) says which playbook or module does a bullet, and its headings say how often. A bullet that
has a rhythm and no good run in one of its periods has a gap; nothing is made up for it. What was done on some hosts is
done on these alone: a period in which one of them lacks a good run is a gap that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.record import is_once
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What is about the records themselves, and no work: an archive would never be the same twice.
ABOUT_RECORDS = ("evidence", "board")
DONE, GAPS, NOT_DONE, HUMAN, BY_HAND, NEEDED, AHEAD = (
    "done", "gaps", "not done", "of a person", "not built", "when it is needed", "not over yet",
)  # fmt: skip
#: Beside the statuses of a host: its run was told to leave it out.
LEFT_OUT = "left out by --limit"
#: In the place of hosts where a playbook works on one host for all.
_ALL = ""
_QUARTER = re.compile(r"(20\d\d)Q([1-4])")
_HEADING = re.compile(r"(#{2,3}) (.+)")
_PLAYBOOK = re.compile(r"`playbooks/(\w+)\.yml`([^,;:]*)")
_TAGS = re.compile(r"(?:--tags|-t) ([a-z,_]+)")
_MODULE = re.compile(r"`library/(\w+)\.py`")
#: By the words of a bullet or of its heading; the first that fits.
_RHYTHMS = (
    ("quarterly", re.compile(r"quarterly", re.IGNORECASE)),
    ("monthly", re.compile(r"monthly|first sunday", re.IGNORECASE)),
    ("weekly", re.compile(r"weekly|sundays", re.IGNORECASE)),
    ("daily", re.compile(r"daily|midnight|0[0-9]:00 UTC", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Quarter:
    """A quarter, in UTC; its end is the first day after it."""

    name: str
    begin: date
    end: date

    @classmethod
    def read(cls, said: str) -> Quarter:
        """A quarter by its name.

        :raises RunbookError: it is none

        >>> Quarter.read("2026Q4")
        Quarter(name='2026Q4', begin=datetime.date(2026, 10, 1), end=datetime.date(2027, 1, 1))
        """
        found = _QUARTER.fullmatch(said)
        if found is None:
            raise RunbookError(f"quarter: {said!r} is no quarter; write it as 2026Q4.")
        year, month = int(found[1]), int(found[2]) * 3 - 2
        end = date(year + 1, 1, 1) if month == 10 else date(year, month + 3, 1)
        return cls(said, date(year, month, 1), end)

    @property
    def last_week_end(self) -> date:
        """The Monday behind the last week that begins in it: what is weekly may have been done until then.

        >>> Quarter.read("2026Q4").last_week_end
        datetime.date(2027, 1, 4)
        """
        return self.end + timedelta(days=-self.end.weekday() % 7)

    def stamp(self, day: date) -> str:
        """How ids of runs begin from a day on."""
        return f"{day:%Y%m%dT}"


@dataclass(frozen=True)
class Bullet:
    """A bullet of the runbook."""

    section: str
    number: str
    task: str
    #: ``built``, ``planned`` or ``human``.
    state: str
    human: str
    rhythm: str
    #: Each a playbook and its tags, of which a run must have one.
    playbooks: tuple[tuple[str, tuple[str, ...]], ...]
    modules: tuple[str, ...]

    def is_of(self, record: Mapping[str, Any]) -> bool:
        """Whether a run is of one of its playbooks."""
        return any(
            record["playbook"] == playbook and (not tags or bool(set(tags) & set(record["tags"])))
            for playbook, tags in self.playbooks
        )

    def is_done_by(self, run: _Run) -> bool:
        """Whether a run did it, or tried to."""
        return self.is_of(run.record) or any(map(self.modules_of, run.modules.values()))

    def modules_of(self, modules: set[str]) -> bool:
        """Whether one of its modules is among those."""
        return bool(modules.intersection(self.modules))


@dataclass(frozen=True)
class _Run:
    """A run, and by host the modules that did not skip their step."""

    record: Mapping[str, Any]
    modules: Mapping[str, set[str]]

    @property
    def day(self) -> date:
        return date.fromisoformat(str(self.record["started_at"])[:10])

    def cover(self, bullet: Bullet) -> dict[str, str]:
        """What became of a bullet on each host: its status, or :data:`LEFT_OUT`; empty where the bullet is not done."""
        if is_once(self.record):
            return {_ALL: str(self.record["status"])}
        is_of = bullet.is_of(self.record)
        found = dict.fromkeys(map(str, self.record.get("left_out") or ()), LEFT_OUT)
        for host, of_host in self.record["hosts"].items():
            is_for = is_of or bullet.modules_of(self.modules[host]) or of_host["status"] != Status.OK
            found[host] = str(of_host["status"]) if is_for else ""
        return found


def read_map(text: str) -> list[Bullet]:
    """The bullets of the map, in its order."""
    found, chapter, section = [], "", ""
    for line in text.splitlines():
        heading = _HEADING.fullmatch(line)
        if heading:
            chapter = heading[2] if heading[1] == "##" else chapter
            section = heading[2]
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 6 or not cells[0].isdigit():
            continue
        number, task, state, runs, _test, human = cells
        said = next((name for text in (task, section) for name, words in _RHYTHMS if words.search(text)), "")
        playbooks = tuple(
            (name, tuple(tag for tags in _TAGS.findall(after) for tag in tags.split(",")))
            for name, after in _PLAYBOOK.findall(runs)
        )
        title = section if section == chapter else f"{chapter}: {section}"
        found.append(Bullet(title, number, task, state, human, said, playbooks, tuple(_MODULE.findall(runs))))
    return found


def periods(rhythm: str, quarter: Quarter, until: date) -> list[tuple[date, date, str]]:
    """The periods of a rhythm that lie in a quarter and are over: begin, end, name.

    Weeks begin on Mondays; one that begins in the quarter belongs to it.

    >>> [name for *_, name in periods("monthly", Quarter.read("2026Q4"), date(2026, 12, 5))]
    ['2026-10', '2026-11']
    >>> len(periods("weekly", Quarter.read("2026Q4"), date(2027, 1, 9)))
    13
    """
    found, day = [], quarter.begin
    while day < quarter.end:
        if rhythm == "daily":
            end, name = day + timedelta(days=1), f"{day}"
        elif rhythm == "weekly":
            day += timedelta(days=-day.weekday() % 7)
            end, name = day + timedelta(days=7), f"week of {day}"
        elif rhythm == "monthly":
            end, name = (day.replace(day=1) + timedelta(days=32)).replace(day=1), f"{day:%Y-%m}"
        elif rhythm == "quarterly":
            end, name = quarter.end, quarter.name
        else:
            break
        if day < quarter.end and end <= until:
            found.append((day, end, name))
        day = end
    return found


@dataclass(frozen=True)
class Standing:
    """How it stands with a bullet."""

    bullet: Bullet
    state: str
    #: Runs, the oldest first: id, begin, status, verdict, who started it, and on which hosts it was done or not.
    runs: tuple[Mapping[str, str], ...]
    gaps: tuple[str, ...]
    #: Hosts that have a good run in each period that is over, and by host the periods in which another one lacks it.
    covered: tuple[str, ...]
    not_covered: Mapping[str, tuple[str, ...]]
    #: What people decided: when, and the sentence.
    said: tuple[tuple[str, str], ...]

    @property
    def is_red(self) -> bool:
        """Whether something was not done that had to be."""
        return self.state in (GAPS, NOT_DONE)

    def result(self) -> dict[str, Any]:
        """As a module returns it, and as ``index.json`` has it."""
        return {
            "section": self.bullet.section, "task": f"{self.bullet.number}. {self.bullet.task}", "state": self.state,
            "rhythm": self.bullet.rhythm, "runs": len(self.runs), "gaps": list(self.gaps),
            "hosts_covered": list(self.covered),
            "hosts_not_covered": {host: list(names) for host, names in self.not_covered.items()},
            "human_step": self.bullet.human, "run_ids": [run["id"] for run in self.runs],
            "said": [f"{at}: {text}" for at, text in self.said],
        }  # fmt: skip


def judge(
    bullets: Sequence[Bullet], records: Sequence[Mapping[str, Any]], quarter: Quarter, now: datetime
) -> list[Standing]:
    """How it stands with each bullet.

    :param records: those of the quarter, and of its last week
    """
    until = min(now.astimezone(UTC).date(), quarter.end + timedelta(days=7))
    known = [_Run(record, _worked(record)) for record in sorted(records, key=lambda each: str(each["started_at"]))]
    return [_of(bullet, known, quarter, until) for bullet in bullets]


def _covers(bullet: Bullet, runs: Sequence[_Run]) -> list[dict[str, str]]:
    """Of each run what became of a bullet on its hosts, without hosts that the bullet is not for."""
    found = [run.cover(bullet) for run in runs]
    worked = {
        host for run, cover in zip(runs, found, strict=True) for host in cover
        if host == _ALL or bullet.is_of(run.record) or bullet.modules_of(run.modules.get(host, set()))
    }  # fmt: skip
    foreign = {host for cover in found for host, word in cover.items() if not word} - worked
    return [{host: word for host, word in cover.items() if word and host not in foreign} for cover in found]


def _lacking(
    runs: Sequence[_Run], covers: Sequence[Mapping[str, str]], spans: Sequence[tuple[date, date, str]]
) -> list[set[str] | None]:  # fmt: skip
    """Of each period the hosts that lack a good run; None where no host had one.

    A host has to have one from the day on which a run first knew of it until the last on which one did.
    """
    days: dict[str, list[date]] = {}
    for run, cover in zip(runs, covers, strict=True):
        for host in cover:
            days.setdefault(host, []).append(run.day)
    found: list[set[str] | None] = []
    for begin, end, _ in spans:
        done = {
            host for run, cover in zip(runs, covers, strict=True) if begin <= run.day < end
            for host, word in cover.items() if word == Status.OK
        }  # fmt: skip
        due = {host for host, seen in days.items() if seen[0] < end and seen[-1] >= begin}
        found.append(due - done if done else None)
    return found


def _of(bullet: Bullet, known: Sequence[_Run], quarter: Quarter, until: date) -> Standing:
    last = quarter.last_week_end if bullet.rhythm == "weekly" else quarter.end
    mine = [run for run in known if bullet.is_done_by(run) and run.day < last]
    covers = _covers(bullet, mine)
    spans = periods(bullet.rhythm, quarter, until) if bullet.state == "built" else []
    lacking = _lacking(mine, covers, spans)
    if bullet.state == "human":
        state = HUMAN
    elif bullet.state != "built":
        state = BY_HAND
    elif not spans:
        state = AHEAD if bullet.rhythm else NEEDED
    else:
        is_nowhere, is_whole = all(each is None for each in lacking), all(each == set() for each in lacking)
        state = NOT_DONE if is_nowhere else DONE if is_whole else GAPS
    names = [name for *_, name in spans]
    said = [None if each == set() else "" if each is None else f" without {some(sorted(each))}" for each in lacking]
    hosts = sorted({host for cover in covers for host in cover} - {_ALL})
    by_host = {
        host: tuple(_together(names, ["" if each and host in each else None for each in lacking])) for host in hosts
    }  # fmt: skip
    runs = tuple(
        {
            "id": str(record["run_id"]), "at": str(record["started_at"])[:16].replace("T", " "),
            "status": str(record["status"]), "verdict": str(record["verdict"]), "user": str(record["user"]),
            "hosts": _told(cover),
        }
        for record, cover in zip((run.record for run in mine), covers, strict=True)
    )  # fmt: skip
    return Standing(
        bullet,
        state,
        runs,
        tuple(_together(names, said)),
        tuple(host for host in hosts if not by_host[host]) if spans and state != NOT_DONE else (),
        {host: gaps for host, gaps in by_host.items() if gaps},
        tuple(each for run in mine for each in said_in(run.record)),
    )


def _told(cover: Mapping[str, str]) -> str:
    """On which hosts it was done, and on which not, with why.

    >>> _told({"db1": "ok", "db2": "failed", "db3": "left out by --limit"}), _told({"": "ok"})
    ('Done on db1. Not done on db2 (failed). Not done on db3 (left out by --limit).', '')
    """
    by_word: dict[str, list[str]] = {}
    for host, word in sorted(cover.items()):
        if host != _ALL:
            by_word.setdefault(word, []).append(host)
    done = [f"Done on {some(by_word.pop(Status.OK))}."] if Status.OK in by_word else []
    return " ".join([*done, *(f"Not done on {some(by_word[word])} ({word})." for word in sorted(by_word))])


def _together(names: Sequence[str], lacking: Sequence[str | None]) -> list[str]:
    """Periods that lack the same, those that follow each other as one.

    :param lacking: what is said behind the name; None of a period that lacks nothing

    >>> _together(["2026-10", "2026-11", "2026-12"], [None, "", ""])
    ['2026-11 to 2026-12']
    >>> _together(["2026-10", "2026-11"], ["", " without db2"])
    ['2026-10', '2026-11 without db2']
    """
    found: list[list[str]] = []
    for number, (name, lacks) in enumerate(zip(names, lacking, strict=True)):
        if lacks is not None and number and lacking[number - 1] == lacks:
            found[-1][1:] = [" to ", name, lacks]
        elif lacks is not None:
            found.append([name, lacks])
    return ["".join(each) for each in found]


def _worked(record: Mapping[str, Any]) -> dict[str, set[str]]:
    return {
        name: {str(step["module"]).rpartition(".")[2] for step in host["steps"] if step["state"] != "skipped"}
        for name, host in record["hosts"].items()
    }


def said_in(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What people decided in a run: why it did not wait for its window, what they read, approved or closed."""
    found = []
    for host in record["hosts"].values():
        for step in host["steps"]:
            figures, at = step["figures"], str(step["started_at"])[:16].replace("T", " ")
            window = figures.get("window")
            if isinstance(window, dict) and window.get("override"):
                found.append((at, f"The calendar was overridden: {window['override']}"))
            review = figures.get("review")
            if step["changed"] and isinstance(review, dict) and isinstance(review.get("closing"), dict):
                found.append((at, f"Review {review.get('id')} closed by {review['closing'].get('by')}."))
            elif figures.get("reviewed_by") or (step["changed"] and str(step["module"]).endswith("_confirm")):
                found.append((at, str(step["msg"])))
    return list(dict.fromkeys(found))


# --- the page ---------------------------------------------------------------------------------------------------------

_CSS = """
:root { color-scheme: light dark; --page: #f6f6f4; --card: #fff; --ink: #1c2126; --muted: #5a636d; --line: #e2e4e7;
  --ok: #1b7446; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --page: #121518; --card: #1a1e22; --ink: #e7e9ec; --muted: #9ba5b0; --line: #2c3238; --ok: #5fc68f;
    --bad: #ff8d83; }
}
body { margin: 0 auto; max-width: 1020px; padding: 24px 16px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px;
  margin: 0 0 14px; }
h1 { font-size: 25px; } h2 { font-size: 17px; margin: 0 0 8px; } p { margin: 4px 0; overflow-wrap: anywhere; }
.muted { color: var(--muted); } .ok { color: var(--ok); } .bad { color: var(--bad); font-weight: 600; }
div { border-top: 1px solid var(--line); padding: 8px 0; } a { color: inherit; }
td { padding: 2px 14px 2px 0; vertical-align: top; font-size: 13.5px; }
@media print { div { break-inside: avoid; } }
"""
_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{css}</style></head><body><h1>{title}</h1>
"""
_OF_A_MACHINE = ("none", "–", "")


def page(
    standings: Sequence[Standing], missing: Sequence[str], quarter: Quarter, environment: str, records: int
) -> str:  # fmt: skip
    """The index as one page; links lead to the records beside it."""
    red = sum(each.is_red for each in standings)
    verdict = f"{count(red, 'bullet')} with gaps or not done." if red else "Everything that has a rhythm was done."
    parts = [
        _HEAD.format(title=escape(f"Evidence of {quarter.name}, {environment}"), css=_CSS),
        f"<section>{_p(verdict, 'bad' if red else 'ok')}",
        *(_p(f"Missing: {each}", "bad") for each in missing),
        _p(f"{count(records, 'record')} from {quarter.begin} to before {quarter.end}, UTC; "
           f"of weekly work to before {quarter.last_week_end}.", "muted"),
        _p("SHA256SUMS has the hash of each file, SHA256SUMS.sig its signature; README.txt how to verify.", "muted"),
    ]  # fmt: skip
    section = ""
    for each in standings:
        if each.bullet.section != section:
            section = each.bullet.section
            parts.append(f"</section>\n<section><h2>{escape(section)}</h2>")
        parts.append(_of_bullet(each))
    return "".join(parts) + "</section></body></html>\n"


def _p(text: str, style: str = "") -> str:
    return f'<p class="{style}">{escape(text)}</p>'


def _of_bullet(each: Standing) -> str:
    bullet = each.bullet
    tone = "bad" if each.is_red else "ok" if each.state == DONE else "muted"
    how = ", ".join(filter(None, (bullet.rhythm, count(len(each.runs), "run"))))
    head = f'{escape(bullet.number)}. {escape(bullet.task)} <span class="{tone}">{escape(each.state)}</span>'
    parts = [f'<div><p>{head} <span class="muted">{escape(how)}</span></p>']
    if each.gaps:
        parts.append(_p(f"Not done: {', '.join(each.gaps)}", "bad"))
    if bullet.human not in _OF_A_MACHINE:
        parts.append(_p(f"Of a person: {bullet.human}" + ("" if each.said else "; no record of it"), "muted"))
    parts += [_p(f"{at} {text}") for at, text in each.said]
    if each.runs:
        rows = "".join(map(_row, each.runs))
        parts.append(f'<details><summary class="muted">runs</summary><table>{rows}</table></details>')
    return "".join([*parts, "</div>"])


def _row(run: Mapping[str, str]) -> str:
    tone, name = "ok" if run["status"] == Status.OK else "bad", escape(run["id"])
    said = " ".join(filter(None, (run["verdict"], run["hosts"])))
    cells = [
        escape(run["at"]), f'<span class="{tone}">{escape(run["status"])}</span>',
        f'<a href="records/{name}.json">{name}</a>', escape(run["user"]), escape(said),
    ]  # fmt: skip
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


README = """Evidence of what was maintained, as records of each run.

Verify it without the program that made it, in the folder where the archive was unpacked:

  openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
  sha256sum -c SHA256SUMS

public.pem is the public key that you were given, not the one in this archive: its SHA-256 is compared with

  openssl pkey -pubin -in public.pem -outform DER | sha256sum

index.html has each bullet of the runbook with its runs; records/ has each run. index.json is the index for programs.
"""
