"""What the board knows of all runs, small enough to be read and written at the end of each of them.

Of each operation it keeps the last run and the last good run of each host, the states of the newest runs, and what
outlasts a run: the metrics that a host's runs found out. It grows with operations and hosts, not with runs.

Runs are put in in any order, and any number of times: of two the newer one counts, by the time of its start. So indexes
of two places are joined without a loss, whoever was first, and one that is damaged is made again from the records.

Nothing of it is a secret or the content of a row: it is made of records.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SCHEMA = "runbook-board"
SCHEMA_VERSION = 1
#: Older runs are no more looked for, and are forgotten where nothing newer is known of them.
KEEP = timedelta(days=400)
#: States of an operation's newest runs that are drawn side by side.
RECENT = 20
#: A clock may be so far ahead of another before what it dates is doubted.
SKEW = timedelta(minutes=5)

#: An index as it is written; the form stands in :func:`empty` and :func:`empty_place`.
Index = dict[str, Any]


def empty() -> Index:
    """An index of no run."""
    # seen: ids of the runs that are in it. places: by inventory. now: the newest time that a store with a clock of its
    # own told; empty where none did.
    return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "seen": [], "places": {}, "now": ""}


def empty_place() -> dict[str, Any]:
    """What is known of an inventory of which nothing is known."""
    return {
        # What the newest run knew of its inventory; see note_plan.
        "plan": {},
        # By job, since when it is scheduled.
        "since": {},
        # By run id, the runs that are referred to below.
        "runs": {},
        # By operation (key_of) and host: last [run id, status, sentence], good: run id.
        "hosts": {},
        # By operation: [begin, status, run id] of the newest runs.
        "recent": {},
        # By host and metric: [begin of the run, value].
        "facts": {},
    }


def _place(index: Index, name: str) -> dict[str, Any]:
    """What is known of one inventory; it is begun where nothing is."""
    place: dict[str, Any] = index["places"].setdefault(name, empty_place())
    return place


def read(text: str) -> Index:
    """The index that was written.

    :raises RunbookError: it is damaged (code ``board_damaged``), or of a newer version of this project
        (``board_newer``)
    """
    damaged = RunbookError("The board's index is damaged; it is made again from the records.", code="board_damaged")
    try:
        found = json.loads(text)
        version = found["schema_version"]
        if found["schema"] != SCHEMA or not isinstance(version, int):
            raise damaged
    except (ValueError, KeyError, TypeError):
        raise damaged from None
    if version > SCHEMA_VERSION:
        raise RunbookError(
            f"The board's index has version {version}, and this project knows {SCHEMA_VERSION}; update the project "
            "here.",
            code="board_newer",
        )
    try:
        if not isinstance(found["seen"], list) or not all(
            isinstance(place[key], dict) for place in found["places"].values() for key in empty_place()
        ):
            raise damaged
    except (KeyError, TypeError, AttributeError):
        raise damaged from None
    index: Index = found
    return index


def mend(index: Index) -> int:
    """Take out entries that no run can have written, and what refers to them; how many they were.

    What they said is unknown until it is put in again. Without this one broken entry would keep the board from being
    made, on every machine that shares it.
    """
    given = index["seen"]
    index["seen"] = [run_id for run_id in given if isinstance(run_id, str)]
    lost = len(given) - len(index["seen"])
    if index.get("now") and not _is_moment(index["now"]):
        index["now"], lost = "", lost + 1
    for place in index["places"].values():
        if place["plan"] and not _is_plan(place["plan"]):
            place["plan"], lost = {}, lost + 1
        lost += _keep(place["since"], lambda _, at: _is_moment(at))
        lost += _keep(place["runs"], _is_run)
        lost += _keep(place["hosts"], _is_dict) + _keep(place["facts"], _is_dict)
        lost += _keep(place["recent"], lambda _, runs: isinstance(runs, list))
        for hosts in place["hosts"].values():
            lost += _keep(hosts, partial(_is_of_host, place["runs"]))
        for facts in place["facts"].values():
            lost += _keep(facts, lambda _, fact: _is_list(fact, 2) and _is_moment(fact[0]))
        for runs in place["recent"].values():
            whole = [run for run in runs if _is_recent(run)]
            lost, runs[:] = lost + len(runs) - len(whole), whole
    return lost


def _keep(found: dict[str, Any], is_whole: Callable[[str, Any], bool]) -> int:
    """Take out what is not whole; how much that was."""
    broken = [name for name, each in found.items() if not is_whole(name, each)]
    for name in broken:
        del found[name]
    return len(broken)


def _is_dict(_: str, value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def _is_recent(run: Any) -> bool:
    return _is_list(run, 3) and all(isinstance(each, str) for each in run) and _is_moment(run[0])


def _is_moment(value: Any) -> bool:
    try:
        found = datetime.fromisoformat(value)
        # Near the ends of the calendar a moment may be none in UTC.
        return found.tzinfo is not None and bool(found.astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        return False


def _is_plan(plan: Mapping[str, Any]) -> bool:
    groups = plan.get("groups")
    return (
        _is_moment(plan.get("at"))
        and all(isinstance(plan.get(name), str) for name in ("environment", "inventory"))
        and {"calendar", "operations", "schedules"} <= plan.keys()
        and isinstance(groups, dict)
        and all(isinstance(hosts, list) and all(isinstance(host, str) for host in hosts) for hosts in groups.values())
    )


#: What is said of a run besides its id, where it is said.
_OF_RUN: dict[str, type | tuple[type, ...]] = {
    "ended_at": str, "dated": str, "status": str, "job": str, "limit": str, "user": str, "controller": str,
    "folder": str, "duration_s": (int, float), "tags": list, "inventory": list,
}  # fmt: skip


def _is_run(run_id: str, run: Any) -> bool:
    return (
        isinstance(run, dict)
        and run.get("id") == run_id
        and isinstance(run.get("playbook"), str)
        and _is_moment(run.get("at"))
        and ("dated" not in run or _is_moment(run["dated"]))
        and all(isinstance(run[name], form) for name, form in _OF_RUN.items() if name in run)
    )


def _is_of_host(runs: Mapping[str, Any], _: str, of_host: Any) -> bool:
    if not isinstance(of_host, dict) or not of_host.keys() >= {"last", "good"}:
        return False
    last, good = of_host["last"], of_host["good"]
    is_last = last is None or (_is_list(last, 3) and all(isinstance(each, str) for each in last) and last[0] in runs)
    return is_last and (good is None or (isinstance(good, str) and good in runs))


def write(index: Index) -> str:
    """An index as text; the same one always gives the same."""
    return json.dumps(index, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def number(value: Any) -> float | None:
    """A figure as it was put in; JSON has neither infinity nor "not a number".

    >>> number(3), number("+Inf"), number("NaN") is None, number(None) is None
    (3.0, inf, False, True)
    """
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def plain(value: Any) -> Any:
    """A metric's value as JSON has it.

    >>> plain({"a": float("inf"), "b": 2.0}), plain(float("nan"))
    ({'a': '+Inf', 'b': 2.0}, 'NaN')
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, float) and math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return value


