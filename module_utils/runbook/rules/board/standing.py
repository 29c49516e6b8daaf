"""How it stands with each operation: what the board says of it, and what a person has to do.

Green is only what ran, ended, and said that all is well, on each host that it is for, since it was last due. What never
ran, did not end, was missed or is dated in the future says so; the worst of the hosts counts. A job that a freeze kept
from running was not missed, and is not green either: its last run stays what it was, and a good one reads as skipped.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.change.calendar import said_at
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import agree, count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: A run that began so long before its time is that run: clocks differ.
EARLY = timedelta(minutes=10)
#: What nobody scheduled, and failed, is one of the first things on the board for so long; then it stands in its row.
BY_HAND = timedelta(days=7)

FAILED, CUT_OFF, MISSED = "failed", "did not end", "missed"
UNKNOWN, NEVER, FUTURE = "unknown", "never run", "clock is wrong"
OK, RUNNING, SKIPPED, DISABLED = "ok", "running", "skipped", "disabled"
#: How each is coloured; the worst first.
TONES = {
    FAILED: "failed", CUT_OFF: "failed", MISSED: "failed",
    FUTURE: "unknown", UNKNOWN: "unknown", NEVER: "unknown",
    RUNNING: "handled", SKIPPED: "handled", OK: "ok", DISABLED: "handled",
}  # fmt: skip
_ORDER = list(TONES)


@dataclass(frozen=True)
class Job:
    """A scheduled job as the board needs it."""

    name: str
    #: The operation as runs by hand have it; see :func:`operation_of`.
    operation: str
    command: str
    #: Groups of the inventory that it is for.
    groups: tuple[str, ...]
    #: The newest time for which it must have run by now, and when it is due next; None where there is none. Times at
    #: which a freeze keeps it from running are none of these.
    due_at: datetime | None = None
    next_at: datetime | None = None
    #: The newest time at which a freeze kept it from running, and what is said of that freeze; None where none did.
    skipped_at: datetime | None = None
    freeze: str = ""
    #: How long that run may take.
    takes: timedelta = timedelta()
    #: Why it does not run by itself; empty where it does.
    disabled: str = ""


@dataclass(frozen=True)
class Of:
    """How it stands with an operation on one host."""

    host: str
    state: str
    msg: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """How it stands with one operation."""

    name: str
    #: Name of the job; empty where nobody scheduled it.
    job: str
    operation: str
    state: str
    msg: str
    command: str
    #: Hosts that are not ok, the worst first; and how many there are in all.
    odd: tuple[Of, ...]
    hosts: int
    last: Mapping[str, Any]
    #: The oldest of the hosts' last good runs; empty where a host never had one.
    good: Mapping[str, Any]
    next_at: datetime | None
    #: How long that run may take.
    takes: timedelta
    #: States of the newest runs, the oldest first.
    recent: tuple[str, ...]
    #: It is one of the first things to look at.
    is_urgent: bool
    #: When a freeze last kept the job from running, where nothing else is wrong with it on these hosts.
    skipped_at: datetime | None = None
    skipped_on: tuple[str, ...] = ()

    @property
    def tone(self) -> str:
        """How it is coloured."""
        return TONES[self.state]


def operation_of(playbook: str, action: str, tags: Sequence[str]) -> str:
    """What a run did, in two or three words: its playbook, and which part of it.

    :param action: what preflight was told, as ``rotate_keys.yml create``; empty where it was told nothing

    >>> operation_of("rotate_keys", "rotate_keys.yml create", []), operation_of("logs", "logs.yml", ["rotate"])
    ('rotate_keys create', 'logs rotate')
    >>> operation_of("updates", "updates.yml weekly", ["weekly"]), operation_of("doctor", "", [])
    ('updates weekly', 'doctor')
    """
    words = action.partition(" ")[2].split() if action.partition(" ")[0].removesuffix(".yml") == playbook else []
    return " ".join(dict.fromkeys([playbook, *words, *sorted(tags)]))


def command_of(run: Mapping[str, Any], hosts: Sequence[str] = ()) -> str:
    """The command that does the same again.

    What was said with ``-e`` is not in a record, as it may be a secret: a person has to say it again.

    :param hosts: only on these

    >>> command_of({"playbook": "logs", "inventory": ["inventories/production"], "tags": ["rotate"], "confirm": True})
    'ansible-playbook -i inventories/production playbooks/logs.yml -t rotate -e confirm=production'
    """
    words = ["ansible-playbook"]
    for source in run.get("inventory") or ():
        words += ["-i", str(source)]
    words.append(f"playbooks/{run['playbook']}.yml")
    if run.get("tags"):
        words += ["-t", ",".join(run["tags"])]
    limit = ",".join(hosts) or run.get("limit")
    if limit:
        words += ["--limit", str(limit)]
    if run.get("confirm"):
        words += ["-e", "confirm=production"]
    return shlex.join(words)


def rows(
    place: Mapping[str, Any], jobs: Sequence[Job], now: datetime, running: Iterable[Mapping[str, Any]] = ()
) -> list[Row]:
    """All operations of an inventory, what is odd first.

    :param place: what the index knows of it
    :param running: runs that are under way: ``key``, ``run``
    """
    at_work = {each["key"]: each["run"] for each in running}
    shared = [job.operation for job in jobs]
    made, taken = [], set()
    for job in jobs:
        keys = [f"job:{job.name}"]
        if shared.count(job.operation) == 1:
            keys.append(job.operation)
        taken.update(keys)
        made.append(_row(place, keys, job, now, at_work))
    made += [_row(place, [key], None, now, at_work) for key in {*place["hosts"], *at_work} - taken]
    return sorted(made, key=_rank)


def _rank(row: Row) -> tuple[bool, int, str]:
    return not row.is_urgent, _ORDER.index(row.state), row.name


def _row(
    place: Mapping[str, Any], keys: Sequence[str], job: Job | None, now: datetime,
    at_work: Mapping[str, Mapping[str, Any]],
) -> Row:  # fmt: skip
    runs = place["runs"]
    found = _hosts(place, keys)
    last = max((each.run for each in found.values()), key=lambda run: (run["at"], run["id"]), default={})
    expected = _expected(place, found, job) or [""]
    due, skipped = (_since_seen(place, job, at) for at in ((job.due_at, job.skipped_at) if job else (None, None)))
    judged = []
    for host in expected:
        each = found.get(host)
        if each is None:
            msg = "It never ran here." if found else "It never ran."
            each = Of(host, NEVER, msg)
        if due is not None and not _is_since(each, due):
            each = Of(host, MISSED, _missed(each, due), each.run)
        elif job is not None and skipped is not None and each.state == OK and not _is_since(each, skipped):
            each = Of(host, SKIPPED, _skipped(each, job, skipped), each.run)
        elif job is not None and job.disabled and each.state == NEVER:
            each = Of(host, DISABLED, f"It does not run by itself: {job.disabled}.")
        judged.append(each)
    judged.sort(key=lambda each: (_ORDER.index(each.state), each.host))
    odd = tuple(each for each in judged if each.state != OK)
    state = judged[0].state
    under_way = next((at_work[key] for key in keys if key in at_work), None)
    goods = [runs.get(_good(place, keys, each.host), {}) for each in judged]
    good = {} if not all(goods) else min(goods, key=lambda run: run["at"])
    is_urgent = TONES[state] in ("failed", "unknown") and (
        job is not None or not last or datetime.fromisoformat(last["at"]) > now - BY_HAND
    )
    name = job.name if job else keys[0].removeprefix("job:")
    shown = state if under_way is None or is_urgent else RUNNING
    limited = [each.host for each in odd if each.host] if 0 < len(odd) < len(judged) else []
    return Row(
        name=name,
        job=job.name if job else "",
        operation=job.operation if job else name,
        state=shown,
        msg=_sentence(odd, len(judged), under_way, job),
        # What a freeze keeps from running it refuses to a person, too.
        command="" if state in (OK, SKIPPED) else _command(job, last, limited),
        odd=odd,
        hosts=len(judged),
        last=last,
        good=good,
        next_at=job.next_at if job else None,
        takes=job.takes if job else timedelta(),
        recent=tuple(each[1] for each in sorted(run for key in keys for run in place["recent"].get(key, ()))[-12:]),
        is_urgent=is_urgent,
        skipped_at=skipped,
        skipped_on=tuple(each.host for each in judged if each.state == SKIPPED),
    )


def _hosts(place: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Of]:
    """By host, how its last run ended; of a run that came to no host, what it said, until another one comes to some."""
    newest: dict[str, tuple[tuple[str, str], Any]] = {}
    for key in keys:
        for host, found in place["hosts"].get(key, {}).items():
            if found["last"]:
                run = place["runs"][found["last"][0]]
                order = run["at"], run["id"]
                if host not in newest or order > newest[host][0]:
                    newest[host] = order, (run, found["last"])
    if "" in newest and len(newest) > 1 and newest[""][0] < max(order for order, _ in newest.values()):
        del newest[""]
    return {host: _judge(host, run, last) for host, (_, (run, last)) in newest.items()}


def _judge(host: str, run: Mapping[str, Any], last: Sequence[str]) -> Of:
    _, status, msg = last
    if run.get("dated"):
        when = said_at(datetime.fromisoformat(run["dated"]))
        return Of(
            host,
            FUTURE,
            f"Its run is dated {when}, which was in the future; set the clock of {run['controller']}.",
            run,
        )
    if run.get("cut_off"):
        return Of(host, CUT_OFF, msg or "The run was cut off, and what it left undone is unknown.", run)
    if status == Status.OK:
        return Of(host, OK, "", run)
    return Of(host, UNKNOWN if status == Status.UNKNOWN else FAILED, msg, run)


def _expected(place: Mapping[str, Any], found: Mapping[str, Of], job: Job | None) -> list[str]:
    """The hosts that it is for: all of its groups, and none that left the inventory.

    What nobody scheduled is for the hosts on which it ran.
    """
    groups = place["plan"].get("groups") or {}
    known = {host for hosts in groups.values() for host in hosts}
    still = {host for host in found if not known or host in known or not host}
    if job is None:
        return sorted(still)
    of_groups = {host for group in job.groups for host in groups.get(group, ())}
    # A playbook may run on one host for all of its group.
    once = {host for host, each in found.items() if each.run.get("once")} & still
    return sorted(once or of_groups | {host for host in still if not host})


def _since_seen(place: Mapping[str, Any], job: Job | None, moment: datetime | None) -> datetime | None:
    """A time of a job; None before the schedule was known, as then nothing could run it."""
    if job is None or moment is None:
        return None
    since = place["since"].get(job.name)
    return moment if not job.disabled and since and moment >= datetime.fromisoformat(since) else None


def _is_since(each: Of, due: datetime) -> bool:
    return bool(each.run) and datetime.fromisoformat(each.run["at"]) >= due - EARLY


def _missed(each: Of, due: datetime) -> str:
    before = f"the last one began {said_at(datetime.fromisoformat(each.run['at']))}" if each.run else "it never ran"
    return f"No run came when it was due, {said_at(due)}; {before}. Look at the scheduler, then run it."


def _skipped(each: Of, job: Job, at: datetime) -> str:
    last = f"the last run began {said_at(datetime.fromisoformat(each.run['at']))}"
    following = f"It is due next {said_at(job.next_at)}" if job.next_at else "No time within a year is open to it"
    return f"{job.freeze} kept it from running when it was due, {said_at(at)}; {last}. {following}."


def _good(place: Mapping[str, Any], keys: Sequence[str], host: str) -> str:
    found = [place["hosts"].get(key, {}).get(host, {}).get("good") for key in keys]
    return max((run_id for run_id in found if run_id), key=lambda run_id: place["runs"][run_id]["at"], default="")


def _command(job: Job | None, last: Mapping[str, Any], hosts: Sequence[str]) -> str:
    if job is not None:
        return f"{job.command} --limit {shlex.quote(','.join(hosts))}" if hosts else job.command
    return command_of(last, hosts) if last else ""


def _sentence(odd: Sequence[Of], hosts: int, under_way: Mapping[str, Any] | None, job: Job | None) -> str:
    """What is odd, the same sentence once; hosts are named where not all are."""
    parts = []
    for state in _ORDER:
        said: dict[str, list[str]] = {}
        for each in odd:
            if each.state == state:
                said.setdefault(each.msg, []).append(each.host)
        for msg, names in list(said.items())[:3]:
            who = f"{some(sorted(filter(None, names)))}: " if 0 < len([*filter(None, names)]) < hosts else ""
            parts.append(f"{who}{msg}")
        if len(said) > 3:
            rest = sum(len(names) for names in list(said.values())[3:])
            parts.append(f"{count(rest, 'more host')} {agree(rest, 'is', 'are')} {state}.")
    if under_way is not None:
        begun = said_at(datetime.fromisoformat(under_way["at"]).astimezone(UTC))
        parts.insert(0, f"A run is under way since {begun}, by {under_way['user']} on {under_way['controller']}.")
    if job is not None and not job.disabled and odd and odd[0].state == NEVER and job.next_at is not None:
        parts.append(f"It is due for the first time {said_at(job.next_at)}.")
    return " ".join(parts)
