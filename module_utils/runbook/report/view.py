"""What the report shows, computed from the record and the sections; the templates only lay it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import attention, charts, sections, wording
from ansible.module_utils.runbook.report.section import Trend
from ansible.module_utils.runbook.report.sections import SECTIONS
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Longer lists are in record.json.
MAX_QUERIES = 200
#: More hosts than this are folded; one click opens them.
OPEN_HOSTS = 3

TRENDS = (
    Trend("Duration", "duration_s", wording.duration),
    *(trend for section in SECTIONS for trend in section.trends),
)


def host(record: Mapping[str, Any], name: str, *, is_open: bool) -> dict[str, Any]:
    """One host's part of the report."""
    of_host = record["hosts"][name]
    steps = of_host["steps"]
    queries = [str(query) for step in steps for query in step["figures"].get("executed_queries", ())]
    identity = [
        ("Environment", of_host["environment"]),
        ("Database", of_host["database"]),
        ("System identifier", of_host["system_identifier"]),
        ("PostgreSQL", _server(of_host["server_version"])),
        ("Clock skew", None if of_host["clock_skew_s"] is None else wording.duration(of_host["clock_skew_s"])),
        *[
            (wording.label(target["kind"]), f"{target['name']} ({target['place']})")
            for target in of_host.get("targets", ())
            # The database stands above, and a change is the environment's.
            if target["kind"] != "database" and target["place"]
        ],
    ]
    panels = sections.panels(record, name)
    return {
        "name": name,
        "status": of_host["status"].replace("_", " "),
        "not_run": of_host.get("not_run"),
        "open": is_open,
        "identity": [(title, str(value)) for title, value in identity if value not in (None, "")],
        "counts": of_host["counts"],
        "first": [panel for panel in panels if panel.is_first],
        "panels": [panel for panel in panels if not panel.is_first],
        "timeline": charts.timeline(steps),
        "steps": [
            {
                "task": step["task"],
                "role": step["role"],
                "module": short_name(step["module"]),
                "word": charts.word(step),
                "tone": charts.tone(step),
                "attempts": step["attempts"],
                "duration": wording.duration(step["duration_s"]),
                "start": wording.duration(step["start_s"]),
                "msg": step["msg"],
            }
            for step in steps
            if step["state"] != "skipped" and not charts.is_overhead(step)
        ],
        "skipped": sum(step["state"] == "skipped" for step in steps),
        "queries": queries[:MAX_QUERIES],
        "queries_left_out": max(0, len(queries) - MAX_QUERIES),
    }


def _server(version: object) -> object:
    """``18.1`` for 180001, the form of PostgreSQL's ``server_version_num``; anything else as it is."""
    return f"{version // 10000}.{version % 10000}" if isinstance(version, int) else version


def _columns(hosts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Columns of the table of hosts, those of the sections in the middle; one that no host fills is left out."""
    every = list(hosts.values())
    where = [" / ".join(filter(None, (each["environment"], each["database"]))) or wording.NONE for each in every]
    found = [
        {"title": "Environment / database", "style": "", "cells": where},
        *(
            {"title": column.title, "style": "num", "cells": [column.text(each["totals"]) for each in every]}
            for section in SECTIONS
            for column in section.columns
        ),
        {"title": "Time", "style": "num", "cells": [wording.duration(each["duration_s"]) for each in every]},
    ]
    return [column for column in found if any(cell != wording.NONE for cell in column["cells"])]


def verdict(record: Mapping[str, Any], needs: Sequence[Mapping[str, Any]] = ()) -> str:
    """The run's sentence and the sections' remarks; it never says "all well" of a run that needs a person.

    :param needs: what needs a person, as ``attention.needs`` returns it
    """
    said = record["verdict"]
    remarks = [text for section in SECTIONS if section.remark and (text := section.remark(record))]
    if record["status"] == Status.OK:
        if needs:
            remarks.append(f"{count(len(needs), 'point needs', 'points need')} a person.")
        if remarks:
            said = said.replace("All well.", "Nothing failed.").replace("all well.", "nothing failed.")
    return " ".join([said, *remarks])


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        *([("Environment", ", ".join(record["environments"]))] if record["environments"] else []),
        ("Started", wording.moment(record["started_at"])),
        ("Ended", wording.moment(record["ended_at"]))
        if record["ended_at"]
        else ("Last known", wording.moment(record["last_event_at"])),
        ("Took", wording.duration(record["duration_s"])),
        ("Started by", f"{record['user']} on {record.get('job') or str(record['controller']).rpartition('/')[0]}"),
        ("Inventory", ", ".join(record["inventory"] or ()) or wording.NONE),
    ]
    asked = (("Scheduled as", "schedule"), ("Limit", "limit"), ("Tags", "tags"), ("Skipped tags", "skip_tags"))
    for title, key in asked:
        value = record[key]
        if value:
            facts.append((title, value if isinstance(value, str) else ", ".join(value)))
    return facts


def point(record: Mapping[str, Any], directory: str | None) -> dict[str, Any]:
    """The figures of one run that the history and the trends of later reports show."""
    found = {
        "directory": directory,
        "started_at": record["started_at"],
        "status": record["status"],
        **{trend.key: trend.of(record["totals"]) for trend in TRENDS},
        "duration_s": record["duration_s"],
    }
    for section in SECTIONS:
        found |= section.kept(record) if section.kept else {}
    return found


def report(
    record: Mapping[str, Any], history: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything that a report shows.

    :param history: the same playbook's earlier runs, oldest first, this run the last one
    :param notes: what was found out while the report was made
    """
    hosts = {name: record["hosts"][name] for name in attention.in_order(record["hosts"])}
    troubled = [name for name, of_host in hosts.items() if of_host["status"] != Status.OK]
    opened = set(list(hosts)[:OPEN_HOSTS] if len(hosts) <= OPEN_HOSTS else troubled[:OPEN_HOSTS])
    drawn = [(trend, chart) for trend in TRENDS if (chart := charts.trend(history, trend.key, trend.text))]
    needs = attention.needs(record, with_checks=True)
    pages = [page for section in SECTIONS if section.pages for page in section.pages(record, history)]
    return {
        "record": record,
        "verdict": verdict(record, needs),
        "word": {Status.OK: "OK", "failed": "Failed", Status.UNKNOWN: "Unknown"}[record["status"]],
        "facts": _facts(record),
        "headline": [fact for section in SECTIONS if section.headline for fact in section.headline(record)],
        "panels": [panel for section in SECTIONS if section.of_run for panel in section.of_run(record)],
        "links": [(page.link, page.name) for page in pages if page.link],
        "hosts": [host(record, name, is_open=name in opened) for name in hosts],
        "columns": _columns(hosts),
        "needs": needs,
        "warnings": attention.grouped(record["warnings"]),
        "notes": [*record["notes"], *notes],
        "trends": [{"title": trend.title, "key": trend.key, "chart": chart} for trend, chart in drawn],
        "history": [
            {
                "directory": run.get("directory"),
                "started": wording.moment(run["started_at"]),
                "status": run["status"],
                "cells": [
                    wording.NONE if run.get(trend.key) is None else trend.text(run[trend.key]) for trend, _ in drawn
                ],
            }
            for run in reversed(history)
        ],
    }
