"""What is wrong with the databases and what fixes it: a part of the report, and a file of statements for review.

Statements that a run would apply by itself, one by one and by their id, stand in the file as they are; those that lock
people out, or that only a person can judge, stand there as comments.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.module_utils.runbook.report import gauges, wording
from ansible.module_utils.runbook.report.section import (
    Fact,
    Gauge,
    Line,
    Metric,
    Page,
    Panel,
    Record,
    Section,
    Step,
    lists,
)
from ansible.module_utils.runbook.rules.findings import SEVERITIES
from ansible.module_utils.runbook.rules.postgres.fixes import KINDS, of_statements
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

#: Modules whose results carry findings in the one shape of rules.findings.
FINDERS = ("pg_index_info", "pg_query_info", "pg_bloat_info", "supabase_advisors_info")
FILE_NAME = "findings.sql"
#: More of one severity than this are folded away.
OPEN_ITEMS = 15
#: From so many on, a list stands before them.
LISTED = 4
#: Findings that a terminal shows; there, more would hide the first.
ON_TERMINAL = 10
#: Bars of queries; all are in the table.
MAX_BARS = 8
#: A longer text needs a line of its own.
_LONG = 40
_TONES = {"critical": "failed", "warning": "unknown", "info": "handled"}
_NO_STATEMENT = "No statement fixes this."
#: Where the record has blotted out or cut a text, it is no statement any more.
_NOT_WHOLE = ("********", " characters left out)")


def of_host(steps: Iterable[Step], *, host: str, options: Sequence[str] = ()) -> dict[str, Any] | None:
    """Everything that was found on one host, the worst first; None where nobody looked.

    :param options: what a command line needs beside the finding's id to reach the same database
    """
    looked = {short_name(step["module"]): step["figures"] for step in steps if _looked(step)}
    if not looked:
        return None
    items = {}
    unknown, left_out = [], 0
    for module in FINDERS:
        figures = looked.get(module, {})
        for one in lists(figures, "findings"):
            items[str(one.get("id"))] = one
        for one in lists(figures, "unknown"):
            unknown.append({"name": _title(str(one.get("kind"))), "status": Status.UNKNOWN, "msg": str(one.get("msg"))})
        of_kinds = figures.get("findings_left_out")
        left_out += sum(of_kinds.values()) if isinstance(of_kinds, Mapping) else int(of_kinds or 0)
    if set(looked) == {"pg_bloat_info"} and not (items or unknown or left_out):
        # The monthly run tells of bloat; that it found nothing else is no news, for it looked for nothing else.
        return None
    twins = _twins(items.values())
    shown = [_item(one, options) | {"also": name in twins.values()} for name, one in items.items() if name not in twins]
    groups = []
    for severity in SEVERITIES:
        of_severity = [one for one in shown if one["severity"] == severity]
        groups.append(
            {
                "severity": severity,
                "tone": _TONES[severity],
                "open": OPEN_ITEMS,
                "found": of_severity,
                "count": len(of_severity),
            }
        )
    return {
        "host": host,
        "count": len(shown) + left_out,
        "heaviest": _heaviest(looked.get("pg_query_info", {})),
        "groups": groups,
        "unknown": unknown,
        "left_out": left_out,
        "listed": len(shown) >= LISTED,
        "applicable": any(one["apply"] for one in shown),
    }


def of_run(record: Record) -> list[dict[str, Any]]:
    """What was found on each host where somebody looked."""
    found = [of_host(one["steps"], host=name, options=command(record, name)) for name, one in record["hosts"].items()]
    return [one for one in found if one is not None]


def headline(record: Record) -> list[Fact]:
    """How many findings of which severity there are on all hosts; empty where nobody looked."""
    looked = of_run(record)
    if not looked:
        return []
    counts = {
        severity: sum(group["count"] for found in looked for group in found["groups"] if group["severity"] == severity)
        for severity in SEVERITIES
    }
    return [
        ("Findings", wording.number(sum(found["count"] for found in looked))),
        *((severity.capitalize(), wording.number(count)) for severity, count in counts.items() if count),
    ]


def remark(record: Record) -> str:
    """What was found, in a sentence; empty where nothing was."""
    every = sum(found["count"] for found in of_run(record))
    counts = ", ".join(f"{count} {severity.lower()}" for severity, count in headline(record)[1:])
    return f"{count(every, 'finding')} ({counts})." if every else ""


def _looked(step: Mapping[str, Any]) -> bool:
    return short_name(step["module"]) in FINDERS and "findings" in step["figures"]


def _twins(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Ids of Supabase's findings that say what one of ours says, each with the id of ours.

    Its key names the lint, schema, table and index or constraint, joined by underscores.
    """
    ours: dict[str, str] = {}
    theirs: dict[str, str] = {}
    for one in items:
        finding, kind = str(one.get("id")), str(one.get("kind"))
        evidence = one.get("evidence")
        figures = evidence if isinstance(evidence, Mapping) else {}
        if kind.startswith("supabase_"):
            theirs[str(figures.get("cache_key"))] = finding
            continue
        table, name = str(figures.get("table") or one.get("object")), str(one.get("object")).rpartition(".")[2]
        key = table.replace(".", "_", 1)
        if kind == "unused_index":
            ours[f"unused_index_{key}_{name}"] = finding
        elif kind == "missing_foreign_key_index":
            ours[f"unindexed_foreign_keys_{key}_{figures.get('constraint')}"] = finding
    return {theirs[key]: ours[key] for key in theirs if key in ours}


