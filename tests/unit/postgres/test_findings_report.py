"""Findings in the report, and in the file of statements for review."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import record_samples as samples
from ansible.module_utils.runbook.report import metrics, render, sections, terminal, view
from ansible.module_utils.runbook.report.sections import findings
from ansible.module_utils.runbook.rules import record as rules

if TYPE_CHECKING:
    from pathlib import Path


def finding(kind: str, severity: str, name: str, *ddl: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{kind}:{name}", "kind": kind, "severity": severity, "object": name,
        "evidence": {"size_bytes": 41_943_040, "table": "public.messages"}, "msg": f"{name} is no good.",
        "ddl": list(ddl), "risk": "A little slower.", "estimated": None,
    } | more  # fmt: skip


DROP = finding("unused_index", "info", "public.messages_old_idx", 'DROP INDEX CONCURRENTLY "public"."messages_old_idx"')
FULL = finding("bloated_table", "warning", "public.notes", 'VACUUM (FULL, ANALYZE) "public"."notes"')
CREATE = finding(
    "missing_foreign_key_index", "warning", "public.messages",
    'CREATE INDEX CONCURRENTLY "messages_user_id_idx" ON "public"."messages" ("user_id")',
    estimated={"cost_before": 12_345.6, "cost_after": 8.4},
    evidence={"constraint": "messages_user_id_fkey", "columns": ["user_id"], "size_bytes": 1},
)  # fmt: skip
NO_FIX = finding("transaction_id_wraparound", "critical", "public.<b>audit</b>")
SUPABASE = finding(
    "supabase_unused_index", "info", "public.messages",
    evidence={"cache_key": "unused_index_public_messages_messages_old_idx", "title": "Unused Index"},
)  # fmt: skip


def record(*found: dict[str, Any], hosts: tuple[str, ...] = ("db1",), **figures: Any) -> dict[str, Any]:
    return samples.fold(journal(*found, hosts=hosts, **figures).events)


def journal(*found: dict[str, Any], hosts: tuple[str, ...] = ("db1",), **figures: Any) -> samples.Sample:
    sample = samples.Sample(playbook="performance", inventory=["inventories/my prod"])
    for host in hosts:
        sample.step(
            "Look", "pg_index_info", host, msg="Looked.",
            figures={"status": "ok", "findings": list(found), "findings_left_out": {}, "unknown": []} | figures,
        )  # fmt: skip
    return sample.end(**{host: {} for host in hosts})


def shown(made: dict[str, Any], host: str = "db1") -> dict[str, Any]:
    found = findings.of_host(made["hosts"][host]["steps"], host=host, options=findings.command(made, host))
    assert found is not None
    return found


def items(made: dict[str, Any], host: str = "db1") -> list[dict[str, Any]]:
    return [one for group in shown(made, host)["groups"] for one in group["found"]]


def test_the_worst_first_and_only_what_is_safe_may_be_applied():
    found = shown(record(DROP, FULL, CREATE, NO_FIX))
    assert [group["severity"] for group in found["groups"]] == ["critical", "warning", "info"]
    by_id = {one["id"]: one for group in found["groups"] for one in group["found"]}
    assert {key: bool(one["apply"]) for key, one in by_id.items()} == {
        DROP["id"]: True, CREATE["id"]: True, FULL["id"]: False, NO_FIX["id"]: False
    }  # fmt: skip
    assert by_id[DROP["id"]]["apply"] == (
        "ansible-playbook -i 'inventories/my prod' playbooks/performance.yml "
        "-e performance_apply=unused_index:public.messages_old_idx"
    )
    assert by_id[CREATE["id"]]["estimate"] == "12,346 → 8.4 planner units, by a hypothetical index"
    assert ("Size", "40.0 MiB", False) in by_id[DROP["id"]]["grid"]


def test_one_of_two_hosts_is_named():
    made = record(DROP, hosts=("db1", "db2"))
    assert "--limit db2" in items(made, "db2")[0]["apply"]


def test_what_supabase_says_too_is_said_once():
    made = record(DROP, SUPABASE)
    assert [(one["id"], one["also"]) for one in items(made)] == [(DROP["id"], True)]
    assert shown(made)["count"] == 1
    assert [(one["title"], one["also"]) for one in items(record(SUPABASE))] == [("Supabase: unused index", False)]


def test_metrics_count_each_severity_none_of_it_too():
    made = record(DROP, FULL, CREATE)
    text = metrics.metrics(made, sections.lasting(made))
    assert [line.split()[1] for line in text.splitlines() if line.startswith("runbook_findings{")] == ["0", "2", "1"]
    assert sections.lasting(samples.fold(samples.Sample().end(db1={}).events)) == {}


def test_a_review_that_failed_leaves_the_counts_of_the_one_before():
    fewer = sections.lasting(record(FULL))
    assert sections.merged(fewer, sections.lasting(record(DROP, FULL, NO_FIX))) == fewer
    assert sections.merged({}, fewer)["db1"]["findings"] == {"critical": 0, "warning": 1, "info": 0}


def test_nobody_looked_is_not_no_findings():
    assert findings.of_host([], host="db1") is None
    assert findings.script(samples.fold(samples.Sample().end(db1={}).events)) == ""
    assert shown(record())["count"] == 0


def test_a_long_figure_has_a_line_of_its_own_and_a_number_that_names_is_none():
    evidence = {"pid": 15099, "state": "idle", "state_s": 4.2, "used_percent": 92, "definition": "d" * 41, "gone": None}
    grid = items(record(DROP | {"evidence": evidence}))[0]["grid"]
    assert grid == [
        ("Pid", "15099", False),
        ("State", "idle", False),
        ("State for", "4.2 s", False),
        ("Used percent", "92 %", False),
        ("Definition", "d" * 41, True),
    ]


def test_all_well_is_no_word_for_a_run_that_found_something():
    made = record(DROP, FULL)
    assert view.verdict(made) == "Nothing failed. 2 findings (1 warning, 1 info)."
    assert view.verdict(record(DROP) | {"status": "failed", "verdict": "1 of 1 host failed: db1."}) == (
        "1 of 1 host failed: db1. 1 finding (1 info)."
    )
    assert view.verdict(record()) == "All well."


def test_the_heaviest_queries_are_drawn():
    sample = samples.Sample(playbook="performance")
    query = {
        "query_id": "1", "query": "SELECT $1 <b>", "calls": 12, "total_ms": 5000.0, "total_percent": 50.66,
        "mean_ms": 416.7, "rows_per_call": 1.0, "cache_hit_percent": None, "temp_bytes": 0, "wal_bytes": 2048,
    }  # fmt: skip
    figures = {
        "status": "ok", "findings": [], "queries": [query], "calls": 40, "statements": 7, "total_ms": 9900.0,
        "since": "2026-03-01T02:00:00+00:00", "compared_with": None,
    }  # fmt: skip
    sample.step("Look", "pg_query_info", "db1", msg="Looked.", figures=figures)
    heaviest = shown(samples.fold(sample.end(db1={}).events))["heaviest"]
    assert (
        heaviest["window"]
        == "40 calls of 7 statements took 9.9 s since 2026-03-01 02:00:00 UTC, when the counters began."
    )
    assert [(bar["value"], bar["width"]) for bar in heaviest["bars"]] == [("5.0 s, 51 %", 50.66)]
    assert heaviest["rows"] == [["SELECT $1 <b>", "12", "5.0 s", "0.4 s", "1", "–", "0 B", "2.0 KiB"]]


def test_the_headline_counts_all_hosts():
    made = record(DROP, FULL, CREATE, NO_FIX, hosts=("db1", "db2"))
    assert findings.headline(made) == [
        ("Findings", "8"),
        ("Critical", "2"),
        ("Warning", "4"),
        ("Info", "2"),
    ]
    assert findings.headline(samples.fold(samples.Sample().end(db1={}).events)) == []


def test_what_was_left_out_counts():
    found = shown(record(DROP, findings_left_out={"unused_index": 7}))
    assert (found["count"], found["left_out"]) == (8, 7)


def statements(text: str) -> list[str]:
    """What psql would run."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [line for line in "\n".join(lines).split(";\n") if line.strip()]


