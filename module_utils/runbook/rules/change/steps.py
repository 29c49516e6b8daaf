"""What the steps of a run say of an item of a checklist: nobody answers for work but the work itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.change.checklist import phase_of
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: What is done around the work; the rest of our own modules is the work.
_AROUND = re.compile(r"(change|incident|emergency)_.+|maintenance_mode|\w+_preflight|pg_lease")

#: Lines of steps that are ok; of more there is one for each task.
_IN_FULL = 30


def chosen(
    steps: Mapping[str, Sequence[Mapping[str, Any]]], modules: Sequence[str], host: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """The steps that count, each with its host.

    :param steps: of the run, by host
    :param modules: which modules; none of them means the work: what came after the first answers of the lines before it
    :param host: the one that counts; empty means each
    """
    done = [
        (name, step) for name, of_host in sorted(steps.items()) for step in of_host if step["state"] != "skipped"
    ]  # fmt: skip
    first: dict[str, str] = {}
    for _, step in done:
        if _stands_before(step):
            # The application is looked at again between two parts of the work.
            answered = str(step["figures"]["answers"])
            first[answered] = min(step["started_at"], first.get(answered, step["started_at"]))
    ready = max(first.values(), default="")
    if modules:
        found = [each for each in done if short_name(each[1]["module"]) in modules]
    else:
        found = [each for each in done if each[1]["started_at"] > ready and is_work(each[1])]
    return [each for each in found if host in ("", each[0])]


def _stands_before(step: Mapping[str, Any]) -> bool:
    """Whether a step answered a line that comes before the work."""
    item = str(step["figures"].get("answers") or "")
    return phase_of(item) in ("before", "during") and item != "work"


def is_work(step: Mapping[str, Any]) -> bool:
    """Whether a step is work. Only our own modules say how it went, and the others count where they failed.

    A person's step, for which the run waited, is work too; what it did is for the lines after it to find out.
    """
    name = short_name(step["module"])
    if _AROUND.fullmatch(name):
        return False
    return "status" in step["figures"] or step["status"] != Status.OK or name == "pause"


def judge(found: Iterable[tuple[str, Mapping[str, Any]]]) -> Status:
    """The worst of them; unknown where there is none. What was tried again in another way, and so rescued, is no fault.

    >>> judge([])
    <Status.UNKNOWN: 'unknown'>
    """
    said = [Status(step["status"]) for _, step in found if not step["handled"]]
    return worst(said) if said else Status.UNKNOWN


def sentence(found: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """How many there were, and what was not ok."""
    if not found:
        return "No step of it was carried out; run the playbook from its beginning."
    wrong = [f"{host}: {step['task']}: {step['msg']}" for host, step in found if step["status"] != Status.OK]
    if wrong:
        return f"{count(len(wrong), 'step')} of {len(found)} not ok. {' '.join(wrong)}"
    if len(found) == 1:
        # A person's step says nothing of itself.
        return found[0][1]["msg"] or f"{found[0][1]['task']}: done."
    return f"{count(len(found), 'step')} carried out, each ok."


def proof(found: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The name of the backup that they made or read; empty where they did neither."""
    for _, step in found:
        read = step["figures"].get("backups") or []
        name = step["figures"].get("backup_id") or (read[0] if read else "")
        if name:
            return str(name)
    return ""


def lines(found: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """One line a step, for the ticket: what is not ok first. Of many that are ok, one line for all hosts of a task.

    >>> lines((f"db{number}", {"status": Status.OK, "task": "Vacuum", "msg": "3 tables."}) for number in range(100))
    ['ok: 100 hosts: Vacuum']
    """
    good: dict[str, list[str]] = {}
    lines_of: dict[bool, list[str]] = {True: [], False: []}
    for host, step in found:
        is_ok = step["status"] == Status.OK
        lines_of[is_ok].append(f"{step['status']}: {host}: {step['task']}: {step['msg']}")
        if is_ok:
            good.setdefault(step["task"], []).append(host)
    if len(lines_of[True]) <= _IN_FULL:
        return lines_of[False] + lines_of[True]
    return lines_of[False] + [f"{Status.OK}: {count(len(set(hosts)), 'host')}: {task}" for task, hosts in good.items()]
