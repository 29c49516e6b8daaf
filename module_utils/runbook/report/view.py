"""What the reports show, worked out from the record; the templates only set it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.module_utils.runbook.report import charts, doctor, drill, evidence, findings, monthly, wording
from ansible.module_utils.runbook.rules.record import PREFLIGHT, is_failure, short_name
from ansible.module_utils.runbook.rules.words import count

#: Longer lists are in record.json.
MAX_TABLES = 500
MAX_QUERIES = 200
#: Reasons that a terminal shows last; there, more would hide the first.
MAX_REASONS = 5
#: More hosts than this are folded; one click opens them.
OPEN_HOSTS = 3

_ARCHIVE = (
    "cutoff", "planned_rows", "moved_rows", "already_archived_rows", "remaining_rows", "oldest_moved", "newest_moved",
    "duration_s", "rate_rows_s", "batches", "longest_batch_s", "throttled_s", "wal_bytes", "detached_partitions",
    "archive_created",
)  # fmt: skip
#: Of a run that moved nothing, as in check mode, the rest is a row of zeros.
_NOTHING_MOVED = ("cutoff", "planned_rows", "already_archived_rows", "remaining_rows", "duration_s", "archive_created")
_VACUUM = (
    "mode", "jobs", "planned_tables", "done_tables", "dead_rows_before", "dead_rows_after", "size_before_bytes",
    "size_after_bytes", "duration_s",
)  # fmt: skip
_KNOWN = {"pg_archive", "pg_vacuum"} | PREFLIGHT | evidence.MODULES | monthly.MODULES
#: Columns of the table of hosts; one that no host fills is left out.
_COLUMNS = (
    ("Environment / database", "where", ""), ("Moved", "moved", "num"), ("Left", "remaining", "num"),
    ("Tables", "tables", "num"), ("Dead rows cleared", "dead_rows", "num"), ("Time", "duration", "num"),
)  # fmt: skip
#: By module: what it writes anew, and the words of it.
_REWRITTEN = (
    ("pg_compact", "table", "tables", "compact", "compacted"),
    ("pg_reindex", "index", "indexes", "rebuild", "rebuilt"),
)
#: Modules that prepare a run or close it; the doctor has a table.
_AROUND_THE_WORK = PREFLIGHT | {"runbook_doctor"}
_TABLE_STATES = {"done": "ok", "planned": "handled"}


def _grid(figures: Mapping[str, Any], keys: Sequence[str]) -> list[tuple[str, str]]:
    return [(wording.label(key), wording.figure(key, figures[key])) for key in keys if key in figures]


def archive(step: Mapping[str, Any]) -> dict[str, Any]:
    """One ``pg_archive`` step: its figures and its two charts."""
    figures = step["figures"]
    points = [(sample["at_s"], float(sample["done"])) for sample in step["progress"] if sample["unit"] == "rows"]
    points = [point for index, point in enumerate(points) if index == 0 or point[1] >= points[index - 1][1]]
    points = [(at - points[0][0], done) for at, done in points]  # a module takes a moment to begin
    speeds = charts.rates(points)
    return {
        "title": f"{figures.get('source', '?')} → {figures.get('archive', '?')}",
        "step": step,
        "grid": _grid(figures, _ARCHIVE if figures.get("moved_rows") else _NOTHING_MOVED),
        "rows": charts.line(points, wording.number) if len(points) > 2 else None,
        "speed": charts.line(speeds, lambda value: f"{wording.number(round(value))}/s") if len(speeds) > 2 else None,
        "points": [(wording.duration(at), wording.number(done)) for at, done in points],
    }


def vacuum(step: Mapping[str, Any]) -> dict[str, Any]:
    """One ``pg_vacuum`` step: its figures, its tables, and before against after."""
    tables = [table for table in step["figures"].get("tables", ()) if isinstance(table, Mapping)]

    def both(key: str) -> list[tuple[str, float, float]]:
        return [
            (str(table.get("table")), float(table["before"][key] or 0), float(table["after"][key] or 0))
            for table in tables
            if (table.get("before") or {}).get(key) is not None and (table.get("after") or {}).get(key) is not None
        ]

    return {
        "step": step,
        "grid": _grid(step["figures"], _VACUUM),
        "dead_rows": charts.pairs(both("dead_rows"), wording.number),
        "sizes": charts.pairs(both("size_bytes"), wording.size),
        "not_permitted": list(step["figures"].get("not_permitted") or ()),
        "tables": [
            {
                "table": str(table.get("table")),
                "action": str(table.get("action") or wording.NONE).replace("_", " + "),
                "reason": table.get("reason") or wording.NONE,
                "state": str(table.get("state") or "unknown").replace("_", " "),
                "tone": _TABLE_STATES.get(
                    str(table.get("state")), "failed" if table.get("state") == "failed" else "unknown"
                ),
                "duration": wording.duration(table.get("duration_s")),
                "dead_rows": _arrow(table, "dead_rows", wording.number),
                "size": _arrow(table, "size_bytes", wording.size),
            }
            for table in tables[:MAX_TABLES]
        ],
        "left_out": max(0, len(tables) - MAX_TABLES) + step["figures"].get("tables_left_out", 0),
    }


def _arrow(table: Mapping[str, Any], key: str, text: Any) -> str:
    return wording.change((table.get("before") or {}).get(key), (table.get("after") or {}).get(key), text)


def host(name: str, of_host: Mapping[str, Any], *, is_open: bool, command: Sequence[str] = ()) -> dict[str, Any]:
    """One host's part of the report.

    :param command: the command line that applies a finding on it, without the finding
    """
    steps = of_host["steps"]

    def of(module: str) -> list[Mapping[str, Any]]:
        return [step for step in steps if short_name(step["module"]) == module and step["figures"]]

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
            if target["kind"] != "database"
        ],
    ]
    return {
        "name": name,
        "status": of_host["status"],
        "open": is_open,
        "identity": [(title, str(value)) for title, value in identity if value not in (None, "")],
        "counts": of_host["counts"],
        "findings": findings.of_host(steps, host=name, options=command),
        "monthly": monthly.of_host(steps),
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
            if step["state"] != "skipped" and not charts.is_ceremony(step)
        ],
        "skipped": sum(step["state"] == "skipped" for step in steps),
        "archives": [archive(step) for step in of("pg_archive")],
        "vacuums": [vacuum(step) for step in of("pg_vacuum")],
        "evidence": [
            shown
            for step in steps
            if short_name(step["module"]) in evidence.MODULES
            and step["state"] != "skipped"
            and (shown := evidence.of_step(step))
        ],
        "checks": [
            check
            for step in steps
            if short_name(step["module"]) in PREFLIGHT
            for check in step["figures"].get("checks", ())
            if isinstance(check, Mapping)
        ],
        "others": [
            {"task": step["task"], "grid": grid}
            for step in steps
            if step["state"] != "skipped"
            and short_name(step["module"]) not in _KNOWN
            and (grid := _other_figures(step["figures"]))
        ],
        "queries": queries[:MAX_QUERIES],
        "queries_left_out": max(0, len(queries) - MAX_QUERIES),
        "row": {
            "where": " / ".join(filter(None, (of_host["environment"], of_host["database"]))) or wording.NONE,
            "moved": wording.number(of_host["totals"].get("moved_rows")),
            "remaining": wording.number(of_host["totals"].get("remaining_rows")),
            "tables": wording.number(of_host["totals"].get("done_tables")),
            "dead_rows": wording.number(_cleared(of_host["totals"])),
            "duration": wording.duration(of_host["duration_s"]),
        },
    }  # fmt: skip


def _server(version: object) -> object:
    """``18.1`` for 180001, as the server counts its versions."""
    return f"{version // 10000}.{version % 10000}" if isinstance(version, int) else version


def _other_figures(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Plain figures of a module for which there is no picture."""
    shown = {
        key: value
        for key, value in figures.items()
        if key not in ("status", "rc") and value not in (None, "") and not isinstance(value, (list, Mapping))
    }
    return _grid(shown, list(shown))