def test_the_file_runs_nothing_that_locks():
    text = findings.script(record(DROP, FULL, CREATE, NO_FIX))
    assert [line.strip(";\n") for line in statements(text)] == [CREATE["ddl"][0], DROP["ddl"][0]]
    assert '-- VACUUM (FULL, ANALYZE) "public"."notes";' in text
    assert "-- Apply: ansible-playbook -i 'inventories/my prod' playbooks/performance.yml -e performance_apply=" in text
    assert "-- No statement fixes this." in text


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x0c", "\x85", "\u2028"])
def test_a_name_does_not_break_out_of_a_comment(end):
    evil = f"x{end}DROP TABLE users;"
    one = finding("bloated_table", "warning", evil, f'VACUUM (FULL, ANALYZE) "public"."{evil}"', msg=evil, risk=evil)
    text = findings.script(record(one))
    assert all(line.startswith("--") or not line for line in re.split(r"[\n\r]", text))


def test_a_statement_that_the_record_cut_is_not_shown():
    blotted = finding("unused_index", "info", "x", "DROP INDEX CONCURRENTLY password=********")
    cut = finding("unused_index", "info", "y", "DROP INDEX " + "y" * 5000)
    made = record(blotted, rules.figures({"findings": [cut]}, own=True)["findings"][0])
    assert statements(findings.script(made)) == []
    assert findings.script(made).count("does not hold the statement whole") == 2