def _title(kind: str) -> str:
    words = kind.replace("_", " ").strip()
    for plain, proper in (("foreign key", "foreign-key"), ("supabase ", "Supabase: ")):
        words = words.replace(plain, proper)
    return words[:1].upper() + words[1:]


def _item(one: Mapping[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """One finding, its figures written as people read them."""
    evidence = one.get("evidence")
    figures = dict(evidence) if isinstance(evidence, Mapping) else {}
    query = figures.pop("query", None)
    statements = [str(statement) for statement in one.get("ddl") or ()]
    finding = str(one.get("id"))
    severity = str(one.get("severity"))
    can = str(one.get("kind")) in KINDS and of_statements(statements) is not None
    words = [*options, "-e", f"performance_apply={finding}"]
    return {
        "id": finding,
        "severity": severity if severity in SEVERITIES else "info",
        "title": _title(str(one.get("kind"))),
        "object": str(one.get("object") or wording.NONE),
        "msg": str(one.get("msg") or ""),
        "grid": _grid(figures),
        "query": str(query) if query else "",
        "ddl": ";\n".join(statement.rstrip("; ") for statement in statements) + (";" if statements else ""),
        "statements": statements,
        "risk": str(one.get("risk") or ""),
        "estimate": _estimate(one.get("estimated")),
        "apply": shlex.join(words) if can else "",
    }


def _grid(figures: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Figures with their names, and whether one is so long that it needs a line of its own."""
    shown: dict[str, tuple[str, bool]] = {}
    for key, value in figures.items():
        if value in (None, "", [], {}):
            continue
        # A number that names something is no figure.
        names = key == "pid" or key.endswith("_id")
        text = str(value) if names else wording.figure(key, value)
        label = wording.label(key)
        shown[f"{label} for" if label in shown else label] = (text, len(text) > _LONG)
    return [(label, text, long) for label, (text, long) in shown.items()]


def _heaviest(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """The queries that took most time in all, as bars and as a table; None where there are none."""
    queries = [one for one in lists(figures, "queries") if isinstance(one.get("total_percent"), (int, float))]
    if not queries:
        return None
    compared = figures.get("compared_with")
    window = f"since {wording.moment(figures.get('since'))}" if figures.get("since") else "since nobody knows when"
    return {
        "window": f"{wording.things(figures.get('calls'), 'call')} of "
        f"{wording.things(figures.get('statements'), 'statement')} "
        f"took {_ms(figures.get('total_ms'))} {window}"
        + (f", when the run {compared} looked." if compared else ", when the counters began."),
        "bars": [
            {
                "label": wording.shortened(str(one.get("query")), 90),
                "short": wording.shortened(str(one.get("query")), 34),
                "title": str(one.get("query")),
                "value": f"{_ms(one.get('total_ms'))}, {one['total_percent']:.0f} %",
                "word": f"{wording.things(one.get('calls'), 'call')}",
                "x": 0,
                "width": min(max(one["total_percent"], 0.4), 100),
                "tone": "ok",
            }
            for one in sorted(queries, key=lambda one: -one["total_percent"])[:MAX_BARS]
        ],
        "rows": [
            [
                str(one.get("query")),
                wording.number(one.get("calls")),
                _ms(one.get("total_ms")),
                _ms(one.get("mean_ms")),
                wording.number(one.get("rows_per_call")),
                wording.NONE if one.get("cache_hit_percent") is None else f"{one['cache_hit_percent']:.1f} %",
                wording.size(one.get("temp_bytes")),
                wording.size(one.get("wal_bytes")),
            ]
            for one in queries
        ],
    }


def _ms(value: float | None) -> str:
    return wording.duration(None if value is None else value / 1000)


def _estimate(estimated: object) -> str:
    if not isinstance(estimated, Mapping):
        return ""
    before, after = estimated.get("cost_before"), estimated.get("cost_after")
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return ""
    return f"{wording.number(before)} → {wording.number(after)} planner units, by a hypothetical index"


# --- the file of statements -------------------------------------------------------------------------------------------


def script(record: Mapping[str, Any]) -> str:
    """All statements of a run for review, as an SQL file; empty where the run looked for no findings."""
    parts = [line for found in of_run(record) for line in _of_host(found)]
    if not parts:
        return ""
    head = [
        f"Findings of run {record['run_id']}, for review. None of this was run.",
        "Read a statement, then apply it by its id with the line above it: the run looks once more whether the finding",
        "stands, bounds each wait, and clears away what a failure leaves. CONCURRENTLY runs in no transaction, so by",
        "hand it is psql without --single-transaction.",
        "On production add -e confirm=production; --check --diff shows first what would be done.",
        "What is commented out locks people out, or is for a person or another playbook.",
    ]
    return "\n".join([*(_comment(line) for line in head), *parts]) + "\n"


def lines(record: Record, host: str, width: int) -> list[str]:
    """The worst findings for a terminal, each with the id by which it is applied.

    :param width: columns of the terminal
    """
    options = command(record, host)
    found = of_host(record["hosts"][host]["steps"], host=host, options=options)
    if found is None or not found["count"]:
        return []
    shown = [one for group in found["groups"] for one in group["found"]][:ON_TERMINAL]
    told = []
    for one in shown:
        head = f"  {one['severity']:<8}  "
        indent = " " * len(head)
        told += textwrap.wrap(one["msg"], width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
        # An id is copied, and stays in one piece.
        told.append(indent + (one["id"] if one["apply"] else "Its fix is in the report."))
    if found["count"] > len(shown):
        told.append(f"  {found['count'] - len(shown):,} more in the report.")
    if any(one["apply"] for one in shown):
        told += ["  Apply one by its id:", f"  {shlex.join([*options, '-e', 'performance_apply='])}<id>"]
    return told


def command(record: Mapping[str, Any], host: str) -> list[str]:
    """The command line that reaches the same database, as words."""
    inventory = [word for source in record["inventory"] or () for word in ("-i", str(source))]
    limit = ["--limit", host] if len(record["hosts"]) > 1 else []
    confirm = ["-e", "confirm=production"] if record["hosts"][host].get("environment") == "production" else []
    return ["ansible-playbook", *inventory, "playbooks/performance.yml", *limit, *confirm]


def _of_host(found: Mapping[str, Any]) -> list[str]:
    lines = ["", _comment("=" * 100), _comment(f"{found['host']}: {count(found['count'], 'finding')}")]
    for group in found["groups"]:
        for one in group["found"]:
            lines += [
                "",
                _comment(f"{one['severity'].upper()} {one['title']}: {one['object']}"),
                _comment(one["msg"]),
                _comment(f"Risk: {one['risk']}" if one["statements"] else f"{_NO_STATEMENT} {one['risk']}"),
            ]
            if one["apply"]:
                lines.append(_comment(f"Apply: {one['apply']}"))
            for statement in one["statements"]:
                lines += _statement(statement, live=bool(one["apply"]))
    return lines


def _statement(statement: str, *, live: bool) -> list[str]:
    if any(mark in statement for mark in _NOT_WHOLE):
        return [_comment("Not shown: the record does not hold the statement whole.")]
    text = statement.rstrip("; ") + ";"
    # A name may hold the end of a line.
    return [text] if live else [f"-- {line}" for line in text.splitlines()]


def _comment(text: str) -> str:
    """On one line, because the end of a line ends a comment."""
    return f"-- {' '.join(text.split())}".rstrip()


# --- in the report ----------------------------------------------------------------------------------------------------


def _panels(steps: Sequence[Step], record: Record, host: str) -> list[Panel]:
    found = of_host(steps, host=host, options=command(record, host))
    return [] if found is None else [Panel("Findings", template="findings", content=found, is_first=True)]


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    found = of_host(host["steps"], host="")
    if found is None:
        return []
    return [count(found["count"], "finding") if found["count"] else "no findings"]


def _pages(record: Record, _history: Sequence[Mapping[str, Any]]) -> list[Page]:
    statements = script(record)
    return [Page(FILE_NAME, statements)] if statements else []


def _lasting(steps: Sequence[Step]) -> dict[str, dict[str, float]]:
    found = of_host(steps, host="")
    return {"findings": {group["severity"]: group["count"] for group in found["groups"]}} if found else {}


def _on_board(facts: Mapping[str, Any], _now_s: float) -> list[Line]:
    found = gauges.by_label(facts, "findings")
    if not found:
        return []
    text = ", ".join(f"{found[each]:.0f} {each}" for each in SEVERITIES if found.get(each)) or "none"
    if found.get("critical"):
        return [
            Line("findings", text, Status.BREACH, "Read the report; apply a finding by its id, or decide against it.")
        ]
    return [Line("findings", text)]


SECTIONS = (
    Section(
        modules=FINDERS,
        panels=_panels,
        headline=headline,
        remark=remark,
        did=_did,
        lines=lines,
        pages=_pages,
        lasting=_lasting,
        metrics={
            "findings": Metric(
                "Findings of that severity in the last review; those of a kind beyond the fiftieth left out.",
                label="severity",
            ),
        },
        gauge=Gauge("Findings in databases", "performance.yml", _on_board, groups=("databases",)),
    ),
    Section(
        modules=("pg_index_info",),
        title="Tables and indexes that were checked",
        figures=(
            "tables", "indexes", "index_size_bytes", "counted_since", "counted_days", "counters_id", "is_standby",
            "standbys", "cache_hit_percent", "oldest_xid_age", "hypopg", "duration_s",
        ),
    ),
    Section(
        modules=("pg_query_info",),
        title="Queries that were checked",
        figures=(
            "statements", "calls", "total_ms", "since", "window_s", "compared_with", "was_reset", "evicted", "identity",
            "at", "reset_at", "duration_s",
        ),
    ),
)  # fmt: skip
