"""The board: one page on all operations, made at the end of each run from what the index knows.

A run's record is read once, when it is put into the index (:func:`summary`). The page, ``board.json`` and the metrics
are made of the index alone.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import charts, gauges, sections, wording
from ansible.module_utils.runbook.report import journal as journals
from ansible.module_utils.runbook.report.metrics import escaped
from ansible.module_utils.runbook.report.places import (
    ENVIRONMENTS,
    environment_of,
    give,
    give_with_files,
    make_readable,
    place_of_record,
)
from ansible.module_utils.runbook.report.render import page, write_whole
from ansible.module_utils.runbook.report.section import Line
from ansible.module_utils.runbook.report.sections import MEANING, SECTIONS
from ansible.module_utils.runbook.rules.board import index as indexes
from ansible.module_utils.runbook.rules.board import standing
from ansible.module_utils.runbook.rules.change import calendar as calendars
from ansible.module_utils.runbook.rules.record import SCHEMA_VERSION, fold, is_failure, is_frozen, is_once, short_name
from ansible.module_utils.runbook.rules.schedule import alerts, schedule
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import count, some
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ansible.module_utils.runbook.report.section import Gauge
    from ansible.module_utils.runbook.rules.board.index import Index

PAGE, DATA, METRICS = "board.html", "board.json", "board.prom"
#: Beside the runs: what the board knows, and records of other places.
INDEX, ELSEWHERE = "board-index.json", "elsewhere"
#: Version of ``board.json``.
VERSION = 1
#: Seconds that a run may spend on records that it finds for the first time; later ones go on.
PATIENCE_S = 5.0
#: A board is stale no sooner after a run was due.
_LATE = timedelta(hours=2)
#: Seconds to wait for another run that makes the board.
_LOCK_S = 30.0
#: Hosts and lines that a card names; of more it says how many.
_MOST_LINES = 6
_MOST_SENTENCE = 400
_FOLDER = re.compile(r"(?P<stamp>\d{8}T\d{6}Z)-.+")
_TONES = {"failed": "red", "unknown": "unknown", "ok": "ok"}


# --- a run, as the index keeps it -------------------------------------------------------------------------------------


def summary(record: Mapping[str, Any], folder: str = "", place: str = "") -> dict[str, Any]:
    """What the board wants to know of a run.

    :param folder: its folder beside the board; empty where it is elsewhere
    :param place: the inventory of a run that does not say which it had
    """
    hosts = record["hosts"]
    said = [
        step["figures"] for of_host in hosts.values() for step in of_host["steps"]
        if short_name(step["module"]) in MEANING.identity
    ]  # fmt: skip
    action = next((str(each["operation"]) for each in said if each.get("operation")), "")
    # A playbook that only reads asks no preflight; a run that is not the job was refused before it came to a host.
    job = next((str(each["job"]) for each in said if each.get("job")), (hosts and record.get("schedule")) or "")
    environment = environment_of(record)
    operation = standing.operation_of(record["playbook"], action, record["tags"])
    here = place_of_record(record, place)
    run = {
        "id": record["run_id"],
        "at": record["started_at"],
        "ended_at": record["ended_at"],
        "duration_s": record["duration_s"],
        "status": record["status"],
        "playbook": record["playbook"],
        "job": job,
        "tags": record["tags"],
        "limit": record["limit"],
        "inventory": named_from_root(record, here),
        "user": record["user"],
        "controller": str(record["controller"]).rpartition("/")[0],
        "confirm": environment == "production" and bool(said),
        "folder": folder,
        "cut_off": record["interrupted"],
        "once": is_once(record),
    }
    told = {
        name: [
            "failed" if of_host.get("not_run") else of_host["status"],
            "" if of_host["status"] == Status.OK else of_host.get("not_run") or _reason(of_host),
        ]
        for name, of_host in hosts.items()
    }
    if record["interrupted"]:
        told = {name: [status, _cut_off(record, msg)] for name, (status, msg) in told.items()}
    told = told or {"": [record["status"], "" if record["status"] == Status.OK else record["verdict"]]}
    # It leaves what the last run said as it was.
    skipped = is_frozen(record)
    return {
        "place": here,
        "key": indexes.key_of(operation, job),
        "status": standing.SKIPPED if skipped else record["status"],
        "run": {key: value for key, value in run.items() if value not in (None, "", [], False)},
        "hosts": {} if skipped else told,
        "facts": sections.lasting(record),
    }


def named_from_root(record: Mapping[str, Any], place: str) -> list[str]:
    """The inventory of a run for whoever does it again: that of a container is made of the project's.

    >>> named_from_root({"job": "AWX job 42", "inventory": ["/runner/inventory/hosts"]}, "production")
    ['inventories/production']
    """
    sources = map(str, record["inventory"] or ())
    return [f"inventories/{place}" if record.get("job") and source.startswith("/") else source for source in sources]


def _reason(of_host: Mapping[str, Any]) -> str:
    """What a host's worst step said."""
    bad = [step for step in of_host["steps"] if step["status"] != Status.OK and not step["handled"]]
    bad.sort(key=lambda step: not is_failure(step))
    text = " ".join(f"{bad[0]['task']}: {bad[0]['msg']}".split()) if bad else "It did not come to its end."
    return text if len(text) <= _MOST_SENTENCE else f"{text[:_MOST_SENTENCE]} …"


