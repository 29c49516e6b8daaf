"""The record of a run: what the events of its journal add up to.

The callback ``run_record`` appends one event per line to ``journal.jsonl`` while the run goes on. :func:`fold` makes
the record from them, and it is the only place that does: at the end of a run, and later for a run that was killed.
Reports are made from the record alone.

Nothing here reads a clock, a file or Ansible. What may be kept of a module's result is decided by :func:`figures` and
:func:`redact`: counts, names and sentences; no secret, no content of rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.calendar import FROZEN
from ansible.module_utils.runbook.rules.fleet import NOT_RUN
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import agree, count

_T = TypeVar("_T")

SCHEMA_VERSION = 1

#: A list longer than this, or a text longer than that, is cut, and the record says by how much.
MAX_ITEMS = 2000
MAX_TEXT = 4000
#: Progress samples that a chart can show; more are thinned out.
MAX_SAMPLES = 300
#: Names that a sentence lists; of more it says how many.
_MAX_LISTED = 5

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|password|secret|token|private_key|access_key|(^|_)dsn$", re.IGNORECASE
)
_SECRET_IN_URL = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]+(?=@)", re.IGNORECASE)
_SECRET_ASSIGNED = re.compile(
    r"(?P<head>\b\w*(?:password|passwd|passphrase|secret|token)\w*(?:[\"']?\s*[=:]\s*|\s+(?=')))"
    # Sentences of ours: "login_password: it is empty".
    r"(?!(?:it|its|not|only)\s)"
    r"(?:\"[^\"]*\"|'(?:[^'\\]|\\.)*'|[^\s,;&]+)",
    re.IGNORECASE,
)
_HIDDEN = "********"
#: A shorter secret would be found in half of all words and figures.
_MIN_SECRET = 4

#: Parts of a result that are never kept: what was passed in, what may quote rows, and Ansible's own baggage.
_DROPPED = frozenset({
    "ansible_facts", "ansible_loop_var", "ansible_index_var", "attempts", "censored", "changed", "deprecations", "diff",
    "exception", "failed", "failed_when_result", "invocation", "item", "module_args", "msg", "results", "retries",
    "skipped", "stderr", "stderr_lines", "stdout", "stdout_lines", "unreachable", "warnings",
})  # fmt: skip


# --- what may be kept -------------------------------------------------------------------------------------------------


def secret_values(options: object) -> set[str]:
    """Values of options that are named like secrets, at any depth.

    >>> sorted(secret_values({"login_password": "hunter2", "nested": [{"session_token": "abcd"}], "login_user": "app"}))
    ['abcd', 'hunter2']
    """
    found: set[str] = set()
    if isinstance(options, Mapping):
        for name, value in options.items():
            if isinstance(value, str) and len(value) >= _MIN_SECRET and _SECRET_NAME.search(str(name)):
                found.add(value)
            else:
                found |= secret_values(value)
    elif isinstance(options, (list, tuple)):
        for value in options:
            found |= secret_values(value)
    return found


def redact(value: Any, secrets: Iterable[str] = ()) -> Any:
    """``value`` with secrets blotted out in every text: the given ones, passwords in URLs, and ``password=…``.

    >>> redact("could not reach postgresql://app:hunter2@db/x, password=hunter2")
    'could not reach postgresql://app:********@db/x, password=********'
    """
    if isinstance(value, str):
        for secret in sorted(secrets, key=len, reverse=True):
            value = value.replace(secret, _HIDDEN)
        if "://" in value:
            value = _SECRET_IN_URL.sub(rf"\g<head>{_HIDDEN}", value)
        return _SECRET_ASSIGNED.sub(rf"\g<head>{_HIDDEN}", value)
    if isinstance(value, Mapping):
        return {redact(str(key), secrets): redact(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, secrets) for item in value]
    return value


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value
            if len(value) <= MAX_TEXT
            else f"{value[:MAX_TEXT]} … ({count(len(value) - MAX_TEXT, 'character')} left out)"
        )
    if isinstance(value, Mapping):
        return {str(key): _bounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_bounded(item) for item in value[:MAX_ITEMS]]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _bounded(str(value))


def figures(result: Mapping[str, Any], *, own: bool) -> dict[str, Any]:
    """What the record keeps of a module's result, beside its state, message and warnings.

    :param own: the module is one of this project's. Those promise figures and names only, so all is kept, bounded in
        size. Of any other module only numbers are kept, since a text of it may be anything: a file, a row, a secret.
    """
    kept = {
        key: value
        for key, value in result.items()
        if key not in _DROPPED and not key.startswith("_") and (own or isinstance(value, (bool, int, float)))
    }
    cut = {
        f"{key}_left_out": len(value) - MAX_ITEMS
        for key, value in kept.items()
        if isinstance(value, list) and len(value) > MAX_ITEMS
    }
    kept = {key: _bounded(value) for key, value in kept.items()} | cut
    status = _status(result) if own else None
    return kept | ({"status": str(status)} if status is not None else {})


#: What is said of a result that is not there to be judged.
_CENSORED = (
    "What it said is hidden by no_log, so whether all is well is unknown. Take no_log off the task: the record hides"
    " secrets without it."
)
_STARTED = (
    "It was only started (poll: 0), so what becomes of it is unknown. Set poll to 1 or more, or leave async out of the"
    " task."
)


def _unjudged(result: Mapping[str, Any]) -> str:
    """Why nobody can say what became of a task of ours; an empty text where its result is there."""
    if "censored" in result:
        return _CENSORED
    return _STARTED if "ansible_job_id" in result and not result.get("finished") else ""


def _items(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results of a loop, but for what was skipped; none where there is no loop."""
    found = result.get("results")
    given = found if isinstance(found, (list, tuple)) else ()
    return [item for item in given if isinstance(item, Mapping) and not item.get("skipped")]