def by_clock_of_store(now: datetime, ahead_s: float) -> tuple[datetime, list[str]]:
    """What time it is where the clocks of this machine and of the state store disagree, and what is to be said of it.

    :param now: by the clock of this machine
    :param ahead_s: seconds that it is ahead of the store's
    """
    if abs(ahead_s) <= SKEW.total_seconds():
        return now, []
    way = "ahead of" if ahead_s > 0 else "behind"
    told = (
        f"The clock of this machine is {count(round(abs(ahead_s) / 60), 'minute')} {way} the state store's; set it. "
        "Its runs of that time are dated wrong, and what is due is judged by the store's clock."
    )
    return now - timedelta(seconds=ahead_s), [told]


def not_before(index: Index, now: datetime) -> tuple[datetime, list[str]]:
    """What time it is where this machine's clock is behind what a state store told earlier, and what is to be said.

    With a clock that is behind all that others did would lie in the future.
    """
    known = index.get("now", "")
    if not known or datetime.fromisoformat(known) <= now + SKEW:
        return now, []
    return by_clock_of_store(now, (now - datetime.fromisoformat(known)).total_seconds())


# --- putting in -------------------------------------------------------------------------------------------------------


def add(index: Index, summary: Mapping[str, Any], now: datetime) -> None:
    """Put a run in.

    A run that is dated in the future counts as one of now, and is marked: no later run would ever count as newer.

    :param summary: ``place``, ``key`` (of its operation; see :func:`key_of`), ``run`` (``id``, ``at``, and what the
        board says of it), ``status``, ``hosts`` (by name, ``[status, sentence]``; a run that came to no host has one
        without a name), ``facts`` (by host and metric)
    """
    run = dict(summary["run"])
    at = datetime.fromisoformat(run["at"])
    if at > now + SKEW:
        run |= {"at": _stamp(now), "dated": run["at"]}
    place = _place(index, summary["place"])
    run = place["runs"].setdefault(run["id"], run)
    order = run["at"], run["id"]
    known = place["hosts"].setdefault(summary["key"], {})
    for host, (status, sentence) in summary["hosts"].items():
        of_host = known.setdefault(host, {"last": None, "good": None})
        if order >= _order(place, of_host["last"] and of_host["last"][0]):
            of_host["last"] = [run["id"], status, sentence]
        if status == Status.OK and order > _order(place, of_host["good"]):
            of_host["good"] = run["id"]
    _note_recent(place, summary["key"], [[run["at"], summary["status"], run["id"]]])
    for host, facts in summary["facts"].items():
        _note_facts(place, host, {name: [run["at"], plain(value)] for name, value in facts.items()})
    _note_seen(index, [run["id"]])


