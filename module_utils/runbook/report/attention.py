"""What needs a person: what is red, what is unknown, and what would be lost, each with what to do about it.

It stands at the top of the report, and last on the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import charts, sections
from ansible.module_utils.runbook.report.section import checks, lists
from ansible.module_utils.runbook.rules.fleet import NOT_RUN
from ansible.module_utils.runbook.rules.record import is_failure
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Checks that a reason quotes beside the step's own sentence.
_MAX_CHECKS = 5
_AGAIN = "Run the same command again."
_ORDER = ("failed", "unknown", "handled")
_HOSTS = ("failed", NOT_RUN, Status.UNKNOWN, Status.OK)


def needs(record: Mapping[str, Any], *, with_checks: bool = False) -> list[dict[str, Any]]:
    """All of it, red first: ``who`` (hosts), ``task`` with the step's state, ``text``, and the ``tone``.

    What to do about a run that was cut off stands before all.

    :param with_checks: of a task that failed its checks too, where its own sentence only names them
    """
    found = []
    for name, of_host in record["hosts"].items():
        if of_host.get("not_run"):
            found.append({"host": name, "task": "", "text": of_host["not_run"], "tone": "failed"})
        for step in of_host["steps"]:
            if step["state"] == "skipped" or step["handled"] or step["figures"].get("code") == NOT_RUN:
                continue
            of_step = {"host": name, "task": f"{step['task']}, {charts.word(step)}"}
            if step["status"] != Status.OK:
                tone = "failed" if is_failure(step) else "unknown"
                found.append(of_step | {"text": _reason(step, with_checks=with_checks), "tone": tone})
            for section in sections.of_module(step["module"]):
                if section.attention is not None:
                    texts = section.attention(step)
                    found += [{"host": name, "task": step["task"], "text": text, "tone": "handled"} for text in texts]
    first = [{"who": "", "task": "", "text": _AGAIN, "tone": "unknown"}] if record["interrupted"] else []
    # What was not run comes after why.
    is_left = {each["text"] for each in found if not each["task"]}
    return first + sorted(grouped(found), key=lambda each: (_ORDER.index(each["tone"]), each["text"] in is_left))


def grouped(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same sentence of many hosts once, with the hosts before it."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    for item in items:
        key = item.get("task", ""), item["text"], item.get("tone", "")
        groups.setdefault(key, {}).update({item["host"]: None} if item["host"] else {})
    return [
        {"who": listed(list(names)), "task": task, "text": text, "tone": tone}
        for (task, text, tone), names in groups.items()
    ]


def listed(names: Sequence[str]) -> str:
    """The first of many hosts, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {count(len(names) - 4, 'more host')}" if len(names) > 4 else "")


def in_order(hosts: Mapping[str, Mapping[str, Any]], *, worst_last: bool = False) -> list[str]:
    """The names of hosts, those that need a person first; on a terminal last."""
    return sorted(hosts, key=lambda name: _HOSTS.index(hosts[name]["status"]), reverse=worst_last)


def _reason(step: Mapping[str, Any], *, with_checks: bool) -> str:
    """What a step said; where its task did not fail, its checks too; where it could not judge, what it needs."""
    said = str(step["msg"] or f"{step['state']} without a message")
    figures, status = step["figures"], step["status"]
    if status != Status.UNKNOWN and step["state"] == "failed" and not with_checks:
        return said
    asked = [found for found in Status if found != Status.OK] if with_checks else [status]
    more = [each["msg"] for found in asked for each in checks(figures) if each["status"] == found]
    if status == Status.UNKNOWN:
        told = [str(each["msg"]) for each in lists(figures, "unknown") if each.get("msg")]
        more = [*told, *more] or [str(text) for text in step["warnings"]]
    return " ".join(dict.fromkeys([said, *(text for text in more[:_MAX_CHECKS] if text and text not in said)]))
