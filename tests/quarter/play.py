"""Plays the calendar: each job at its time, what goes wrong on its date, and what has to be seen of it.

What is compared, after each run: it is red exactly where something is injected that it can see, and the board says so.
At the end of each week: each job came as often as it was due, in its order, by its own records; the board names what a
person has to know and nothing else; no row is lost.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.schedule import schedule
from quarter import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from quarter.sandbox import Clients, Run, Sandbox

_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong on a date, and what has to be seen of it."""

    name: str
    begin: datetime
    #: When it is over, or somebody mends it.
    end: datetime
    #: Jobs whose runs are red between the two, from the first one on.
    red: tuple[str, ...] = ()
    #: What the board says while it is to be seen there: a regular expression.
    says: str = ""
    #: Nobody has to do anything about it: it stands in the rows of the jobs that are red, which read as skipped.
    is_skipped: bool = False
    inject: Callable[[Sandbox], object] = lambda _: None
    mend: Callable[[Sandbox], object] = lambda _: None
    #: The first run of this job is killed, in the middle of this module's work.
    kills: tuple[str, str] = ("", "")
    #: The machine with the timers is down; what was missed is caught up with at its end, each job once.
    is_down: bool = False
    #: A job whose timer somebody stopped.
    stops: str = ""
    #: How much of the quarter has to lie before it, so that it can be seen.
    history: timedelta = timedelta()


@dataclass(frozen=True)
class Standing:
    """What the board says for a while, and rightly."""

    says: str
    why: str
    #: Until so long after the begin; None is to the end.
    until: timedelta | None = None


@dataclass
class Played:
    """A run that was due."""

    job: str
    due: datetime
    at: datetime
    run: Run
    #: What was injected that it could see.
    injected: tuple[Incident, ...]


