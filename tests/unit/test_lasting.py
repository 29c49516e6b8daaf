"""Every metric that outlasts a run has a sample, a meaning in the documentation, a panel, and an alert."""

from __future__ import annotations

import re

import lasting_samples
from ansible.module_utils.runbook.report import metrics, sections
from conftest import ROOT

from tools import render_dashboard

ALERTS = "\n".join(path.read_text() for path in (ROOT / "monitoring/alerts").glob("*.yml"))


def used(text: str) -> set[str]:
    return {name.removeprefix("runbook_") for name in re.findall(r"\brunbook_\w+", text)} & set(sections.METRICS)


def test_every_metric_has_a_sample_and_its_meaning_beside_it():
    record = lasting_samples.record()
    facts = sections.lasting(record)
    assert set(facts["db1"]) == set(sections.METRICS), "add a sample to tests/lasting_samples.py"
    text = metrics.metrics(record, facts)
    assert all(f"# HELP runbook_{name} {metric.text}\n" in text for name, metric in sections.METRICS.items())
    assert all(re.search(rf"^runbook_{name}{{", text, re.MULTILINE) for name in sections.METRICS)


def test_every_metric_is_explained_in_the_documentation():
    assert set(sections.METRICS) - used((ROOT / "docs/record.md").read_text()) == set()


def test_the_dashboard_has_a_panel_for_every_metric():
    made = render_dashboard.FILE.read_text()
    assert made == render_dashboard.rendered(), "run .venv/bin/python tools/render_dashboard.py"
    panels = [each for each in render_dashboard.dashboard()["panels"] if each["type"] != "row"]
    queries = " ".join(target["expr"] for each in panels for target in each["targets"])
    assert used(queries) == set(sections.METRICS)
    assert all(each["description"] for each in panels)


def test_panels_lie_beside_each_other_and_not_over():
    taken: set[tuple[int, int]] = set()
    ids = set()
    for panel in render_dashboard.dashboard()["panels"]:
        ids.add(panel["id"])
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len(ids) == len(render_dashboard.dashboard()["panels"])


def test_every_subject_has_an_alert():
    subjects = {name.partition("_")[0] for name in sections.METRICS}
    assert subjects - {name.partition("_")[0] for name in used(ALERTS)} == set()


def test_what_nobody_looks_at_any_more_is_an_alert():
    looked = {name for name in sections.METRICS if re.search("_last_(check|verification|archive|mirror|good)_", name)}
    assert looked - used(ALERTS) == set()


def test_what_is_written_beside_a_run_has_its_panel_too():
    written = {
        name
        for path in sorted((ROOT / "module_utils/runbook/report").glob("*.py"))
        for name in re.findall(r"\brunbook_(?:job|board)_\w+", path.read_text())
    }
    assert len(written) == 3
    assert written <= set(re.findall(r"\brunbook_\w+", render_dashboard.rendered()))
