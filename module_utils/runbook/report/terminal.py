"""The end of a run's output: one line a host, and last of all what needs a person."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import attention, sections, wording
from ansible.module_utils.runbook.report.sections import SECTIONS
from ansible.module_utils.runbook.rules.fleet import NOT_RUN
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: More hosts than this are told in one line a status.
MAX_HOSTS = 10
#: Reasons that a terminal shows last; there, more would hide the first.
MAX_REASONS = 5


def summary_lines(record: Mapping[str, Any], width: int | None) -> list[str]:
    """One line per host for the end of the terminal's output, more where one is too narrow for it; the odd ones last.

    Of many hosts those that are ok, and those that were not run, have one line together.

    :param width: columns of the terminal; None for a file or a pipe
    """
    hosts = record["hosts"]
    alike: dict[str, list[str]] = {}
    for name in attention.in_order(hosts, worst_last=True) if len(hosts) > MAX_HOSTS else ():
        if hosts[name]["status"] in (Status.OK, NOT_RUN):
            alike.setdefault(hosts[name]["status"], []).append(name)
    odd = [name for name in attention.in_order(hosts) if hosts[name]["status"] not in alike][:MAX_HOSTS]
    alone = attention.in_order({name: hosts[name] for name in odd}, worst_last=True)
    names = {name: wording.shortened(name, 30) if width else name for name in alone}
    longest = max(map(len, names.values()), default=0)
    lines = []
    for status, each in alike.items():
        text = f"{count(len(each), 'host')} {_word(status)}: {attention.listed(each)}"
        lines += [text] if width is None else textwrap.wrap(text, width, break_on_hyphens=False)
    rest = len(hosts) - len(alone) - sum(map(len, alike.values()))
    lines += [f"{count(rest, 'more host')} failed or unknown; the report has them all."] if rest else []
    for name in alone:
        of_host = hosts[name]
        text = f"{names[name]:<{longest}}  {_word(of_host['status']):<7}  {', '.join(_did(record, of_host))}"
        hanging = " " * (longest + 11)
        lines += (
            [text] if width is None else textwrap.wrap(text, width, subsequent_indent=hanging, break_on_hyphens=False)
        )
        for section in SECTIONS:
            lines += section.lines(record, name, width or 79) if section.lines else ()
    return lines


def _word(status: str) -> str:
    return status.replace("_", " ")


def _did(record: Mapping[str, Any], of_host: Mapping[str, Any]) -> list[str]:
    """What a run did to a host, or in check mode would do."""
    if not of_host["steps"]:
        return []
    told = [(section, section.did(of_host, record["check_mode"])) for section in SECTIONS if section.did]
    covered = {module for section, parts in told if parts for module in section.covers}
    parts = [part for section, parts in told if not covered.intersection(section.modules) for part in parts]
    if not parts and of_host["status"] == Status.OK and (said := _said(of_host["steps"])):
        return [f"{wording.duration(of_host['duration_s'])}: {said}"]
    return [*parts, wording.duration(of_host["duration_s"])]


def _said(steps: Sequence[Mapping[str, Any]]) -> str:
    """What the work of a run said: of what changed something, or would; else of all that checked, or the last."""
    told = [step for step in steps if step["msg"] and step["state"] in ("ok", "changed")]
    known = {id(step): sections.of_module(step["module"]) for step in told}
    # What has lines of its own says it there.
    worked = [step for step in told if not any(each.around or each.lines for each in known[id(step)])]
    # What else only closes a run may be all that it did: lease.yml asks who holds a lease.
    worked = worked or [step for step in told if any(each.work_of for each in known[id(step)])]
    checked = [step for step in worked if step["figures"].get("checks")]
    chosen = [step for step in worked if step["changed"]] or checked or worked[-1:]
    return " ".join(dict.fromkeys(step["msg"] for step in chosen))


def last_warnings(record: Mapping[str, Any], width: int | None = None) -> list[str]:
    """What a run asks a person to look at, for the end of the terminal's output, where it is not overlooked.

    Of a green run all warnings, and last what would be lost; of another only what the run says of itself: the rest
    stands above, and its reasons matter more.

    :param width: columns of the terminal, of which Ansible takes some for ``[WARNING]:``
    """
    is_green = record["status"] == Status.OK
    warned = attention.grouped([each for each in record["warnings"] if is_green or each["host"] is None])
    told = [f"{item['who']}: {item['text']}" if item["who"] else item["text"] for item in warned]
    if len(told) > MAX_REASONS:
        told[MAX_REASONS:] = [f"{count(len(told) - MAX_REASONS, 'more warning')}; the report has them all."]
    told += [_sentence(item) for item in attention.needs(record)] if is_green else []
    return [_wrapped(text, width, "[WARNING]: ") for text in told]


def last_words(record: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Why a run is red or unknown, with the fix, for the very end of the terminal's output; nothing where it is not.

    Each sentence once, with the hosts that it is true of before it.

    :param width: columns of the terminal, of which Ansible takes some for ``[ERROR]:``; no word is cut there
    """
    if record["status"] == Status.OK:
        return []
    lines = [_sentence(item) for item in attention.needs(record) if item["tone"] != "handled"]
    if len(lines) > MAX_REASONS:
        lines[MAX_REASONS:] = [f"{count(len(lines) - MAX_REASONS, 'more reason')}; the report has them all."]
    # Of one host that failed, the reason says it all.
    said_by_reason = len(record["hosts"]) == 1 and not record["interrupted"]
    told = lines if lines and said_by_reason else [record["verdict"], *lines]
    return [_wrapped(text, width, "[ERROR]: ") for text in told]


def _sentence(item: Mapping[str, Any]) -> str:
    about = ", ".join(filter(None, (item["who"], item["task"])))
    return f"{about}: {item['text']}" if about else str(item["text"])


def _wrapped(text: str, width: int | None, mark: str) -> str:
    """``text`` in lines of a terminal, of which ``mark`` takes its part of the first."""
    if width is None:
        return text
    return "\n".join(textwrap.wrap(text, width, initial_indent=" " * len(mark), break_on_hyphens=False))[len(mark) :]
