"""The report of a drill: its page, its history, what monitoring is told, and hostile or damaged documents."""

from __future__ import annotations

import doctest
import itertools
import json
import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import drill_samples
import pytest
import record_samples
from ansible.module_utils.runbook.report import drill, metrics, render, sections, terminal, view, wording
from ansible.module_utils.runbook.rules.record import epoch_s
from conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED = "Its object is damaged."
HOSTILE = "<script>alert(1)</script>|`x`"


def run(*drills: dict[str, Any], start_s: float = record_samples.START_S, **facts: Any) -> record_samples.Sample:
    """A run whose steps told of these drills."""
    sample = record_samples.Sample(start_s, playbook="dr_drill", **facts)
    for document in drills:
        told = {"drill": document, "status": document.get("status")}
        sample.step("Judge", "dr_drill_judge", "db1", figures=told, msg="Judged.")
    return sample.end(db1={"ok": 1})


def folded(*drills: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return record_samples.fold(run(*drills, **facts).events)


def pages(record: dict[str, Any], *earlier: dict[str, Any]) -> dict[str, str]:
    history = [view.point(each, f"run-{number}") for number, each in enumerate(earlier)]
    return render.pages(record, [*history, view.point(record, None)])


def series(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Records of drills a day apart."""
    return [
        folded(
            drill_samples.drill(
                drill_id=f"2026-02-{number:02}T02-00-00Z", started_at=f"2026-02-{number:02}T02:00:00+00:00", **changes
            ),
            start_s=record_samples.START_S - (30 - number) * 86_400,
        )
        for number in range(1, count + 1)
    ]


class Tags(HTMLParser):
    """Holds that every element is closed, in order; collects identifiers and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.links += [named["href"] or ""] if "href" in named else []
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of a drawing that has nothing inside."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_doctests():
    outcome = doctest.testmod(drill)
    assert outcome.attempted
    assert outcome.failed == 0


# --- the page ---------------------------------------------------------------------------------------------------------


def test_a_run_without_a_drill_has_no_page():
    assert pages(folded()) == {}


def test_the_page_tells_the_objectives_the_phases_the_checks_and_who_owes_what():
    document = drill_samples.drill(
        status="breach",
        msg="rpo (breach): 2.8 h of acknowledged work was lost (RPO 60 min).",
        measured={"rpo_s": 10_000.0},
        checks=[
            {"name": "foreign_keys", "status": "ok", "msg": "All hold."},
            {"name": "files", "status": "unknown", "msg": "No bucket is named."},
            {"name": "tables", "status": "breach", "msg": "public.notes differs."},
        ],
        advice=["Set up point-in-time recovery (pitr.yml)."],
        recovery={"skipped": [{"backup_id": "2026-03-01T01-00-00Z", "reason": "its hash differs"}]},
        lessons={"missing": ["2026-01-01.toml: lesson 1: owner"]},
        tear_down={"status": "breach", "msg": "Port 5499 is still open."},
    )
    found = pages(folded(document))
    assert set(found) == {"drill.html", "drill.md"}
    for text in found.values():
        plain = text.replace("\\", "")
        for part in (
            "rpo (breach)", "2 h 46 min", "1 h", "missed", "met", "Provision the target", "public.notes differs.",
            "Set up point-in-time recovery (pitr.yml).", "its hash differs", "2026-01-01.toml: lesson 1: owner",
            "drills/lessons/2026-03-01T02-00-00Z.toml", "Owner", "Due date", "Port 5499 is still open.",
            "Estimate: at the measured", "41,200", "point-in-time recovery", "loses at most 60 s",
            "No file storage is named in the inventory, so files were not part of this drill.",
        ):  # fmt: skip
            assert part in plain, part
    html = found["drill.html"]
    assert html.index("public.notes differs.") < html.index("No bucket is named.") < html.index("All hold.")
    assert "http://" not in html
    assert "https://" not in html


def test_files_are_a_check_where_they_were_asked_about_and_nothing_in_older_documents():
    for files in ({"asked": True, "msg": "All 3 rows have their file."}, None):
        found = pages(folded(drill_samples.drill(files=files)))
        assert "ot asked" not in found["drill.html"] + found["drill.md"]


def test_the_page_is_whole_and_its_names_are_used_once():
    red = drill_samples.drill(drill_id="2026-03-01T03-00-00Z", injected="flipped_byte", status="breach")
    html = pages(folded(drill_samples.drill(), red), *series(4))["drill.html"]
    tags = Tags(html)
    assert len(tags.ids) == len(set(tags.ids))
    named = {reference for found in re.findall(r'aria-labelledby="([^"]+)"', html) for reference in found.split()}
    assert named <= set(tags.ids)
    for link in tags.links:
        assert not link.startswith("#") or link[1:] in tags.ids
    assert "../run-0/drill.html" in tags.links


def test_a_state_is_never_a_colour_alone():
    for status, sign, word in (("ok", "✓", "Passed"), ("breach", "✕", "Failed"), ("unknown", "?", "Unknown")):
        html = pages(folded(drill_samples.drill(status=status)))["drill.html"]
        assert f'<span aria-hidden="true">{sign}</span>{word}' in html


def test_a_drill_that_knows_little_is_shown_with_what_it_knows():
    document = drill_samples.drill(
        outage_at=None, service_at=None, finished_at=None, status="unknown", recovery=None, extrapolation=None,
        lessons=None, tear_down=None, phases=[], checks=[], measured=dict.fromkeys(drill_samples.drill()["measured"]),
    )  # fmt: skip
    found = pages(folded(document))
    assert found["drill.html"].count("unknown") > 2
    assert "Nothing was checked" in found["drill.html"]
    assert "From the outage" not in found["drill.html"]


def test_what_a_document_says_is_never_markup():
    document = drill_samples.drill(
        scenario=HOSTILE, msg=HOSTILE, injected=HOSTILE, environment=HOSTILE, host=HOSTILE, advice=[HOSTILE],
        checks=[{"name": HOSTILE, "status": "breach", "msg": HOSTILE}], status="breach",
        phases=[drill_samples.drill()["phases"][0] | {"name": HOSTILE, "msg": HOSTILE}],
        recovery={"skipped": [{"backup_id": HOSTILE, "reason": HOSTILE}], "backup_id": HOSTILE, "way": HOSTILE},
        lessons={"path": HOSTILE, "missing": [HOSTILE]}, tear_down={"msg": HOSTILE}, extrapolation={"msg": HOSTILE},
    )  # fmt: skip
    found = pages(folded(document), *series(2, scenario=HOSTILE))
    assert "<script" not in found["drill.html"]
    Tags(found["drill.html"])
    in_code = found["drill.md"].replace(r"\`", "").split("`")[1::2]
    assert len(re.findall(r"(?<!\\)<script", found["drill.md"])) == sum("<script" in code for code in in_code) == 1


def test_a_injected_fault_had_to_be_found():
    injected = {"injected": "flipped_byte", "checks": [{"name": "contents", "status": "breach", "msg": DAMAGED}]}
    found = pages(folded(drill_samples.drill(status="breach", **injected)))["drill.html"]
    assert "Injected fault: flipped byte" in found
    assert "found it, as it had to" in found
    assert "cannot be trusted" in pages(folded(drill_samples.drill(status="ok", **injected)))["drill.html"]
    other = injected | {"checks": [{"name": "files", "status": "breach", "msg": "Something else."}]}
    assert "cannot be trusted" in pages(folded(drill_samples.drill(status="breach", **other)))["drill.html"]


def test_several_drills_of_a_run_stand_on_one_page_with_a_table_before_them():
    drills = [
        drill_samples.drill(
            drill_id=f"2026-03-01T02-0{number}-00Z",
            injected="flipped_byte",
            status=status,
            checks=[{"name": "contents", "status": status, "msg": DAMAGED}],
        )
        for number, status in enumerate(("breach", "ok", "breach"))
    ]
    html = pages(folded(*drills))["drill.html"]
    assert "3 disaster-recovery drills" in html
    assert "injected faults found: 2 of 3" in html
    assert html.count("✕ not found") == 1
    assert html.count('<details class="host"') == 3
    assert html.index('class="card hero failed"')
    mixed = pages(folded(drill_samples.drill(drill_id="2026-03-01T01-00-00Z"), drills[0], drills[2]))["drill.html"]
    assert "injected faults found: 2 of 2, 1 of 1 passed" in mixed
    assert mixed.index('class="card hero ok"')


def test_a_long_verdict_is_cut_and_its_checks_are_not():
    told = "word " * 400 + "end."
    document = drill_samples.drill(msg=told, status="breach", checks=[{"name": "c", "status": "breach", "msg": told}])
    html = pages(folded(document))["drill.html"]
    verdict = html.partition('<p class="verdict">')[2].partition("</p>")[0]
    assert verdict.endswith("word …")
    assert len(verdict) < 500
    assert told in html


def test_of_a_drill_that_was_told_twice_the_last_word_counts():
    first = drill_samples.drill(tear_down=None)
    found, broken = drill.documents(folded(first, drill_samples.drill()))
    assert [each["tear_down"]["status"] for each in found] == ["ok"]
    assert broken == []


def test_the_terminal_s_last_lines_have_both_figures():
    (green,) = terminal.summary_lines(folded(drill_samples.drill()), 79)
    assert "RTO 52 s, RPO 0.4 s" in green
    (unknown,) = terminal.summary_lines(folded(drill_samples.drill(measured={"rpo_s": None})), 79)
    assert "RTO 52 s, RPO unknown" in unknown
    (injected,) = terminal.summary_lines(folded(drill_samples.drill(injected="flipped_byte")), 79)
    assert "RTO" not in injected
    assert "injected faults found: 0 of 1" in injected


# --- the charts -------------------------------------------------------------------------------------------------------


def test_the_phases_are_drawn_where_they_lie():
    chart = drill.timeline(drill_samples.drill())
    assert chart is not None
    restore = next(row for row in chart["rows"] if row["label"] == "Restore")
    assert restore["x"] == round(100 * 6 / 52, 2)
    assert restore["width"] == round(100 * 24 / 52, 2)
    assert (chart["total"], chart["between"], chart["verified"]) == ("52 s", "1.0 s", True)


def test_a_service_that_never_came_back_is_drawn_to_the_drill_s_end():
    phases = drill_samples.drill()["phases"][:4]
    phases[3] |= {"finished_at": None, "duration_s": None, "status": "unknown"}
    chart = drill.timeline(drill_samples.drill(service_at=None, phases=phases))
    assert chart is not None
    assert (chart["total"], chart["end"]) == ("1 min", "no verified service")
    assert (chart["rows"][-1]["value"], chart["rows"][-1]["x"], chart["rows"][-1]["width"]) == ("not finished", 10, 90)


def test_a_second_attempt_is_told_from_the_first():
    phases = drill_samples.drill()["phases"]
    phases[1:1] = [phases[3] | {"status": "breach", "finished_at": drill_samples.at(5)}]
    chart = drill.timeline(drill_samples.drill(phases=phases))
    assert chart is not None
    assert [row["label"] for row in chart["rows"] if row["name"] == "restore"] == ["Restore", "Restore (attempt 2)"]


@pytest.mark.parametrize("span", [0.001, 0.4, 1, 59, 61, 3600, 14_400, 10**7])
def test_an_axis_has_few_marks_and_all_of_them_inside(span):
    marks = drill.ticks(span)
    assert 1 <= len(marks) <= 6
    assert all(0 <= mark["x"] <= 95 for mark in marks)


@pytest.mark.parametrize(
    ("measured", "words", "tones"),
    [
        ({"rto_s": 52.0, "rpo_s": 0.4}, ["met", "met"], ["ok", "ok"]),
        ({"rto_s": 20_000.0, "rpo_s": None}, ["missed", "unknown"], ["failed", "unknown"]),
    ],
)
def test_an_objective_and_its_figure_are_drawn_on_one_scale(measured, words, tones):
    shown = drill.objectives(drill_samples.drill(measured=measured))
    assert [each["word"] for each in shown] == words
    assert [each["tone"] for each in shown] == tones
    for each in shown:
        known = measured[f"{each['key']}_s"]
        if known is None:
            assert each["bar"] is None
        else:
            assert (each["bar"] > each["limit"]) == (each["word"] == "missed")
            assert 0 < max(each["bar"], each["limit"]) <= 100


def test_no_data_loss_can_be_drawn():
    shown = drill.objectives(drill_samples.drill(objectives={"rpo_s": 0}, measured={"rpo_s": 0.0}))[1]
    assert (shown["word"], shown["bar"], shown["limit"]) == ("met", 0, 0)
    assert pages(folded(drill_samples.drill(objectives={"rpo_s": 0}, measured={"rpo_s": 0.0})))


def test_the_history_is_drawn_against_the_objectives_without_injected_faults():
    drills = [
        {"started_at": drill_samples.at(number), "scenario": "s", "injected": injected, "rto_s": rto_s,
         "objectives": {"rto_s": 100.0, "rpo_s": 1.0}}
        for number, (rto_s, injected) in enumerate([(50.0, None), (None, None), (200.0, None), (9e9, "fault")])
    ]  # fmt: skip
    chart = drill.trend(drills, "rto", "RTO")
    assert chart is not None
    assert [dot["tone"] for dot in chart["dots"]] == ["ok", "unknown", "failed"]
    assert chart["dots"][1]["y"] == 0, "what is unknown may be any"
    limit_y = float(chart["limit"].split()[-1])
    assert chart["dots"][2]["y"] < limit_y < chart["dots"][0]["y"]
    assert drill.trend(drills[:1], "rto", "RTO") is None


def test_a_loss_of_nothing_can_be_drawn():
    drills = [
        {"started_at": drill_samples.at(number), "scenario": "s", "injected": None, "rpo_s": rpo_s,
         "objectives": {"rto_s": 1.0, "rpo_s": limit}}
        for number, (rpo_s, limit) in enumerate([(0.0, 3600), (0.0, 0)])
    ]  # fmt: skip
    chart = drill.trend(drills, "rpo", "RPO")
    assert chart is not None
    assert all(0 <= dot["y"] <= 100 for dot in chart["dots"])


# --- files, and what outlasts a run -----------------------------------------------------------------------------------


def test_a_drill_s_report_lies_beside_that_of_its_run_and_knows_the_ones_before_it(tmp_path: Path):
    first = run(drill_samples.drill()).write(tmp_path / "20260301T020000Z-dr_drill")
    render.render_run(first)
    later = drill_samples.drill(drill_id="2026-03-02T02-00-00Z", started_at=drill_samples.at(86_400))
    second = run(later, start_s=record_samples.START_S + 86_400).write(tmp_path / "20260302T020000Z-dr_drill")
    render.render_run(second)
    assert "Earlier drills" not in (first / "drill.html").read_text()
    assert f"../{first.name}/drill.html" in (second / "drill.html").read_text()
    assert 'href="drill.html"' in (second / "report.html").read_text()
    assert "runbook_drill_last_rto_seconds" in (second / "metrics.prom").read_text()
    assert (second / "drill.md").read_text().startswith("# Disaster-recovery drill")


def test_a_damaged_document_costs_its_page_and_not_the_run_s_report(tmp_path: Path):
    broken = drill_samples.drill()
    del broken["measured"]
    directory = run(broken).write(tmp_path / "20260301T020000Z-dr_drill")
    render.render_run(directory)
    assert not (directory / "drill.html").exists()
    assert "measured is missing" in (directory / "report.html").read_text()
    assert "runbook_drill_" not in (directory / "metrics.prom").read_text()


def test_monitoring_is_told_of_the_last_drill_and_of_the_last_that_was_passed():
    facts = sections.lasting(folded(drill_samples.drill()))["db1"]
    ended = epoch_s(drill_samples.at(60))
    assert facts == {
        "drill_last_timestamp_seconds": ended, "drill_last_success": 1.0, "drill_last_rto_seconds": 52.0,
        "drill_last_rpo_seconds": 0.4, "drill_rto_objective_seconds": 14_400, "drill_rpo_objective_seconds": 3600,
        "drill_last_success_timestamp_seconds": ended,
    }  # fmt: skip


@pytest.mark.parametrize("status", ["breach", "unknown"])
def test_an_unknown_figure_replaces_the_one_of_the_drill_before(status):
    measured = {"rto_s": None, "rpo_s": None}
    later = drill_samples.at(86_400)
    red = sections.lasting(folded(drill_samples.drill(status=status, measured=measured, finished_at=later)))
    green = sections.lasting(folded(drill_samples.drill()))
    both = sections.merged(red, green)["db1"]
    assert both["drill_last_success"] == 0
    assert both["drill_last_timestamp_seconds"] == epoch_s(later)
    assert math.isnan(both["drill_last_rto_seconds"])
    assert both["drill_last_success_timestamp_seconds"] == green["db1"]["drill_last_success_timestamp_seconds"]
    assert re.search(
        r"^runbook_drill_last_rto_seconds\{.*\} NaN$", metrics.metrics(folded(), {"db1": both}), re.MULTILINE
    )


def test_a_injected_fault_is_no_alarm():
    assert sections.lasting(folded(drill_samples.drill(injected="flipped_byte", status="breach"))) == {}
    assert sections.lasting(folded(drill_samples.drill(), check_mode=True)) == {}


def test_alerts_on_drills_use_metrics_that_there_are():
    used = set(re.findall(r"\brunbook_drill_\w+", (ROOT / "monitoring/alerts/drills.yml").read_text()))
    assert used
    assert used <= {f"runbook_{name}" for name in sections.METRICS}


def test_a_record_with_a_drill_is_a_record():
    record = json.loads(json.dumps(folded(drill_samples.drill())))
    record_samples.VALIDATOR.validate(record)


@pytest.mark.parametrize("span", [1, 52, 59, 61, 75, 3600, 4510, 5400, 14_400, 100_000, 10**6])
def test_the_texts_of_an_axis_do_not_touch_on_a_telephone(span):
    letter = 100 * 6.2 / 330
    texts = [(mark["x"], mark["text"]) for mark in drill.ticks(span)]
    # The first begins at its mark, the others stand in the middle of theirs, and the last one ends at the end.
    edges = [
        (x if not x else x - letter * len(text) / 2, x + letter * len(text) / (2 if x else 1)) for x, text in texts
    ]
    edges.append((100 - letter * len(wording.duration(span)), 100.0))
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(edges))