def _status(result: Mapping[str, Any]) -> Status | None:
    """What a module of ours said, of a loop the worst; None where it only did its work."""
    if items := _items(result):
        found = [_status(item) or (Status.BREACH if item.get("failed") else None) for item in items]
        said = [status for status in found if status is not None]
        return worst(said) if said else None
    if _unjudged(result):
        return Status.UNKNOWN
    return next((status for status in Status if status == result.get("status")), None)


#: How Ansible begins to say what is wrong with a role's variables.
_OF_ARGUMENTS = "Validation of arguments failed:"
_MISSING = "missing required arguments: "
#: An option of a task that is the template of one variable.
_UNDEFINED = re.compile(r"^Task failed: .*Error while resolving value for '[^']+': '(\w+)' is undefined$", re.DOTALL)


def message(result: Mapping[str, Any], *, own: bool, failed: bool) -> str:
    """The one sentence of a result, of a loop those of what is not ok; of foreign modules only when they failed."""
    if items := _items(result):
        bad = [item for item in items if item.get("failed") or (own and _status(item) not in (None, Status.OK))]
        told = [message(item, own=own, failed=failed) for item in bad or (items if own else [])]
        if any(told):
            return str(_bounded(" ".join(dict.fromkeys(filter(None, told)))))
    # A file that cannot be included has a reason and no message.
    text = (_unjudged(result) if own else "") or result.get("msg") or result.get("reason")
    return _plain_arguments(str(_bounded(text))) if text and (own or failed) else ""


def _plain_arguments(text: str) -> str:
    r"""What Ansible says of a role's variables, as one sentence with its fix.

    >>> _plain_arguments("Validation of arguments failed:\nmissing required arguments: backup_bucket")
    'Not set: backup_bucket; set it in the inventory, or with -e.'
    >>> _plain_arguments("Task failed: Error while resolving value for 'bucket': 'backup_bucket' is undefined")
    'Not set: backup_bucket; set it in the inventory, or with -e.'
    """
    undefined = _UNDEFINED.search(text)
    if undefined:
        return f"Not set: {undefined[1]}; set it in the inventory, or with -e."
    if not text.startswith(_OF_ARGUMENTS):
        return text
    reasons = [line.strip() for line in text.removeprefix(_OF_ARGUMENTS).splitlines() if line.strip()]
    missing = next((line.removeprefix(_MISSING) for line in reasons if line.startswith(_MISSING)), "")
    said = [line for line in reasons if not line.startswith(_MISSING)]
    if missing:
        it = "them" if "," in missing else "it"
        said.insert(0, f"Not set: {missing}; set {it} in the inventory, or with -e.")
    return " ".join(said)