def _cleared(totals: Mapping[str, float]) -> float | None:
    """Dead rows that are gone; None where that is not known."""
    if "dead_rows_before" not in totals or "dead_rows_after" not in totals:
        return None
    return max(0, totals["dead_rows_before"] - totals["dead_rows_after"])


def _grouped(items: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The same sentence of many hosts once, with the hosts before it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        groups.setdefault((item.get("task", ""), item["text"]), []).extend([item["host"]] if item["host"] else [])
    found = []
    for (task, text), names in groups.items():
        who = ", ".join(names[:4]) + (f" and {count(len(names) - 4, 'more host')}" if len(names) > 4 else "")
        found.append({"who": who, "task": task, "text": text})
    return found


def report(
    record: Mapping[str, Any], history: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything that a report shows.

    :param history: the same playbook's earlier runs, oldest first, this run the last one
    :param notes: what was found out while the report was made
    """
    hosts = record["hosts"]
    troubled = [name for name, of_host in hosts.items() if of_host["status"] != "ok"]
    opened = set(list(hosts)[:OPEN_HOSTS] if len(hosts) <= OPEN_HOSTS else troubled[:OPEN_HOSTS])
    totals = record["totals"]
    figures: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("Rows moved", "moved_rows", wording.number),
        ("Duration", "duration_s", wording.duration),
        ("Dead rows found", "dead_rows_before", wording.number),
        ("Database size", "database_size_bytes", wording.size),
        ("Bloat before the run", "bloat_before_bytes", wording.size),
        ("Bloat after the run", "bloat_after_bytes", wording.size),
        ("Space given back", "freed_bytes", wording.size),
        ("Backup size", "backup_bytes", wording.size),
        ("Backup duration", "backup_s", wording.duration),
        ("Backup rate", "backup_rate_bytes_s", lambda value: f"{wording.size(value)}/s"),
        ("Files copied", "copied_bytes", wording.size),
    )
    drawn = [(*each, charts.trend(history, *each[1:])) for each in figures]
    shown = [(title, key, text) for title, key, text, chart in drawn if chart]
    trends = [{"title": title, "key": key, "chart": chart} for title, key, _, chart in drawn if chart]
    facts = [
        *[("Environment", ", ".join(record["environments"])) for _ in record["environments"][:1]],
        ("Started", wording.moment(record["started_at"])),
        ("Ended", wording.moment(record["ended_at"]) if record["ended_at"] else "not known"),
        ("Took", wording.duration(record["duration_s"])),
        ("Started by", f"{record['user']} on {str(record['controller']).rpartition('/')[0]}"),
        ("Inventory", ", ".join(record["inventory"] or ()) or wording.NONE),
    ]
    for title, key in (("Limit", "limit"), ("Tags", "tags"), ("Skipped tags", "skip_tags")):
        value = record[key]
        if value:
            facts.append((title, value if isinstance(value, str) else ", ".join(value)))
    headline = []
    if "moved_rows" in totals:
        planned = record["check_mode"]
        headline.append(
            (
                "Rows to move" if planned else "Rows moved",
                wording.number(totals.get("planned_rows") if planned else totals["moved_rows"]),
            )
        )
        if not planned:
            headline.append(("Rows left to move", wording.number(totals.get("remaining_rows"))))
    if "planned_tables" in totals:
        count = wording.number(totals["planned_tables"])
        if record["check_mode"]:
            headline.append(("Tables to treat", count))
        else:
            headline.append(("Tables treated", f"{wording.number(totals.get('done_tables'))} of {count}"))
    cleared = _cleared(totals)
    if cleared is not None:
        headline.append(("Dead rows cleared", wording.number(cleared)))
    # Of what was not done there is no figure.
    if totals.get("backup_bytes"):
        headline.append(("Backup", wording.size(totals["backup_bytes"])))
        headline.append(("Backup took", wording.duration(totals.get("backup_s"))))
    if totals.get("restored_bytes"):
        headline.append(("Restored", wording.size(totals["restored_bytes"])))
    if "copied_bytes" in totals and not record["check_mode"]:
        headline.append(("Files copied", wording.number(totals.get("copied_objects"))))
        headline.append(("Bytes copied", wording.size(totals["copied_bytes"])))
    headline += monthly.headline(totals)
    # Where a backup was restored, the database that was connected to is another one.
    if "database_size_bytes" in totals and "restored_bytes" not in totals:
        headline.append(("Database size", wording.size(totals["database_size_bytes"])))
    shown_hosts = [
        host(name, of_host, is_open=name in opened, command=findings.command(record, name))
        for name, of_host in hosts.items()
    ]
    found = [of_host["findings"] for of_host in shown_hosts]
    headline += findings.headline(found)
    return {
        "record": record,
        "verdict": findings.verdict(record["verdict"], record["status"], found),
        "word": {"ok": "OK", "failed": "Failed", "unknown": "Unknown"}[record["status"]],
        "facts": facts,
        "headline": headline,
        "drills": len(drill.documents(record)[0]),
        "hosts": shown_hosts,
        "columns": [each for each in _COLUMNS if any(one["row"][each[1]] != wording.NONE for one in shown_hosts)],
        "errors": _grouped(record["errors"]),
        "warnings": _grouped(record["warnings"]),
        "notes": [*record["notes"], *notes],
        "trends": trends,
        "history": [
            {
                "directory": run.get("directory"),
                "started": wording.moment(run["started_at"]),
                "status": run["status"],
                "cells": [wording.NONE if run.get(key) is None else text(run[key]) for _, key, text in shown],
            }
            for run in reversed(history)
        ],
    }


def summary_lines(record: Mapping[str, Any], width: int | None) -> list[str]:
    """One line per host for the end of the terminal's output, more where one is too narrow for it.

    :param width: columns of the terminal; None for a file or a pipe
    """
    names = {name: wording.shortened(name, 30) if width else name for name in record["hosts"]}
    longest = max(map(len, names.values()), default=0)
    lines = []
    for name, of_host in record["hosts"].items():
        text = f"{names[name]:<{longest}}  {of_host['status']:<7}  {', '.join(_did(record, name, of_host))}"
        hanging = " " * (longest + 11)
        lines += (
            [text] if width is None else textwrap.wrap(text, width, subsequent_indent=hanging, break_on_hyphens=False)
        )
        lines += doctor.table(of_host["steps"], width or 79)
        lines += findings.lines(of_host["steps"], name, findings.command(record, name), width or 79)
    return lines


def last_warnings(record: Mapping[str, Any], width: int | None = None) -> list[str]:
    """What a green run asks a person to look at, for the end of the terminal's output, where it is not overlooked.

    :param width: columns of the terminal, of which Ansible takes some for ``[WARNING]:``
    """
    if record["status"] != "ok":
        return []
    told = [f"{item['who']}: {item['text']}" if item["who"] else item["text"] for item in _grouped(record["warnings"])]
    if len(told) > MAX_REASONS:
        told[MAX_REASONS:] = [f"{count(len(told) - MAX_REASONS, 'more warning')}; the report has them all."]
    return [_wrapped(text, width, "[WARNING]: ") for text in told]


def _wrapped(text: str, width: int | None, mark: str) -> str:
    """``text`` in lines of a terminal, of which ``mark`` takes its part of the first."""
    if width is None:
        return text
    return "\n".join(textwrap.wrap(text, width, initial_indent=" " * len(mark), break_on_hyphens=False))[len(mark) :]


def _did(record: Mapping[str, Any], name: str, of_host: Mapping[str, Any]) -> list[str]:
    """What a run did to a host, or in check mode would do."""
    totals, planned = of_host["totals"], record["check_mode"]
    parts = []
    if planned and "planned_rows" in totals:
        parts.append(f"would move {count(totals['planned_rows'], 'row')}")
    elif "moved_rows" in totals:
        parts.append(f"{count(totals['moved_rows'], 'row')} moved")
    if planned and "planned_tables" in totals:
        parts.append(f"would treat {count(totals['planned_tables'], 'table')}")
    elif "done_tables" in totals:
        parts.append(f"{count(totals['done_tables'], 'table')} treated")
    # What a drill backed up and restored is beside the point; its page tells.
    rehearsed = drill.summary(name, of_host)
    if not planned and not rehearsed:
        if "backup_bytes" in totals:
            parts.append(f"backup of {wording.size(totals['backup_bytes'])}")
        if totals.get("restored_bytes"):
            parts.append(f"{wording.size(totals['restored_bytes'])} restored")
        if "copied_objects" in totals:
            parts.append(f"{count(totals['copied_objects'], 'file')} copied")
    for module, noun, plural, verb, done in _REWRITTEN:
        of_module = [step["figures"] for step in of_host["steps"] if short_name(step["module"]) == module]
        many = sum(each.get(f"planned_{plural}" if planned else f"{done}_{plural}") or 0 for each in of_module)
        if many:
            what = count(many, noun, plural)
            parts.append(f"would {verb} {what}" if planned else f"{what} {done}")
    if totals.get("freed_bytes") and not planned:
        parts.append(f"{wording.size(totals['freed_bytes'])} given back")
    found = findings.of_host(of_host["steps"], host=name)
    if found is not None:
        parts.append(count(found["count"], "finding") if found["count"] else "no findings")
    parts += rehearsed
    if not parts and of_host["status"] == "ok" and (said := _said(of_host["steps"])):
        return [f"{wording.duration(of_host['duration_s'])}: {said}"]
    return [*parts, wording.duration(of_host["duration_s"])]


def _said(steps: Sequence[Mapping[str, Any]]) -> str:
    """What the work of a run said: of what changed something, or would; else of the last that looked."""
    worked = [
        step
        for step in steps
        if step["msg"] and step["state"] in ("ok", "changed") and short_name(step["module"]) not in _AROUND_THE_WORK
    ]
    # Who held a lease is the work of lease.yml alone.
    worked = [step for step in worked if short_name(step["module"]) != "pg_lease"] or worked
    chosen = [step for step in worked if step["changed"]] or worked[-1:]
    return " ".join(dict.fromkeys(step["msg"] for step in chosen))


def last_words(record: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Why a run is red or unknown, with the cure, for the very end of the terminal's output; nothing where it is not.

    Each sentence once, with the hosts that it is true of before it.

    :param width: columns of the terminal, of which Ansible takes some for ``[ERROR]:``; no word is cut there
    """
    if record["status"] == "ok":
        return []
    reasons = [
        {"host": name, "task": f"{step['task']}, {charts.word(step)}", "text": _reason(step)}
        for name, of_host in record["hosts"].items()
        for step in of_host["steps"]
        if (is_failure(step) if of_host["status"] == "failed" else step["status"] == "unknown")
        and of_host["status"] != "ok"
        and not step["handled"]
    ]
    lines = [f"{item['who']}, {item['task']}: {item['text']}" for item in _grouped(reasons)]
    if len(lines) > MAX_REASONS:
        lines[MAX_REASONS:] = [f"{count(len(lines) - MAX_REASONS, 'more reason')}; the report has them all."]
    # Of one host that failed, the reason says it all.
    said_by_reason = len(record["hosts"]) == 1 and not record["interrupted"]
    told = lines if lines and said_by_reason else [record["verdict"], *lines]
    return [_wrapped(text, width, "[ERROR]: ") for text in told]


def _reason(step: Mapping[str, Any]) -> str:
    """What a step said; where it could not judge, what would make it known."""
    said = step["msg"] or f"{step['state']} without a message"
    if step["status"] != "unknown":
        return str(said)
    figures = step["figures"]
    told = [*(figures.get("unknown") or ()), *(each for each in figures.get("checks") or ())]
    more = [
        str(each["msg"])
        for each in told
        if isinstance(each, Mapping) and each.get("msg") and each.get("status", "unknown") == "unknown"
    ]
    more = more or [str(text) for text in step["warnings"]]
    return " ".join(dict.fromkeys([str(said), *(text for text in more[:MAX_REASONS] if text not in said)]))
