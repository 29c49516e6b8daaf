"""What the doctor checked: in the report, and as a table for the end of a terminal's output."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.report.section import Section
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible.module_utils.runbook.report.section import Figures, Panel, Record

#: A longer name has a line of its own.
_NAME = 20
_STATUS = 7


_MODULE = "runbook_doctor"


def lines(record: Record, host: str, width: int) -> list[str]:
    """Every check with its name, status and sentence; none where the doctor did not look.

    What is not ok comes last, so that it stands where the eye is when the run has ended.
    """
    found = [
        check
        for step in record["hosts"][host]["steps"]
        if short_name(step["module"]) == _MODULE
        for check in step["figures"].get("checks", ())
    ]
    told = []
    for check in _in_order(found):
        said = textwrap.wrap(str(check["msg"]), max(20, width - _NAME - _STATUS - 6), break_on_hyphens=False) or [""]
        head = f"  {check['name']:<{_NAME}}  {check['status']:<{_STATUS}}  "
        if len(check["name"]) > _NAME:
            told.append(f"  {check['name']}")
            head = f"  {'':<{_NAME}}  {check['status']:<{_STATUS}}  "
        told.append(f"{head}{said[0]}".rstrip())
        told += [f"{'':<{len(head)}}{more}" for more in said[1:]]
    return told


def _in_order(found: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    return sorted(found, key=lambda each: each["status"] != Status.OK)


def _more(panel: Panel, _figures: Figures) -> Panel:
    return replace(panel, checks=_in_order(panel.checks))


SECTIONS = (Section(modules=(_MODULE,), title="What was checked", lines=lines, more=_more),)