@dataclass
class Quarter:
    """A part of the calendar that is played."""

    sandbox: Sandbox
    clients: Clients
    begin: datetime
    weeks: int
    incidents: Sequence[Incident]
    standing: Sequence[Standing]
    #: Where each week's board is put, and that on which an incident was first seen.
    boards: Path
    say: Callable[[str], object] = print
    played: list[Played] = field(default_factory=list)
    #: What is not as it has to be.
    wrong: list[str] = field(default_factory=list)
    #: Of a job whose last run was red, what it saw.
    _red: dict[str, tuple[Incident, ...]] = field(default_factory=dict)
    _killed: set[str] = field(default_factory=set)
    #: Incidents of which a board was kept, as it was when they were first seen.
    _seen: set[str] = field(default_factory=set)

    @property
    def end(self) -> datetime:
        """When it is over."""
        return self.begin + self.weeks * _WEEK

    def play(self) -> None:
        """All of it."""
        week = 1
        for moment, act in self._calendar():
            while moment >= self.begin + week * _WEEK:
                self._end_week(week)
                week += 1
            clock.jump(moment)
            act()
        self._end_week(week)

    # What happens, in its order ---------------------------------------------------------------------------------------

    def _calendar(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        """What is mended comes first, then what goes wrong, then the jobs, in the order of the inventory."""
        acts: list[tuple[datetime, int, Callable[[], None]]] = []
        for each in self.incidents:
            acts += [(each.end, 0, self._mending(each)), (each.begin, 1, self._injecting(each))]
        caught_up: dict[tuple[str, datetime], list[datetime]] = {}
        for number, (job, planned) in enumerate(self.sandbox.played.items()):
            for due in schedule.occurrences(planned, self.begin, self.end):
                if any(each.stops == job and each.begin <= due < each.end for each in self.incidents):
                    continue
                up = next((each.end for each in self.incidents if each.is_down and each.begin <= due < each.end), due)
                if up != due:
                    caught_up.setdefault((job, up), []).append(due)
                    if len(caught_up[job, up]) > 1:
                        continue
                acts.append((up, 2 + number, self._firing(job, due)))
        for moment, _, act in sorted(acts, key=lambda each: each[:2]):
            yield moment, act

    def _injecting(self, incident: Incident) -> Callable[[], None]:
        def act() -> None:
            self.say(f"{clock.now():%Y-%m-%d %H:%M} injected: {incident.name}")
            incident.inject(self.sandbox)

        return act

    def _mending(self, incident: Incident) -> Callable[[], None]:
        def act() -> None:
            self.say(f"{clock.now():%Y-%m-%d %H:%M} over: {incident.name}")
            # Nobody could renew the board, and it says so itself.
            if incident.is_down and datetime.fromisoformat(self._board()["stale_at"]) > clock.now():
                self._complain(f"the board does not say that it is old: {incident.name}")
            self.sandbox.hands.clear()
            incident.mend(self.sandbox)
            for playbook, done in self.sandbox.hands:
                if done.code != 0:
                    self._complain(f"{playbook} by hand was red: {incident.name}", done)
                    continue
                # A run by hand counts for the one job of that playbook.
                of_playbook = [job for job, each in self.sandbox.played.items() if each.playbook == playbook]
                if len(of_playbook) == 1:
                    self._red.pop(of_playbook[0], None)

        return act

    def _firing(self, job: str, due: datetime) -> Callable[[], None]:
        def act() -> None:
            at = clock.now()
            injected = tuple(each for each in self.incidents if job in each.red and each.begin <= at < each.end)
            killing = next(
                (each for each in self.incidents
                 if each.kills[0] == job and each.begin <= at < each.end and each.name not in self._killed), None,
            )  # fmt: skip
            if killing is not None:
                self._killed.add(killing.name)
                injected = (*injected, killing)
            done = self.sandbox.kill(*killing.kills) if killing else self.sandbox.fire(job)
            self.played.append(Played(job, due, at, done, injected))
            self._judge(self.played[-1])

        return act

    # What is compared -------------------------------------------------------------------------------------------------

    def _judge(self, played: Played) -> None:
        is_red, names = played.run.code != 0, "; ".join(each.name for each in played.injected)
        state = "red" if is_red else "ok"
        self.say(f"{played.at:%Y-%m-%d %H:%M} {played.job:24} {state:4} {played.run.duration_s:4.1f} s  {names}")
        if is_red and not played.injected:
            self._complain(f"{played.job} was red at {played.at:%Y-%m-%d %H:%M}, and nothing was injected", played.run)
        if not is_red and played.injected:
            self._complain(
                f"{played.job} was green at {played.at:%Y-%m-%d %H:%M}, and did not see: {names}", played.run
            )
        if is_red:
            self._red[played.job] = played.injected
        else:
            self._red.pop(played.job, None)
        # A run that was killed makes no board.
        if any(each.kills[0] == played.job for each in played.injected):
            return
        for each in self._open():
            if each.name not in self._seen:
                self._seen.add(each.name)
                self._keep(f"{played.at:%Y-%m-%d}-{played.job}")
            if not self._is_said(each):
                self._complain(f"after {played.job} the board does not say: {each.name}", played.run)

    def _complain(self, text: str, run: Run | None = None) -> None:
        self.wrong.append(text)
        self.say(f"WRONG: {text}")
        if run is not None:
            self.say("\n".join(f"    {line}" for line in run.output.splitlines()[-25:]))

    def _board(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.sandbox.runs / "board.json").read_text())
        return found

    def _needs(self) -> list[str]:
        needs = self._board()["places"]["sandbox"]["needs"]
        return [f"{need['what']}: {need['word']}: {need['msg']}" for need in needs]

    def _is_said(self, incident: Incident) -> bool:
        """Whether the board says of an incident what it has to."""
        if not incident.is_skipped:
            return any(re.search(incident.says, need) for need in self._needs())
        rows = {each["name"]: each for each in self._board()["places"]["sandbox"]["operations"]}
        seen = [rows[job] for job in incident.red if incident in self._red.get(job, ())]
        return all(each["state"] == "skipped" and re.search(incident.says, each["sentence"]) for each in seen)

    def _keep(self, name: str) -> None:
        """Keep the board as it is now."""
        kept = self.boards / name
        kept.mkdir(parents=True, exist_ok=True)
        for file in ("board.html", "board.json"):
            shutil.copy(self.sandbox.runs / file, kept)

    def _open(self) -> list[Incident]:
        """What the board has to name now."""
        seen = [each for injected in self._red.values() for each in injected]
        now = clock.now()
        seen += [each for each in self.incidents if each.stops and self._is_missed(each, now)]
        return list({each.name: each for each in seen}.values())

    def _is_missed(self, incident: Incident, now: datetime) -> bool:
        """Whether a run of a stopped timer should have been over, and none came since."""
        planned = self.sandbox.played[incident.stops]
        missed = [
            due for due in schedule.occurrences(planned, incident.begin, incident.end) if due + planned.patience <= now
        ]
        came = [each for each in self.played if each.job == incident.stops]
        return bool(missed) and (not came or came[-1].due < missed[-1])

    def _end_week(self, week: int) -> None:
        """Look at the records, the rows and the board, and keep the board."""
        begin, end = self.begin + (week - 1) * _WEEK, self.begin + week * _WEEK
        clock.jump(end - timedelta(minutes=5))
        self.sandbox.by_hand("board.yml")
        self._keep(f"week-{week:02}")
        needs, expected = self._needs(), self._open()
        for each in expected:
            if not self._is_said(each):
                self._complain(f"week {week}: the board does not say: {each.name}")
        said = [*(each.says for each in expected if not each.is_skipped), *self._standing(end)]
        for need in needs:
            if not any(re.search(each, need) for each in said):
                self._complain(f"week {week}: the board says what was not injected: {need}")
        for text in [*self._order(begin, end), *self.clients.lost(), *self.clients.failed]:
            self._complain(f"week {week}: {text}")
        self.clients.failed.clear()
        self.say(f"Week {week} of {self.weeks}: {len(needs)} points on the board, {len(self.clients.audit):,} rows.")

    def _standing(self, end: datetime) -> Iterator[str]:
        """What the board may say besides: what was not due yet never ran."""
        for each in self.standing:
            if each.until is None or self.begin + each.until > clock.now():
                yield each.says
        new = [job for job, each in self.sandbox.played.items() if not schedule.occurrences(each, self.begin, end)]
        # Several of them are one point.
        yield f"^{new[0]}: never run" if len(new) == 1 else f"^Schedules: never run: {len(new)} jobs never ran yet"

    def _order(self, begin: datetime, end: datetime) -> Iterator[str]:
        """What the runs' own records say of which job ran when, beside the calendar."""
        found: list[tuple[str, str]] = []
        for path in self.sandbox.runs.glob("*/journal.jsonl"):
            opened, job = _told(path)
            if job and begin <= opened < end:
                found.append((opened.isoformat(), job))
        ran = [job for _, job in sorted(found)]
        due = [each.job for each in self.played if begin <= each.at < end]
        if ran != due:
            yield f"the records name {len(ran)} runs of jobs, and {len(due)} were due, or their order is another one"


def _told(path: Path) -> tuple[datetime, str]:
    """When a run began, and which job it was, by the first line of its journal; empty where it was none."""
    with path.open() as lines:
        opened = json.loads(lines.readline())
    return datetime.fromisoformat(opened["ts"]).astimezone(UTC), str(opened["schedule"] or "")