# --- the journal ------------------------------------------------------------------------------------------------------


def parse_journal(text: str) -> tuple[list[dict[str, Any]], int]:
    """Events of a journal, and the number of lines that could not be read.

    A run that is killed, or a disk that is full, leaves a torn last line; the rest stands.
    """
    events: list[dict[str, Any]] = []
    torn = 0
    for line in text.splitlines():
        stripped = line.strip("\0 \t")
        if not stripped:
            continue
        try:
            event = json.loads(stripped)
        except ValueError:
            torn += 1
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
        else:
            torn += 1
    return events, torn


def timestamp(epoch_s: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond.

    >>> timestamp(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_s(stamp: str | None) -> float | None:
    """The reverse of :func:`timestamp`; None for what is not a time."""
    try:
        return datetime.fromisoformat(stamp).timestamp() if stamp else None
    except ValueError:
        return None


def _between(start: str | None, end: str | None) -> float:
    first, last = epoch_s(start), epoch_s(end)
    return round(max(0.0, last - first), 3) if first is not None and last is not None else 0.0


def thin(samples: Sequence[_T], limit: int = MAX_SAMPLES) -> list[_T]:
    """At most ``limit`` of ``samples``, evenly, the first and the last among them.

    >>> thin(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(samples) <= limit:
        return list(samples)
    return [samples[round(index * (len(samples) - 1) / (limit - 1))] for index in range(limit)]


# --- the record -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meaning:
    """What has to be known of modules; the sections of the report say it."""

    #: Figures of one host's steps that are added up, by the name of their sum.
    totals: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, float]]
    #: Modules that only prepare a run or close it, each with the one playbook whose work it is, or an empty text.
    around: Mapping[str, str]
    #: Modules of preflight, whose results say what the host is and what may be written to.
    identity: Collection[str]


def fold(events: Sequence[Mapping[str, Any]], meaning: Meaning, *, torn_lines: int = 0) -> dict[str, Any]:
    """The record that a journal's events add up to.

    A journal without its last event is that of an interrupted run: its status is ``unknown``, or ``failed`` if a
    failure had been seen, and never ``ok``.

    :param torn_lines: lines that could not be read; they are told in the record's notes
    :raises RunbookError: the journal does not begin with the start of a run
    """
    if not events or events[0].get("event") != "run_start":
        raise RunbookError(
            "The journal does not begin with the start of a run; it is empty, or not a journal of run_record."
        )
    start, end = events[0], next((event for event in events if event["event"] == "run_end"), None)
    stopped = next((event for event in events if event["event"] == "run_stopped"), None)
    stats: Mapping[str, Mapping[str, int]] = end["stats"] if end else {}
    last_seen = max((str(event.get("ts", "")) for event in events), default=start["ts"])

    plays, steps, unheard = _steps(events, last_seen)
    left, done = _left(events, steps, finished=end is not None)
    hosts: dict[str, dict[str, Any]] = {}
    for name in sorted({*steps, *stats, *left}):
        hosts[name] = _host(
            steps.get(name, []), stats.get(name), meaning, finished=end is not None or name in done,
            left=left.get(name, ""),
        )  # fmt: skip
    # Where others were worked on, a host of which all was skipped is no part of it: nothing was seen of it. Ansible
    # checks the arguments of a role under every tag, also where no step of the role has it.
    skipped = {name for name, of_host in steps.items() if all(map(_saw_nothing, of_host))} - {*left}
    if skipped != hosts.keys():
        hosts = {name: host for name, host in hosts.items() if name not in skipped}

    notes = [event["text"] for event in events if event["event"] == "note"] + unheard
    if torn_lines:
        lines = count(torn_lines, "line is", "lines are")
        notes.append(f"{lines} missing here, because the journal could not be read there.")
    proven = sorted({host["environment"] for host in hosts.values() if host["environment"]})
    said = _of_inventory(events)
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **{key: start.get(key) for key in (
            "run_id", "playbook", "check_mode", "diff_mode", "user", "controller", "job", "inventory", "limit",
            "tags", "skip_tags", "ansible_version", "commit",
        )},
        "schedule": start.get("schedule"),
        "started_at": start["ts"],
        "ended_at": end["ts"] if end else None,
        "last_event_at": last_seen,
        "duration_s": _between(start["ts"], last_seen),
        "interrupted": end is None,
        "environment": said.get("environment") or next(iter(proven), None),
        "environments": proven,
        "left_out": list(said.get("left_out") or ()),
        "plays": plays,
        "hosts": hosts,
        "totals": _totals(hosts),
        "notes": notes,
        "warnings": _unique(
            [{"host": None, "text": event["text"]} for event in events if event["event"] == "warning"]
            + [
                {"host": name, "text": text}
                for name, host in hosts.items()
                for step in host["steps"]
                for text in step["warnings"]
            ]
        ),
        "errors": [
            {"host": name, "task": step["task"], "text": step["msg"] or f"{step['state']} without a message"}
            for name, host in hosts.items()
            for step in host["steps"]
            if host["status"] != NOT_RUN and step["state"] in ("failed", "unreachable") and not step["handled"]
        ],
    }  # fmt: skip
    record["status"], record["verdict"] = _verdict(record, stopped["text"] if stopped else None)
    reached_nobody = (
        not hosts and any(play["matched"] for play in plays) and (start.get("tags") or start.get("skip_tags"))
    )
    if reached_nobody or (record["status"] == Status.OK and not _did_work(events, meaning, str(start.get("playbook")))):
        record["status"], record["verdict"] = "failed", _nothing_done(record, events)
        for host in hosts.values():
            host["status"] = "failed"
    refused = next((event["text"] for event in events if event["event"] == "refused"), None)
    if refused:
        record["status"], record["verdict"] = "failed", refused
    return record


def is_once(record: Mapping[str, Any]) -> bool:
    """Whether a run does its work on one host for all, which is never missing on the others."""
    return any(str(play["hosts"]).endswith("[0]") for play in record["plays"])


def is_frozen(record: Mapping[str, Any]) -> bool:
    """Whether a scheduled job did nothing because a freeze of the calendar refused it: it came, and was not to run.

    A person who was refused knows why, and a run that was refused on some hosts alone was at work on others. What
    changed something, was cut off, or has anything else that is not ok is no such run.
    """
    every = record["hosts"].values()
    hosts = [host for host in every if host["status"] != NOT_RUN]
    is_whole = not record["interrupted"] and not any(host["changed"] for host in every)
    return bool(record.get("schedule") and hosts and is_whole) and all(map(_was_frozen, hosts))


def _was_frozen(host: Mapping[str, Any]) -> bool:
    wrong = [step for step in host["steps"] if step["status"] != Status.OK and not step["handled"]]
    return bool(wrong) and all(step["figures"].get("code") == FROZEN for step in wrong)


def _of_inventory(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((event for event in events if event["event"] == "inventory"), {})


def known_hosts(events: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """All hosts of a run's inventory, by its journal; None where the run did not see all of them."""
    found: list[str] | None = _of_inventory(events).get("hosts")
    return found


def _saw_nothing(step: Mapping[str, Any]) -> bool:
    is_check = short_name(step["module"]) == "validate_argument_spec"
    return step["state"] == "skipped" or (step["state"] == "ok" and is_check)


def steps(events: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What a run did until now, by host, in the order in which it began; as in the record.

    :param events: of its journal
    """
    return _steps(events, events[-1]["ts"])[1] if events else {}


#: Which Ansible itself gives a meaning.
_ANSIBLES_TAGS = frozenset({"all", "tagged", "untagged", "always", "never"})
#: What Molecule skips in every playbook that it runs; a step that bears one of them is left out there.
_MOLECULES_TAGS = {"notest", "molecule-notest", "molecule-idempotence-notest"}


def _did_work(events: Sequence[Mapping[str, Any]], meaning: Meaning, playbook: str) -> bool:
    """Whether a module of this project did what the playbook is for; checks of arguments and leases are no work."""
    modules = {event["task"]: short_name(event["module"]) for event in events if event["event"] == "task_start"}
    return any(
        event.get("own", True)
        and event["state"] != "skipped"
        and meaning.around.get(modules.get(event["task"], ""), playbook) == playbook
        for event in events
        if event["event"] == "result"
    )


def no_such_tag(playbook: str, tags: Iterable[str], skip_tags: Iterable[str], known: Collection[str]) -> str:
    """Why a run is refused whose command line names a tag that no step has; empty where it names none.

    Ansible would leave out what a misspelt tag asks for, or do what it was to skip, and end green.

    :param playbook: its file
    :param known: the tags that its steps bear
    """
    strange = {
        option: [tag for tag in given if tag not in known and tag not in always]
        for option, given, always in (
            ("--tags", tags, _ANSIBLES_TAGS),
            ("--skip-tags", skip_tags, _ANSIBLES_TAGS | _MOLECULES_TAGS),
        )
    }
    said = " ".join(f"{option} {','.join(names)}" for option, names in strange.items() if names)
    if not said:
        return ""
    fix = f"the tags that exist are {', '.join(sorted(known))}" if known else "it has no tags, so leave that out"
    return f"Nothing was done: {said} names no step of {playbook}; {fix}."


def _nothing_done(record: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """Why a run in which nothing failed is red all the same."""
    tags = sorted({tag for event in events if event["event"] == "play_start" for tag in event.get("tags") or ()})
    said = [f"--tags {','.join(record['tags'])}"] if record["tags"] else []
    said += [f"--skip-tags {','.join(record['skip_tags'])}"] if record["skip_tags"] else []
    chosen = f" with {' '.join(said)}" if said else ""
    fix = ""
    if said:
        known = f"the tags that exist are {', '.join(tags)}"
        fix = f"; {known if tags else 'this playbook has no tags, so leave that out'}"
    empty = _unmatched(record)
    nobody = f"; no host matched {_listed(empty)}" if empty else ""
    return f"Nothing was done: no step of the operation ran{chosen}{nobody}{fix}."


def _unmatched(record: Mapping[str, Any]) -> list[str]:
    """The host patterns of plays for which the inventory has nobody."""
    return list(dict.fromkeys(play["hosts"] for play in record["plays"] if not play["matched"]))


def _steps(
    events: Sequence[Mapping[str, Any]], last_seen: str
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]], list[str]]:
    """Plays, the steps of each host in the order in which they began, and last words that are of none of them."""
    run_start = events[0]["ts"]
    plays: dict[str, dict[str, Any]] = {}
    tasks: dict[str, Mapping[str, Any]] = {}
    steps: dict[str, list[dict[str, Any]]] = {}
    current: dict[tuple[str, str], dict[str, Any]] = {}
    samples: dict[int, list[dict[str, Any]]] = {}
    unheard: list[str] = []

    def open_step(event: Mapping[str, Any]) -> dict[str, Any]:
        task = tasks.get(event["task"], {})
        step = {
            "task": task.get("name") or "?",
            "role": task.get("role"),
            "module": task.get("module") or "?",
            "state": "running",
            "status": Status.UNKNOWN,
            "handled": False,
            "changed": False,
            "started_at": event["ts"],
            "start_s": _between(run_start, event["ts"]),
            "duration_s": 0.0,
            "attempts": 1,
            "msg": "",
            "warnings": [],
            "figures": {},
            "progress": [],
        }
        steps.setdefault(event["host"], []).append(step)
        current[event["task"], event["host"]] = step
        return step

    for event in events:
        kind = event["event"]
        if kind == "play_start":
            plays[event["play"]] = {"name": event["name"], "hosts": event["hosts"], "matched": True}
        elif kind == "no_hosts" and event["play"] in plays:
            plays[event["play"]]["matched"] = False
        elif kind == "task_start":
            tasks[event["task"]] = event
        elif kind == "host_start":
            open_step(event)
        elif kind == "retry" and (event["task"], event["host"]) in current:
            current[event["task"], event["host"]]["attempts"] += 1
        elif kind == "progress" and (event["task"], event["host"]) in current:
            step = current[event["task"], event["host"]]
            sample = {key: event.get(key) for key in ("label", "done", "total", "unit", "rate")}
            samples.setdefault(id(step), []).append({"at_s": _between(step["started_at"], event["ts"]), **sample})
        elif kind == "result":
            step = current.get((event["task"], event["host"])) or open_step(event)
            current.pop((event["task"], event["host"]), None)
            step["state"] = event["state"]
            step["handled"] = bool(event.get("ignored"))
            step["duration_s"] = _between(step["started_at"], event["ts"])
            step["changed"] = bool(event.get("changed"))
            step["msg"] = event.get("msg") or ""
            step["warnings"] = list(event.get("warnings") or [])
            step["figures"] = dict(event.get("figures") or {})
            step["status"] = _step_status(step)
        elif kind == "last_words":
            spoke = [step for (_task, host), step in current.items()
                     if host == event["host"] and short_name(step["module"]) == event["module"]]  # fmt: skip
            for step in spoke:
                step["msg"] = event["msg"]
            if not spoke:
                unheard.append(": ".join(filter(None, (event["host"], event["module"], event["msg"]))))
    for step in current.values():
        step["duration_s"] = _between(step["started_at"], last_seen)
        step["msg"] = step["msg"] or "No result: the run stopped while this was going on."
    for of_host in steps.values():
        for step in of_host:
            step["progress"] = thin(samples.get(id(step), []))
    return list(plays.values()), steps, unheard


def is_failure(step: Mapping[str, Any]) -> bool:
    """Whether a step failed on its host, or said that something is not as it must be."""
    return step["state"] in ("failed", "unreachable") or step["status"] == Status.BREACH


def _step_status(step: Mapping[str, Any]) -> str:
    """The module's own word; a failure is never ok."""
    if step["state"] == "skipped":
        return Status.OK
    said = step["figures"].get("status")
    if said in (Status.BREACH, Status.UNKNOWN):
        return str(said)
    return str(Status.of(breach=step["state"] in ("failed", "unreachable")))


#: What preflight found out about the environment and the database.
_IDENTITY = ("environment", "database", "system_identifier", "server_version", "clock_skew_s")


def _left(
    events: Sequence[Mapping[str, Any]], steps: Mapping[str, Any], *, finished: bool
) -> tuple[dict[str, str], set[str]]:
    """Hosts that a run never began or left in the middle, with why; and those that a run was through with when cut off.

    :param finished: the run came to its end
    """
    every: dict[str, list[str]] = {}
    begun: dict[str, list[str]] = {}
    removed: list[str] = []
    running: list[str] = []
    held = ""
    for event in events:
        if event["event"] == "play_start" and "begun" in event:
            play, running = str(event["play"]), list(event["begun"])
            every.setdefault(play, list(event.get("every") or ()))
            begun.setdefault(play, []).extend(running)
            held = event["batch"]["held"] or held
        elif event["event"] == "play_end":
            removed, running = [*removed, *event["removed"]], []
    cause = held or (_WHOLE_BATCH if finished else _STOPPED)
    left = dict.fromkeys(removed, _SHARED)
    for play, names in every.items():
        left |= dict.fromkeys(sorted(set(names) - set(begun[play])), cause)
    if finished:
        return left, set()
    left |= {name: cause for name in running if not steps.get(name)}
    is_last = len(every) == events[0].get("play_count")
    return left, {name for names in begun.values() for name in names} - {*running, *left} if is_last else set()


#: Why a host was not run where no sentence of ours says it.
_WHOLE_BATCH = "Not run: every host of a batch before it failed, and Ansible begins no other then."
_STOPPED = "Not run: the run was stopped before it came to it."
_SHARED = "Not run to its end: a step failed that the run takes once for all hosts."


def _host(
    steps: list[dict[str, Any]],
    counts: Mapping[str, int] | None,
    meaning: Meaning,
    *,
    finished: bool,
    left: str = "",
) -> dict[str, Any]:
    """One host's part of the record; ``counts`` are Ansible's own at the end, None where it never came to them.

    :param left: why the run never began it, or left it in the middle
    """
    if counts and counts.get("rescued") and not counts.get("failures") and not counts.get("unreachable"):
        for step in steps:
            if step["state"] == "failed":
                step["handled"] = True
    open_failures = [step for step in steps if is_failure(step) and not step["handled"]]
    # A module refused it, because its batch was not to begin.
    left = next((step["msg"] for step in open_failures if step["figures"].get("code") == NOT_RUN), left)
    failures = [step for step in open_failures if step["figures"].get("code") != NOT_RUN]
    is_failed = counts and (counts.get("failures") or counts.get("unreachable")) and not open_failures
    if failures or is_failed:
        status, left = "failed", ""
    elif left:
        status = NOT_RUN
    elif not finished or any(step["status"] == Status.UNKNOWN and not step["handled"] for step in steps):
        status = Status.UNKNOWN
    else:
        status = Status.OK

    found: dict[str, Any] = {}
    targets: list[dict[str, str]] = []
    for step in steps:
        if short_name(step["module"]) in meaning.identity:
            found |= step["figures"]
            target = step["figures"].get("target")
            if isinstance(target, Mapping) and target not in targets:
                targets.append(dict(target))
    return {
        "status": status,
        "not_run": left or None,
        **{key: found.get(key) for key in _IDENTITY},
        "targets": targets,
        "changed": any(step["changed"] for step in steps),
        "duration_s": round(sum(step["duration_s"] for step in steps), 3),
        "counts": dict(counts) if counts else {},
        "totals": dict(meaning.totals(steps)),
        "steps": steps,
    }  # fmt: skip


def short_name(module: str) -> str:
    """A module's name without its collection."""
    return module.rpartition(".")[2]


def is_number(value: object) -> bool:
    """Whether it is a figure; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _totals(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for host in hosts.values():
        for key, value in host["totals"].items():
            totals[key] = totals.get(key, 0) + value
    return totals


def _unique(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen


def _verdict(record: Mapping[str, Any], stopped: str | None) -> tuple[str, str]:
    """``ok``, ``failed`` or ``unknown``, and the sentence that says why."""
    hosts: Mapping[str, Mapping[str, Any]] = record["hosts"]
    bad = [name for name, host in hosts.items() if host["status"] == "failed"]
    unsure = [name for name, host in hosts.items() if host["status"] == Status.UNKNOWN]
    left = [name for name, host in hosts.items() if host["status"] == NOT_RUN]
    failed = f"{len(bad)} of {count(len(hosts), 'host')} failed: {_listed(bad)}." if bad else ""
    if left:
        were = agree(len(left), "was", "were")
        failed += f"{' ' if bad else ''}{len(left)} of {count(len(hosts), 'host')} {were} not run: {_listed(left)}."
    if record["interrupted"]:
        last = record["last_event_at"][:19].replace("T", " ")
        sentence = f"The run was cut off; the journal ends at {last} UTC, and what came after that is unknown."
        if stopped:
            sentence = f"{stopped}, at {last} UTC; nothing was begun after that."
        return ("failed" if failed else "unknown"), " ".join(filter(None, (sentence, failed)))
    if not hosts:
        empty = _unmatched(record)
        cause = (
            f"no host matched {_listed(empty)}" if empty else "no task was left to run on any host (see tags and limit)"
        )
        return "failed", f"Nothing was done: {cause}."
    if failed:
        return "failed", failed
    if unsure:
        return "unknown", f"{len(unsure)} of {count(len(hosts), 'host')} could not be judged: {_listed(unsure)}."
    told = len(record["warnings"])
    if told:
        nothing = f"{count(len(hosts), 'host')}, nothing" if len(hosts) > 1 else "Nothing"
        done = f"{nothing} failed; {count(told, 'warning')}."
    else:
        done = f"{count(len(hosts), 'host')}, all well." if len(hosts) > 1 else "All well."
    return "ok", f"Check mode: nothing was written. {done}" if record["check_mode"] else done


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_LISTED])
    return shown if len(names) <= _MAX_LISTED else f"{shown} and {len(names) - _MAX_LISTED} more"
