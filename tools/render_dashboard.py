#!/usr/bin/env python3
"""Write the Grafana dashboard of all that runs leave in metrics.prom.

A panel for each metric that a section declares, drawn by what its name says it is: a moment in the past is shown as an
age, one in the future as the time that is left, a yes or no in words, anything else over time.

.venv/bin/python tools/render_dashboard.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "module_utils") not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

from ansible.module_utils.runbook.report.sections import METRICS  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.runbook.report.section import Metric

FILE = ROOT / "monitoring" / "dashboards" / "runbook.json"
#: Rows by the first word of a metric's name; a word that is not here is its own title.
TITLES = {
    "web": "Pages of the application",
    "backup": "Backups", "pitr": "Recovery to a point in time", "key": "Keys", "tls": "Certificates",
    "server": "Updates of servers", "packages": "Packages of the application", "drill": "Disaster-recovery drills",
    "deployment": "Deployments", "files": "Uploaded files", "findings": "Findings in the database",
    "reviews": "Post-incident reviews",
    "sla": "Service levels", "dashboards": "Dashboards and alert rules",
}  # fmt: skip
#: Moments that lie ahead, and facts of which 1 is the bad answer.
_AHEAD = re.compile(r"_(due|not_after|critical|waiver_end|limit_p\d+)_timestamp_seconds$")
_BAD = ("deployment_rolled_back",)
_ANSWER = re.compile(r"_(ok|success|served|verified|rolled_back)$")
_UNITS = (("_bytes", "bytes"), ("_seconds", "s"), ("_ratio", "percentunit"))
#: Panels a row, and the grid's columns.
_PER_ROW, _COLUMNS, _HEIGHT = 4, 24, 6
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RUN = 'environment=~"$environment"'
_HOST = f'{_RUN},host=~"$host"'
#: Beside the metrics that outlast a run: each run itself. Title, query, legend, type, unit, meaning.
_OF_RUNS = (
    (
        "Last run was well", f"min by (environment, playbook, host) (runbook_run_host_success{{{_HOST}}})",
        "{{environment}} {{playbook}} {{host}}", "stat", "yes_no", "1 if all was well on the host, else 0.",
    ),
    (
        "Status of the last run",
        f"max by (environment, playbook, status) (runbook_run_status{{{_RUN}}}) == 1",
        "{{environment}} {{playbook}}: {{status}}", "stat", "short", "Unknown is never green.",
    ),
    (
        "Last run ended",
        f"time() - max by (environment, playbook) (runbook_run_end_timestamp_seconds{{{_RUN}}})",
        "{{environment}} {{playbook}}", "stat", "s",
        "How long ago; one that was cut off leaves the moment of the run before it.",
    ),
    (
        "Scheduled jobs, last success",
        f"time() - max by (environment, schedule, host) (runbook_job_last_success_timestamp_seconds{{{_HOST}}})",
        "{{environment}} {{schedule}} {{host}}", "stat", "s", "How long ago each scheduled job was last well.",
    ),
    (
        "Points on the board", "sum by (inventory, state) (runbook_board_points)", "{{inventory}}: {{state}}",
        "timeseries", "short", "Points that need a person, by colour.",
    ),
    (
        "Board made", "time() - max by (instance) (runbook_board_made_timestamp_seconds)", "{{instance}}",
        "stat", "s", "How long ago.",
    ),
    (
        "Duration", f"max by (environment, playbook) (runbook_run_duration_seconds{{{_RUN}}})",
        "{{environment}} {{playbook}}", "timeseries", "s",
        "How long the last run took.",
    ),
    (
        "Steps that did not end well",
        f"sum by (environment, playbook, host) (runbook_run_step_success{{{_HOST}}} == bool 0)",
        "{{environment}} {{playbook}} {{host}}", "timeseries", "short", "Steps of the last run.",
    ),
    (
        "Slowest steps", f"topk(10, runbook_run_step_duration_seconds{{{_HOST}}})",
        "{{environment}} {{playbook}} {{host}}: {{task}}", "timeseries", "s", "The ten that took longest.",
    ),
    (
        "Figures of steps", f'{{__name__=~"runbook_run_step_.+",{_HOST}}}',
        "{{__name__}} {{environment}} {{host}}: {{task}}", "table", "short", "All numbers of the last runs' results.",
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    rows: dict[str, list[dict[str, Any]]] = {"Runs": [_panel(*each) for each in _OF_RUNS]}
    for name, metric in METRICS.items():
        word = name.partition("_")[0]
        rows.setdefault(TITLES.get(word, word.capitalize()), []).append(_of_metric(name, metric))
    return {
        "uid": "runbook",
        "title": "Runbook",
        "description": "What the playbooks of the runbook found out. Made by tools/render_dashboard.py.",
        "tags": ["runbook"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "5m",
        "time": {"from": "now-30d", "to": "now"},
        "templating": {
            "list": [
                _variable("datasource", "datasource", "prometheus"),
                _chosen("environment", "label_values(runbook_run_host_success, environment)"),
                _chosen("host", f"label_values(runbook_run_host_success{{{_RUN}}}, host)"),
            ]
        },
        "panels": list(_placed(rows)),
    }


def _variable(name: str, kind: str, query: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "query": query}


def _chosen(name: str, query: str) -> dict[str, Any]:
    return _variable(name, "query", query) | {
        "datasource": _DATASOURCE,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
    }


def _of_metric(name: str, metric: Metric) -> dict[str, Any]:
    by = ", ".join(filter(None, ("environment", "host", metric.label)))
    legend = " ".join(f"{{{{{each}}}}}" for each in by.split(", "))
    selected = f"runbook_{name}{{{_HOST}}}"
    title = re.sub(r"_(timestamp_seconds|seconds|bytes|ratio)$", "", name).replace("_", " ").capitalize()
    if _AHEAD.search(name):
        return _panel(f"{title}, left", f"min by ({by}) ({selected}) - time()", legend, "stat", "s", metric.text)
    if name.endswith("_timestamp_seconds"):
        return _panel(f"{title}, ago", f"time() - max by ({by}) ({selected})", legend, "stat", "s", metric.text)
    if _ANSWER.search(name):
        # Of two playbooks that disagree the bad answer is shown.
        least, unit = ("max", "no_yes") if name in _BAD else ("min", "yes_no")
        return _panel(title, f"{least} by ({by}) ({selected})", legend, "stat", unit, metric.text)
    unit = next((unit for end, unit in _UNITS if name.endswith(end)), "short")
    return _panel(title, f"max by ({by}) ({selected})", legend, "timeseries", unit, metric.text)


def _panel(title: str, query: str, legend: str, kind: str, unit: str, text: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": unit}
    if unit in ("yes_no", "no_yes"):
        good, bad = ("1", "0") if unit == "yes_no" else ("0", "1")
        words = {"1": "yes", "0": "no"}
        said = {good: {"text": words[good], "color": "green"}, bad: {"text": words[bad], "color": "red"}}
        unknown = {"match": "nan", "result": {"text": "unknown", "color": "orange"}}
        defaults = {"mappings": [{"type": "value", "options": said}, {"type": "special", "options": unknown}]}
    target = {"refId": "A", "datasource": _DATASOURCE, "expr": query, "legendFormat": legend}
    return {
        "title": title,
        "description": text,
        "type": kind,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        # What is shown as it is now needs no past.
        "targets": [target | ({} if kind == "timeseries" else {"instant": True})],
    } | ({"options": {"textMode": "value_and_name"}} if kind == "stat" else {})


def _placed(rows: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    number = y = 0
    for title, panels in rows.items():
        number += 1
        yield {
            "id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": y},
        }  # fmt: skip
        y += 1
        width = _COLUMNS // _PER_ROW
        for at, panel in enumerate(panels):
            number += 1
            place = {"h": _HEIGHT, "w": width, "x": at % _PER_ROW * width, "y": y + at // _PER_ROW * _HEIGHT}
            yield {"id": number, **panel, "gridPos": place}
        y += -(-len(panels) // _PER_ROW) * _HEIGHT


def rendered() -> str:
    """The dashboard as the file has it."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(rendered(), encoding="utf-8")