def test_the_report_shows_it_and_escapes_it(tmp_path: Path):
    folder = journal(DROP, FULL, CREATE, NO_FIX, unknown=[{"kind": "slow_query", "msg": "No extension."}]).write(
        tmp_path / "run"
    )
    render.render_run(folder)
    page = (folder / "report.html").read_text()
    assert "4 findings" in page
    assert "<b>audit" not in page
    text = html.unescape(page)
    for one in (DROP, FULL, CREATE):
        assert one["msg"] in text
        assert one["ddl"][0] in text
    assert "No extension." in page
    assert 'href="findings.sql"' in page
    assert (folder / "findings.sql").read_text() == findings.script(json.loads((folder / "record.json").read_text()))
    assert DROP["msg"].replace("_", "\\_") in (folder / "report.md").read_text()


def test_who_only_measured_bloat_does_not_say_that_nothing_was_found():
    quiet = {"findings": [], "unknown": [], "bloat_bytes": 5, "status": "ok"}
    step = {"module": "pg_bloat_info", "figures": quiet}
    assert findings.of_host([step], host="db1") is None
    reviewed = findings.of_host([step, {"module": "pg_index_info", "figures": quiet}], host="db1")
    assert reviewed is not None
    assert reviewed["count"] == 0


def test_the_command_that_applies_a_finding_confirms_production():
    made = record(DROP)
    made["hosts"]["db1"]["environment"] = "production"
    assert " -e confirm=production -e performance_apply=<id>" in terminal.summary_lines(made, 79)[-1]
    assert " -e confirm=production -e performance_apply=unused" in items(made)[0]["apply"]


def test_a_terminal_shows_each_finding_with_the_id_that_applies_it():
    lines = terminal.summary_lines(record(DROP, NO_FIX), 79)
    assert f"            {DROP['id']}" in lines
    assert "            Its fix is in the report." in lines
    assert f"            {NO_FIX['id']}" not in lines
    assert lines[-2] == "  Apply one by its id:"
    assert lines[-1].endswith("-e performance_apply=<id>")
    assert all(len(line) <= 79 for line in lines[:-1])
