"""What the steps of a run say of an item of a checklist: nobody answers for work but the work itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: What is done around the work; the rest of our own modules is the work.
_AROUND = re.compile(r"(change|incident|emergency)_.+|maintenance_mode|\w+_preflight")


def chosen(
    steps: Mapping[str, Sequence[Mapping[str, Any]]], modules: Sequence[str], host: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """The steps that count, each with its host.

    :param steps: of the run, by host
    :param modules: which modules; none of them means whatever is not :data:`_AROUND` the work
    :param host: the one that counts; empty means each
    """
    return [
        (name, step)
        for name, of_host in sorted(steps.items())
        for step in of_host
        if host in ("", name)
        and step["state"] != "skipped"
        # Only our own modules say how it went; the others count where they failed.
        and ("status" in step["figures"] or (not modules and step["status"] != Status.OK))
        and (short_name(step["module"]) in modules if modules else not _AROUND.fullmatch(short_name(step["module"])))
    ]


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
    return found[0][1]["msg"] if len(found) == 1 else f"{count(len(found), 'step')} carried out, each ok."


def proof(found: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The name of the backup that they made or read; empty where they did neither."""
    names = [step["figures"].get("backup_id") or step["figures"].get("last_good_backup") for _, step in found]
    return next((str(name) for name in names if name), "")


def lines(found: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """One line a step, for the ticket."""
    return [f"{step['status']}: {host}: {step['task']}: {step['msg']}" for host, step in found]
