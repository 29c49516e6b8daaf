"""What the report and the metrics say of quantities."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import record_samples as samples
from ansible.module_utils.runbook.report import charts, sections
from ansible.module_utils.runbook.report.sections.capacity import SECTIONS

if TYPE_CHECKING:
    from ansible.module_utils.runbook.report.section import Section

SECTION: Section = SECTIONS[0]


def quantity(name: str, values: range, limit: float | None = None, **more: Any) -> dict[str, Any]:
    days = [(date(2026, 11, 1) + timedelta(days=at)).isoformat() for at in range(2 * len(values))]
    step = values.step
    return {
        "name": name, "source": "sql", "unit": "users", "kind": "level", "now": float(values[-1]), "p50": 90.0,
        "p90": 95.0, "limit": limit, "limit_of": "inventory", "limit_p50_on": None, "limit_p90_on": None,
        "history_days": len(values), "shown": [list(each) for each in zip(days, map(float, values), strict=False)],
        "forecast": [
            [day, values[-1] + step * at, values[-1] + 2.0 * step * at]
            for at, day in enumerate(days[len(values) :], start=1)
        ],
    } | more  # fmt: skip


def looked(*quantities: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"quantities": list(quantities), "findings": [], "unknown": [], **more}


def of_hosts(**figures: dict[str, Any]) -> dict[str, Any]:
    sample = samples.Sample(playbook="capacity")
    for host, each in figures.items():
        sample.result(sample.task("Look how quantities grow", "capacity_info"), host, msg="Looked.", figures=each)
    return samples.fold(sample.events)


def test_each_quantity_has_a_chart_and_what_it_says_in_words():
    record = of_hosts(db=looked(
        quantity("users", range(10, 30), 80.0), quantity("new", range(5, 6), shown=[], forecast=[], p50=None),
        findings=[{"id": "capacity_limit:users", "severity": "warning", "msg": "users is near.", "risk": "Make room."}],
        unknown=[{"kind": "new", "msg": "new: 0 days of history.", "fixable": False}],
        cost_now=30.0, cost_p50=35.5, cost_p90=40.0, currency="USD", prices_dated="2026-11-29",
    ))  # fmt: skip
    (panel,) = [each for each in sections.panels(record, "db") if each.title == "Capacity"]
    assert [chart.title for chart in panel.charts] == ["Users"]
    assert "limit 80 (inventory)" in panel.charts[0].description
    assert [(each["name"], each["status"]) for each in panel.checks] == [
        ("capacity_limit:users", "warning"), ("new", "unknown"),
    ]  # fmt: skip
    assert panel.checks[1]["msg"] == "0 days of history."
    assert ("A month costs now", "30.00 USD") in panel.grid
    assert panel.tables[0].rows[0][:5] == ["users", "29", "90", "95", "80"]
    assert SECTION.headline is not None
    assert SECTION.headline(record) == [("First limit, p90", "none in sight"), ("A month's cost", "30 → 36 USD")]


def test_a_limit_far_above_does_not_flatten_the_chart():
    points = [(float(at), float(at)) for at in range(1, 20)]
    drawn = [charts.fan(points, [(20.0, 20.0, 22.0)], str, limit=limit) for limit in (30.0, 3000.0, None)]
    assert [each["limit"] is not None for each in drawn] == [True, False, False]
    assert [each["marks"][0]["text"] for each in drawn] == ["30.0", "25.0", "25.0"]
    assert drawn[0]["fan"].endswith("Z")
    assert charts.fan(points, [], str, limit=None)["fan"] == ""


def test_a_limit_that_is_no_more_in_sight_loses_its_date():
    record = of_hosts(db=looked(
        quantity("far", range(20), 500.0),
        quantity("near", range(20), 40.0, limit_p50_on="1970-01-02", limit_p90_on="1970-01-01"),
        quantity("dead", range(20), 40.0), quantity("new", range(1), 40.0), quantity("free", range(20)),
        findings=[{"object": "near", "severity": "critical"}],
        unknown=[{"kind": "dead", "fixable": True}, {"kind": "new", "fixable": False}],
    ))  # fmt: skip
    kept = sections.lasting(record)["db"]
    assert kept["capacity_limit_p50_timestamp_seconds"] == {"far": math.inf, "near": 86_400.0}
    assert kept["capacity_limit_p90_timestamp_seconds"] == {"far": math.inf, "near": 0.0}
    assert kept["capacity_limit"] == {"far": 500.0, "near": 40.0, "dead": 40.0, "new": 40.0}
    ok = kept["capacity_ok"]
    assert (ok["far"], ok["near"], ok["free"], "new" in ok) == (1.0, 0.0, 1.0, False)
    assert math.isnan(ok["dead"])
    # On the board it is not told apart from what nobody ever looked at otherwise.
    assert SECTION.gauge is not None
    lines = {line.subject: line for line in SECTION.gauge.lines(kept, 0.0)}
    assert (lines["new"].text, lines["new"].status) == ("no forecast yet", "unknown")
    assert set(lines) == {"far", "near", "dead", "new", "free"}


def test_files_of_several_hosts_have_names_of_their_own():
    files = {
        "alerts": [{"alert": "A"}], "alerts_file_text": ["groups: []"], "alerts_diff": [],
        "alerts_test_text": ["rule_files:", "  - capacity_alerts.yml"],
    }  # fmt: skip
    assert SECTION.pages is not None
    one = of_hosts(db=looked(quantity("users", range(20)), **files))
    assert [page.name for page in SECTION.pages(one, [])] == ["capacity_alerts.yml", "capacity_alerts_test.yml"]
    two = of_hosts(db1=looked(quantity("users", range(20)), **files), db2=looked(quantity("users", range(20)), **files))
    pages = {page.name: page.text for page in SECTION.pages(two, [])}
    assert "  - db2-capacity_alerts.yml" in pages["db2-capacity_alerts_test.yml"]


def test_what_is_said_on_the_terminal():
    record = of_hosts(db=looked(quantity("users", range(20)), quantity("new", range(1), p50=None)))
    assert SECTION.did is not None
    assert SECTION.did(record["hosts"]["db"], False) == ["1 of 2 quantities forecast"]