def key_of(operation: str, job: str) -> str:
    """Under which name runs of one operation are kept: those of a scheduled job apart from those by hand.

    >>> key_of("backup_verify", ""), key_of("backup_verify", "weekly-proof")
    ('backup_verify', 'job:weekly-proof')
    """
    return f"job:{job}" if job else operation


def note_plan(index: Index, name: str, plan: Mapping[str, Any], jobs: Iterable[str]) -> None:
    """Keep what a run knew of its inventory: the newest counts.

    :param plan: ``at`` (when it was read), ``environment``, ``groups`` (hosts by group), ``calendar``, ``operations``
        (which windows they need), ``schedules``; ``is_part`` where its hosts may be a slice of the inventory
    :param jobs: names of the scheduled jobs
    """
    place = _place(index, name)
    joined = _joined(place["plan"], plan)
    if joined != place["plan"]:
        place["plan"] = joined
        place["since"] = {job: place["since"].get(job, plan["at"]) for job in jobs}


def _joined(known: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Of two plans the newer one. One of a part of the hosts joins those like it, and yields to one of all hosts."""
    older, newer = sorted((known, other), key=lambda plan: str(plan.get("at", "")))
    if not newer.get("is_part") or not older:
        return dict(newer)
    if not older.get("is_part"):
        return dict(older)
    groups = {
        name: sorted({host for plan in (older, newer) for host in plan["groups"].get(name, ())})
        for name in {*older["groups"], *newer["groups"]}
    }
    return dict(newer) | {"groups": groups}


def merge(index: Index, other: Index) -> None:
    """Put in what another index knows."""
    for name, theirs in other["places"].items():
        place = _place(index, name)
        place["runs"] = theirs["runs"] | place["runs"]
        joined = _joined(place["plan"], theirs["plan"])
        if joined != place["plan"]:
            place["plan"] = joined
            place["since"] = theirs["since"] | {job: at for job, at in place["since"].items() if job in theirs["since"]}
        for job in place["since"].keys() & theirs["since"].keys():
            place["since"][job] = min(place["since"][job], theirs["since"][job])
        for operation, hosts in theirs["hosts"].items():
            known = place["hosts"].setdefault(operation, {})
            for host, found in hosts.items():
                of_host = known.setdefault(host, {"last": None, "good": None})
                for which, run_id in (("last", found["last"] and found["last"][0]), ("good", found["good"])):
                    mine = of_host[which][0] if which == "last" and of_host[which] else of_host[which]
                    if run_id and _order(place, run_id) > _order(place, mine):
                        of_host[which] = found[which]
        for operation, runs in theirs["recent"].items():
            _note_recent(place, operation, runs)
        for host, facts in theirs["facts"].items():
            _note_facts(place, host, facts)
    _note_seen(index, other["seen"])
    index["now"] = max(index.get("now", ""), other.get("now", ""))


def forget(index: Index, now: datetime) -> None:
    """Leave out what is older than :data:`KEEP`, and runs that nothing refers to any more."""
    first = (now - KEEP).strftime("%Y%m%dT%H%M%SZ")
    oldest = _stamp(now - KEEP)
    _doubt(index, now)
    index["seen"] = [run_id for run_id in index["seen"] if run_id >= first]
    for place in index["places"].values():
        for runs in place["recent"].values():
            runs[:] = [run for run in runs if run[2] >= first]
        for hosts in place["hosts"].values():
            for host in [name for name, each in hosts.items() if not each["last"] or each["last"][0] < first]:
                del hosts[host]
        place["hosts"] = {operation: hosts for operation, hosts in place["hosts"].items() if hosts}
        place["recent"] = {operation: runs for operation, runs in place["recent"].items() if runs}
        used = {each["good"] for hosts in place["hosts"].values() for each in hosts.values()}
        used |= {each["last"][0] for hosts in place["hosts"].values() for each in hosts.values()}
        place["runs"] = {run_id: run for run_id, run in place["runs"].items() if run_id in used}
        for host, facts in list(place["facts"].items()):
            place["facts"][host] = {name: fact for name, fact in facts.items() if fact[0] >= oldest}
            if not place["facts"][host]:
                del place["facts"][host]


def note_clock(index: Index, now: datetime) -> None:
    """Keep what a store with a clock of its own told."""
    index["now"] = _stamp(now)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _doubt(index: Index, now: datetime) -> None:
    """Let what a wrong clock dated in the future count as of now: nothing later would ever count as newer."""
    latest, told = _stamp(now + SKEW), _stamp(now)
    for place in index["places"].values():
        if place["plan"].get("at", "") > latest:
            place["plan"] = place["plan"] | {"at": told}
        place["since"] = {job: told if at > latest else at for job, at in place["since"].items()}
        for run_id, run in place["runs"].items():
            if run["at"] > latest:
                place["runs"][run_id] = run | {"at": told, "dated": run.get("dated", run["at"])}
        for runs in place["recent"].values():
            runs[:] = sorted([told, *run[1:]] if run[0] > latest else run for run in runs)
        for host, facts in place["facts"].items():
            place["facts"][host] = {name: [told, fact[1]] if fact[0] > latest else fact for name, fact in facts.items()}


def _order(place: Mapping[str, Any], run_id: str | None) -> tuple[str, str]:
    """Where a run stands in the order of time; what is none stands before all."""
    return (place["runs"][run_id]["at"], run_id) if run_id in place["runs"] and run_id else ("", "")


def _note_recent(place: dict[str, Any], operation: str, runs: Iterable[list[str]]) -> None:
    # What is known stays: a clock that is behind doubts what others have right.
    found = {run[2]: run for run in runs} | {run[2]: run for run in place["recent"].get(operation, ())}
    place["recent"][operation] = sorted(found.values())[-RECENT:]


def _note_facts(place: dict[str, Any], host: str, facts: Mapping[str, Any]) -> None:
    known = place["facts"].setdefault(host, {})
    for name, fact in facts.items():
        if fact[0] >= known.get(name, ("",))[0]:
            known[name] = fact


def _note_seen(index: Index, run_ids: Iterable[str]) -> None:
    index["seen"] = sorted({*index["seen"], *run_ids})