def _cut_off(record: Mapping[str, Any], msg: str) -> str:
    last = wording.moment(record["last_event_at"])
    return f"The run was cut off; the last that is known of it is of {last}. {msg}".strip()


# --- the index --------------------------------------------------------------------------------------------------------


@contextmanager
def held(runs: Path) -> Iterator[None]:
    """Be the only one who changes the board.

    :raises RunbookError: another one does for too long
    """
    handle = os.open(runs / ".board.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        give(handle, runs)
        until = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise RunbookError(
                        f"The board was not renewed: another run holds {runs}/.board.lock for {_LOCK_S:.0f} s; the "
                        "next run renews it."
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def load(runs: Path) -> tuple[Index, dict[str, str], str]:
    """The index beside the runs, the folders that are in it by name with their runs' ids, and what is to be said of it.

    One that is damaged is begun again, and one with damaged entries is mended: all records are put in once more. One of
    a newer version of this project is left alone.

    :raises RunbookError: it is of a newer version
    """
    try:
        text = (runs / INDEX).read_text(encoding="utf-8")
        index = indexes.read(text)
        folders = {str(name): str(run_id) for name, run_id in index.pop("folders", {}).items()}
        lost = indexes.mend(index)
    except FileNotFoundError:
        return indexes.empty(), {}, ""
    except (RunbookError, OSError, ValueError, AttributeError) as error:
        if isinstance(error, RunbookError) and error.code == "board_newer":
            raise
        return indexes.empty(), {}, "The board's index was damaged, and is made again from the records."
    if lost:
        index["seen"] = []
        are = "is" if lost == 1 else "are"
        said = f"{count(lost, 'entry', 'entries')} of the board's index {are} damaged, and made again from the records."
        return index, {}, said
    return index, folders, ""


@dataclass
class Found:
    """What lies beside the board."""

    index: Index
    #: By which it is judged what is due.
    now: datetime
    #: Runs that were cut off and have no record, and runs that are under way.
    cut_off: list[dict[str, Any]] = field(default_factory=list)
    under_way: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(
    runs: Path, index: Index, folders: dict[str, str], now: datetime, patience_s: float | None, place: str = ""
) -> Found:  # fmt: skip
    """Put in what lies beside the board and is not in it, the newest first.

    :param folders: the folders that are in it; those that are put in are added
    :param patience_s: seconds that it may take; None for as long as it needs
    :param place: the inventory of runs that do not say which they had
    """
    found, left, broken = Found(index, now), 0, 0
    until = None if patience_s is None else time.monotonic() + patience_s
    for name, path in _unread(runs, index, folders, now):
        if until is not None and time.monotonic() > until:
            left += 1
            continue
        is_here = path.parent.name == name
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["schema_version"] > SCHEMA_VERSION:
                broken += 1
                continue
            if _counts(record):
                indexes.add(index, summary(record, name if is_here else "", place), now)
            if is_here:
                folders[name] = record["run_id"]
        except FileNotFoundError:
            if is_here and (one := _without_record(path.parent, place)) is not None:
                (found.under_way if one.pop("is_alive") else found.cut_off).append(one)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            broken += 1
    if left:
        found.notes.append(
            f"{count(left, 'older record')} not read yet; the next runs read on, or playbooks/board.yml."
        )
    if broken:
        found.notes.append(f"{count(broken, 'record')} could not be read; what became of {_those(broken)} is unknown.")
    return found


def _those(runs: int) -> str:
    return "that run" if runs == 1 else "those runs"


def _unread(runs: Path, index: Index, folders: dict[str, str], now: datetime) -> list[tuple[str, Path]]:
    """Records that are not in the index, the newest first, by the names of their folders or files."""
    first = (now - indexes.KEEP).strftime("%Y%m%dT%H%M%SZ")
    found = {}
    with suppress(OSError), os.scandir(runs) as entries:
        for entry in entries:
            match = _FOLDER.fullmatch(entry.name)
            if match and match["stamp"] >= first:
                found[entry.name] = Path(entry.path)
    for gone in folders.keys() - found.keys():
        del folders[gone]
    files = [(name, path / "record.json") for name, path in found.items() if name not in folders]
    seen = set(index["seen"])
    with suppress(OSError), os.scandir(runs / ELSEWHERE) as entries:
        files += [
            (entry.name, Path(entry.path))
            for entry in entries
            if entry.name.endswith(".json") and entry.name.removesuffix(".json") not in seen
        ]
    return sorted(files, reverse=True)


def _counts(record: Mapping[str, Any]) -> bool:
    """Whether a run says anything of an operation: no dry run does, nor what was refused to a person before it began.

    A misspelt tag would be an operation of its own, which is red until it is forgotten, as nobody runs it again.
    Whoever forgot to confirm, or came outside of the window, says nothing of the job that does the same by itself.
    """
    is_begun = bool(record["interrupted"] or (record["plays"] and not _was_not_approved(record)))
    return not record["check_mode"] and bool(is_begun or record.get("schedule") or record.get("job"))


def _was_not_approved(record: Mapping[str, Any]) -> bool:
    """Whether each host was refused for what the command line said, or for the hour, before anything was touched."""
    hosts = list(record["hosts"].values())
    failed = [[one for one in host["steps"] if one["state"] in ("failed", "unreachable")] for host in hosts]
    return bool(hosts) and all(
        steps and not host["changed"] and all(_lacks_approval(one) for one in steps)
        for host, steps in zip(hosts, failed, strict=True)
    )


def _lacks_approval(step: Mapping[str, Any]) -> bool:
    checks = step["figures"].get("checks") or []
    wrong = {check["name"] for check in checks if check["status"] != Status.OK}
    return step["role"] == "preflight" and bool(wrong) and wrong <= {"approval", "calendar"}


def _without_record(folder: Path, place: str) -> dict[str, Any] | None:
    """A run that has no record: it goes on still, or was killed; None where it is neither, or changes nothing."""
    is_alive = journals.is_alive(folder / journals.FILE_NAME)
    try:
        events, torn = journals.read(folder / journals.FILE_NAME)
        record = fold(events, MEANING, torn_lines=torn)
    except (OSError, RunbookError):
        return None
    return None if record["check_mode"] else summary(record, folder.name, place) | {"is_alive": is_alive}


#: Name of an inventory, and what is known of it, as ``indexes.note_plan`` takes it.
Plan = tuple[str, Mapping[str, Any]]


def known(runs: Path, now: datetime, plan: Plan) -> Index:
    """Put what is new into the index; what it then knows of an inventory, for the state store.

    One that is damaged stays so until :func:`renew` mends it, which can say so.

    :raises RunbookError: it cannot be made, with the fix
    :raises OSError: a file cannot be written
    """
    with held(runs):
        return _part(_collected(runs, now, plan, None, PATIENCE_S, keeps_damage=True).index, plan[0])


def renew(
    runs: Path, now: datetime, *, plan: Plan | None = None, others: Index | None = None, notes: Sequence[str] = (),
    patience_s: float | None = PATIENCE_S,
) -> Path:  # fmt: skip
    """Put what is new into the index, and make the board.

    :param runs: the folder of all runs
    :param others: what the state store knows
    :param notes: what the page says of itself
    :return: the page
    :raises RunbookError: it cannot be made, with the fix
    :raises OSError: a file cannot be written
    """
    with held(runs):
        found = _collected(runs, now, plan, others, patience_s)
        for each in found.cut_off:
            indexes.add(found.index, each, found.now)
        board = view(found.index, found.now, found.under_way, [*notes, *found.notes])
        write_whole(runs / DATA, json.dumps(data(board), indent=1, allow_nan=False) + "\n")
        give_with_files(runs / ELSEWHERE)
        make_readable(runs / "metrics")
        write_whole(runs / "metrics" / METRICS, metrics(board), mode=0o644)
        write_whole(runs / PAGE, html(board))
    return runs / PAGE


def _collected(
    runs: Path, now: datetime, plan: Plan | None, others: Index | None, patience_s: float | None, *,
    keeps_damage: bool = False,
) -> Found:  # fmt: skip
    """The index with all that is new, as it is written down.

    :param keeps_damage: a damaged one is not written in order again
    """
    index, folders, note = load(runs)
    if others is not None:
        indexes.merge(index, others)
    now, doubt = indexes.not_before(index, now)
    if plan is not None:
        indexes.note_plan(index, plan[0], plan[1], plan[1]["schedules"])
    known_places = list(index["places"])
    place = plan[0] if plan is not None else known_places[0] if len(known_places) == 1 else ""
    found = collect(runs, index, folders, now, patience_s, place)
    found.notes += doubt
    indexes.forget(index, now)
    if not (note and keeps_damage):
        write_whole(runs / INDEX, indexes.write(index | {"folders": folders}))
    if note:
        found.notes.insert(0, note)
    return found


def _part(index: Index, place: str) -> Index:
    """What an index knows of one inventory; runs of others are none of its state store's."""
    known = index["places"].get(place)
    found = indexes.empty()
    if known is not None:
        runs = {
            run_id: {key: value for key, value in run.items() if key != "folder"}
            for run_id, run in known["runs"].items()
        }
        found["places"][place] = known | {"runs": runs}
        found["seen"] = sorted({run[2] for each in known["recent"].values() for run in each} | set(runs))
    return found


# --- what the board shows ---------------------------------------------------------------------------------------------


def jobs_of(place: Mapping[str, Any], now: datetime) -> tuple[list[standing.Job], str]:
    """The scheduled jobs of an inventory, or why nobody knows them.

    :param place: what the index knows of it
    """
    plan = place["plan"]
    given = plan.get("schedules") or {}
    if not isinstance(given, Mapping):
        return [], "schedule_jobs is no dictionary; correct it in the inventory."
    try:
        jobs = schedule.read(given)
        # Jobs of which no group has a host are scheduled nowhere.
        kept, _ = schedule.with_hosts(jobs, plan["groups"]) if plan.get("groups") else (jobs, [])
        calendar = _calendar(plan)
        return [_job(each, place, calendar, now) for each in kept.values()], ""
    except RunbookError as error:
        return [], error.message


def _job(
    each: schedule.Schedule, place: Mapping[str, Any], calendar: calendars.Calendar, now: datetime
) -> standing.Job:
    plan = place["plan"]
    playbook = each.playbook.removesuffix(".yml")
    action = next((schedule.said(value) for name, value in each.variables if name.endswith("_action")), "")
    # Where it is approved, under the job's name: so it counts as the run that was missed.
    approved = any(
        f"{each.playbook} {word}".strip() in calendars.OPERATIONS
        for word in (action, "".join(each.tags))
        if word or not action
    )
    command = f"ansible-playbook -i {shlex.quote(str(plan['inventory']))} playbooks/{each.shown}"
    if approved:
        # A disabled one is a person's.
        said = f"preflight_job={each.job}" if each.enabled else f"confirm={plan['environment']}"
        command += f" -e {said}"
    closed = _closed(each, action, place, calendar)
    # Most jobs no freeze can hold, and a year of an hourly one has many times.
    skipped_at = schedule.last_due(each, now, lambda at: bool(closed(at))) if closed else None
    counts = (lambda at: not closed(at)) if closed else schedule.always
    return standing.Job(
        each.job,
        standing.operation_of(playbook, f"{each.playbook} {action}", each.tags),
        command,
        each.hosts,
        due_at=schedule.last_due(each, now - each.patience, counts),
        next_at=schedule.next_due(each, now, counts) if each.enabled else None,
        skipped_at=skipped_at,
        freeze=closed(skipped_at) if closed and skipped_at else "",
        takes=each.max_duration,
        disabled=each.disabled,
    )


def _closed(
    each: schedule.Schedule, action: str, place: Mapping[str, Any], calendar: calendars.Calendar
) -> Callable[[datetime], str] | None:
    """What says of a time at which a job is due which freeze keeps it from running, if one does; None where none can.

    The calendar says it, and so do runs that came then and were refused: a freeze that is over may be taken out. A run
    that came later says nothing of the time at which it was due: the freeze may have begun in between.
    """
    operation = calendars.operation_named(calendar, each.playbook, [*filter(None, [action]), *each.tags])
    refused = [
        datetime.fromisoformat(run[0])
        for run in place["recent"].get(indexes.key_of("", each.job), ())
        if run[1] == standing.SKIPPED
    ]
    if not refused and (not calendar.freezes or calendar.operations.get(operation, "none") == "none"):
        return None

    def closed(at: datetime) -> str:
        freeze = calendars.closed_by(calendar, operation, at)
        if freeze is not None:
            return f"The freeze {freeze.id} ({freeze.reason}; owner: {freeze.owner})"
        came = any(abs(run - at) <= standing.EARLY for run in refused)
        return "A freeze" if came and calendars.has_window(calendar, operation, at) else ""

    return closed


def _calendar(plan: Mapping[str, Any]) -> calendars.Calendar:
    """The calendar of an inventory; one without a freeze where it cannot be read, which its card says."""
    try:
        return calendars.read(plan["calendar"], plan["operations"])
    except (RunbookError, KeyError, AttributeError, TypeError):
        return calendars.Calendar((), (), {})


def view(
    index: Index, now: datetime, under_way: Sequence[Mapping[str, Any]] = (), notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything that the page shows."""
    order = {name: number for number, name in enumerate(ENVIRONMENTS)}
    names = {*index["places"], *(each["place"] for each in under_way)}
    places = [
        _shown(index["places"].get(name) or indexes.empty_place(), name, now,
               [each for each in under_way if each["place"] == name])
        for name in sorted(names, key=lambda name: (order.get(name, len(order)), name))
    ]  # fmt: skip
    # By then a run that was due has ended, and renewed the board.
    ends = [row.next_at + max(row.takes, _LATE) for place in places for row in place["rows"] if row.next_at is not None]
    tones = [need["tone"] for place in places for need in place["needs"]]
    stale_at = min(ends, default=now + timedelta(days=1))
    return {
        "made_at": now,
        "stale_at": stale_at,
        # Each note is about something that is not known.
        "tone": "failed" if "failed" in tones else "unknown" if tones or notes or not places else "ok",
        "sentence": _sentence(places, tones),
        "places": places,
        "notes": list(notes),
    }


def _sentence(places: Sequence[Mapping[str, Any]], tones: Sequence[str]) -> str:
    if not places:
        return "No run is known."
    parts = [
        f"{count(tones.count(tone), 'point')} {word}" for tone, word in (("failed", "red"), ("unknown", "unknown"))
        if tone in tones
    ]  # fmt: skip
    well = sum(row.state == standing.OK for place in places for row in place["rows"])
    return ", ".join([*parts, f"{count(well, 'operation')} ok"]) + "."


def _shown(
    place: Mapping[str, Any], name: str, now: datetime, under_way: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    plan = place["plan"]
    jobs, why = jobs_of(place, now)
    rows = standing.rows(place, jobs, now, under_way)
    cards = [card for card in (_card(gauge, place, now) for gauge in _gauges()) if card is not None]
    cards.sort(key=lambda card: list(_TONES).index(card["tone"]))
    # They have nothing to show, and nothing is to be done: one point for all of them.
    new = [row for row in rows if row.state == standing.NEVER and row.next_at is not None]
    new = new if len(new) > 1 else []
    needs = [
        _need(row.tone, row.name, row.state, row.msg, command=row.command,
              folder=row.odd[0].run.get("folder", "") if row.odd else "")
        for row in rows if row.is_urgent and row not in new
    ]  # fmt: skip
    if new:
        first = min(row.next_at for row in new if row.next_at is not None)
        jobs_said = f"{count(len(new), 'job')} never ran yet: {some([row.name for row in new])}."
        needs.append(_need("unknown", "Schedules", standing.NEVER, f"{jobs_said} The first is due {_when(first)}."))
    # A run that failed because of what a card shows has said so.
    said = {row.operation for row in rows if row.state == standing.FAILED and row.is_urgent}
    needs += [need for card in cards for need in card["needs"] if card["operation"] not in said]
    window = _window(plan, now)
    if window["tone"] in ("failed", "unknown"):
        needs.append(_need(window["tone"], "Calendar", window["tone"], window["text"]))
    if why:
        needs.append(_need("unknown", "Schedules", "unknown", why))
    needs.sort(key=lambda need: need["tone"] != "failed")
    hosts = {host for found in (plan.get("groups") or {}).values() for host in found}
    gone = sorted({host for found in place["hosts"].values() for host in found if host and hosts and host not in hosts})
    return {
        "name": name,
        "environment": plan.get("environment", ""),
        "needs": needs,
        "rows": rows,
        "cards": cards,
        "window": window,
        "gone": gone,
        "hosts": len(hosts),
    }


def _gauges() -> list[Gauge]:
    return [section.gauge for section in SECTIONS if section.gauge is not None]


def _card(gauge: Gauge, place: Mapping[str, Any], now: datetime) -> dict[str, Any] | None:
    """A card: its lines of all hosts, what is odd first; None where nobody has to have it."""
    groups = place["plan"].get("groups") or {}
    known = {host for hosts in groups.values() for host in hosts}
    have_to = {host for group in gauge.groups for host in groups.get(group, ())}
    found: list[tuple[str, Line]] = []
    for host in sorted({*place["facts"], *have_to}):
        if known and host not in known:
            continue
        facts = {metric: fact[1] for metric, fact in place["facts"].get(host, {}).items()}
        lines = list(gauge.lines(facts, now.timestamp()))
        if not lines and host in have_to:
            lines = [Line("", "never", Status.UNKNOWN, "No run has looked here yet.")]
        found += [(host, line) for line in lines]
    if not found and (gauge.is_optional or (gauge.groups and known)):
        return None
    if not found:
        found = [("", Line("", "never", Status.UNKNOWN, "No run has looked yet."))]
    order = list(Status)
    found.sort(key=lambda each: order.index(each[1].status))
    hosts = {host for host, _ in found}
    bad = [(host, line) for host, line in found if line.status != Status.OK]
    return {
        "title": gauge.title,
        "operation": " ".join(re.sub(r"\.yml| -\S+", "", gauge.look).split()),
        "tone": charts.tone_of(worst(line.status for _, line in found)),
        "lines": [
            {"who": " · ".join(filter(None, (host if len(hosts) > 1 else "", line.subject))) or host or wording.NONE,
             "text": line.text, "tone": charts.tone_of(line.status), "share": line.share}
            for host, line in found
        ],
        "most": _MOST_LINES,
        "needs": _needs_of(gauge, bad, len(hosts), place["plan"]),
    }  # fmt: skip


def _needs_of(
    gauge: Gauge, bad: Sequence[tuple[str, Line]], hosts: int, plan: Mapping[str, Any]
) -> list[dict[str, Any]]:  # fmt: skip
    """What needs a person, the same sentence once."""
    said: dict[tuple[str, str, str], list[tuple[str, Line]]] = {}
    for host, line in bad:
        said.setdefault((charts.tone_of(line.status), line.msg, line.fix or gauge.look), []).append((host, line))
    needs = []
    for (tone, msg, command), lines in said.items():
        names = [" ".join(filter(None, (host if hosts > 1 else "", line.subject))) for host, line in lines]
        texts = {line.text for _, line in lines}
        named = some([each for each in names if each])
        text = f"{named}: {texts.pop()}. {msg}" if len(texts) == 1 and named else f"{named}. {msg}" if named else msg
        needs.append(
            _need(tone, gauge.title, "red" if tone == "failed" else "unknown", text, command=_command(command, plan))
        )
    return needs


def _need(tone: str, what: str, word: str, msg: str, *, command: str = "", folder: str = "") -> dict[str, Any]:
    return {"tone": tone, "what": what, "word": word, "msg": msg, "command": command, "folder": folder}


def _command(words: str, plan: Mapping[str, Any]) -> str:
    """The command of a playbook and its options, in an inventory."""
    playbook, _, options = words.partition(" ")
    action = next((each.partition("=")[2] for each in options.split() if "_action=" in each), "")
    confirm = ""
    if plan.get("environment") == "production" and f"{playbook} {action}".strip() in calendars.OPERATIONS:
        confirm = " -e confirm=production"
    inventory = f" -i {shlex.quote(str(plan['inventory']))}" if plan.get("inventory") else ""
    return f"ansible-playbook{inventory} playbooks/{words}{confirm}"


def _window(plan: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Whether changes may be made now, and what comes next."""
    if not plan:
        return {"tone": "unknown", "text": "No run has told the calendar of this inventory yet.", "facts": []}
    if not isinstance(plan["calendar"], Mapping) or not isinstance(plan["operations"], Mapping):
        msg = "maintenance_calendar or maintenance_operations is no dictionary; correct it in the inventory."
        return {"tone": "unknown", "text": msg, "facts": []}
    try:
        calendar = calendars.read(plan["calendar"], plan["operations"])
    except RunbookError as error:
        return {"tone": "unknown", "text": error.message, "facts": []}
    if not calendar.windows:
        tone = "failed" if plan.get("environment") == "production" else "ok"
        return {"tone": tone, "text": "There is no calendar, so every hour is open.", "facts": []}
    stand = calendars.stand(calendar, "", "weekly", now)
    ahead = calendars.occurrences(calendar, now, now + timedelta(days=100))
    freezes = sorted((each for each in calendar.freezes if each.end > now), key=lambda each: each.begin)
    facts = [
        (f"{each.id} window", f"{calendars.said_at(each.begin)} to {each.end:%H:%M}")
        for each in ahead
        if each.begin > now
    ][:3]
    for each in freezes[:2]:
        until = each.begin <= now
        when = f"{'until' if until else 'from'} {calendars.said_at(each.end if until else each.begin)}"
        facts.append((f"freeze {each.id}", f"{when}: {each.reason} ({each.owner})"))
    return {"tone": "ok" if stand.is_open else "handled", "text": stand.msg, "facts": facts}


# --- files ------------------------------------------------------------------------------------------------------------

#: Says how old the page is when it is read. Its hash is in the page's policy, so that nothing else can run there.
_SCRIPT = """
(function () {
  var box = document.getElementById("age"), made = Date.parse(box.dataset.made), stale = Date.parse(box.dataset.stale);
  function tell() {
    var now = Date.now(), min = Math.floor((now - made) / 60000), hours = Math.floor(min / 60);
    var old = min < 1 ? "just now" : min < 120 ? min + " min ago" : hours < 48 ? hours + " h ago"
      : Math.floor(hours / 24) + " days ago";
    // By a clock that is behind nobody can say whether it is stale.
    box.textContent = min < -5 ? "Made in the future: the clock of this machine is wrong, or of the one that made it; "
      + "its age is unknown" : "Made " + old;
    document.body.classList.toggle("future", min < -5);
    document.body.classList.toggle("stale", now > stale && min >= -5);
  }
  tell(); setInterval(tell, 30000);
})();
"""


def html(board: Mapping[str, Any]) -> str:
    """The board as one page that needs nothing else."""
    script = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return page(
        "board.html.j2", ("report.css", "board.css"), board=board,
        script=Markup(_SCRIPT),  # noqa: S704 - our own words
        script_sha256=script, iso=lambda moment: moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        when=_when, ago=lambda stamp: _ago(stamp, board["made_at"]),
    )  # fmt: skip


def _when(moment: datetime | None) -> str:
    return wording.NONE if moment is None else calendars.said_at(moment)


def _ago(stamp: str | None, now: datetime) -> str:
    if not stamp:
        return "never"
    seconds = (now - datetime.fromisoformat(stamp)).total_seconds()
    return f"{gauges.span(seconds)} ago" if seconds >= 0 else wording.moment(stamp)


def data(board: Mapping[str, Any]) -> dict[str, Any]:
    """The board for programs."""
    return {
        "schema_version": VERSION,
        "made_at": board["made_at"].isoformat(timespec="seconds"),
        "stale_at": board["stale_at"].isoformat(timespec="seconds"),
        "status": _TONES[board["tone"]],
        "sentence": board["sentence"],
        "notes": board["notes"],
        "places": {
            place["name"]: {
                "needs": [{key: need[key] for key in need if key != "folder"} for need in place["needs"]],
                "window": {"text": place["window"]["text"], "next": dict(place["window"]["facts"])},
                "operations": [_operation(row) for row in place["rows"]],
                "cards": [
                    {"title": card["title"], "status": card["tone"],
                     "lines": [{key: line[key] for key in ("who", "text", "tone", "share")} for line in card["lines"]]}
                    for card in place["cards"]
                ],
                "hosts_gone": place["gone"],
            }
            for place in board["places"]
        },
    }  # fmt: skip


def _operation(row: standing.Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "job": row.job,
        "state": row.state,
        "sentence": row.msg,
        "command": row.command,
        "hosts": row.hosts,
        "odd_hosts": {each.host: each.state for each in row.odd if each.host},
        "last_run_id": row.last.get("id"),
        "last_at": row.last.get("at"),
        "last_good_at": row.good.get("at"),
        "next_at": row.next_at.isoformat() if row.next_at else None,
        "recent": list(row.recent),
    }


def metrics(board: Mapping[str, Any]) -> str:
    """The board for Prometheus: that it is renewed, how many operations are in which state, what a freeze skipped."""
    lines = [
        "# HELP runbook_board_made_timestamp_seconds When the board was made.",
        "# TYPE runbook_board_made_timestamp_seconds gauge",
        f"runbook_board_made_timestamp_seconds {board['made_at'].timestamp()!r}",
        "# HELP runbook_board_points Points on the board that need a person, by colour.",
        "# TYPE runbook_board_points gauge",
    ]
    for place in board["places"]:
        for tone, word in (("failed", "red"), ("unknown", "unknown")):
            found = sum(need["tone"] == tone for need in place["needs"])
            lines.append(f'runbook_board_points{{inventory="{escaped(place["name"])}",state="{word}"}} {found}')
    lines += [
        f"# HELP {alerts.SKIPPED} When a freeze last kept a scheduled job from running with which all else is well.",
        f"# TYPE {alerts.SKIPPED} gauge",
    ]
    for place in board["places"]:
        for row, host in ((each, host) for each in place["rows"] for host in each.skipped_on):
            labels = {
                "environment": place["environment"], "schedule": row.job, "host": host, "inventory": place["name"],
            }  # fmt: skip
            inside = ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
            lines.append(f"{alerts.SKIPPED}{{{inside}}} {row.skipped_at.timestamp()!r}")
    return "\n".join(lines) + "\n"
