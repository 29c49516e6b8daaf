"""Errors in the logs after a change compared with before, at each service and in a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules.change.change import Item
from ansible.module_utils.runbook.rules.status import Status
from changes import item, open_change, options
from conftest import Outcome, run_module
from fakes.http import Fault
from fakes.loki import TOKEN, FakeLoki
from fakes.supabase import REF, FakeSupabase
from fakes.supabase import TOKEN as SUPABASE_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.change.changes import Changes

BEFORE = "the_item_before"


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return open_change(tmp_path)


@pytest.fixture
def loki() -> Iterator[FakeLoki]:
    with FakeLoki() as made:
        yield made


def of_loki(fake: FakeLoki) -> dict[str, Any]:
    return {
        "backend": "loki", "loki_url": fake.url, "loki_token": TOKEN, "loki_tenant": "team-a",
        "loki_query": 'sum(count_over_time({app="a"} |= "errors" [$__range]))',
        "loki_lines_query": 'sum(count_over_time({app="a"} [$__range]))',
    }  # fmt: skip


def count(folder: Path, state: str, *, check: bool = False, **more: Any) -> Outcome:
    given = options(folder, state=state, min_span_s=1, timeout_s=5)
    return run_module("change_error_logs", given | more, check=check)


def work_ended(changes: Changes, ago_s: int) -> None:
    at = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
    changes.update(changes.id, lambda change: change.with_item("work", Item(Status.OK, "Done.", at)))


def test_more_errors_than_before_are_a_breach(tmp_path, changes, loki):
    given = of_loki(loki)
    loki.values = {"errors": [6, 4], "app": [900]}
    before = count(tmp_path, "before", **given)
    assert (before.failed, before.result["status"], before.result["errors"]) == (False, "ok", 10)
    assert item(changes, BEFORE)[::2] == ("ok", "10 errors in 1800 s of 900 lines")
    query, at, tenant = loki.asked[-1]
    assert (query, tenant) == ('sum(count_over_time({app="a"} |= "errors" [1800s]))', "team-a")
    assert abs(int(at) / 1e9 - datetime.now(UTC).timestamp()) < 600
    # A second one, as the work goes on, is none of before.
    loki.values["errors"] = [500]
    again = count(tmp_path, "before", **given)
    assert again.result["msg"].startswith("Done already: 10 errors in 30 min")

    work_ended(changes, 600)
    more = count(tmp_path, "after", **given)
    assert (more.failed, more.result["status"], item(changes)[0]) == (True, "breach", "breach")
    assert (more.result["errors"], more.result["errors_before"], more.result["span_before_s"]) == (500, 10, 1800)
    assert more.result["span_s"] >= 600
    goes_on = count(tmp_path, "after", blocks=False, **given)
    assert (goes_on.failed, goes_on.result["status"]) == (False, "unknown")
    # Loki has no zero.
    loki.values["errors"] = []
    fine = count(tmp_path, "after", **given)
    assert (fine.failed, fine.result["status"], fine.result["errors"], item(changes)[0]) == (False, "ok", 0, "ok")


def test_a_loki_without_any_line_says_nothing(tmp_path, changes, loki):
    silent = count(tmp_path, "before", **of_loki(loki))
    assert (silent.failed, silent.result["status"]) == (False, "unknown")
    assert item(changes, BEFORE)[0] == "unknown"
    assert "loki_lines_query: Loki has no line at all" in silent.result["msg"]
    loki.values, loki.warnings = {"app": [1]}, ["partial: patient nobody-else"]
    warned = count(tmp_path, "before", **of_loki(loki))
    assert warned.result["status"] == "unknown"
    # Without a count of before, errors cannot be compared.
    loki.values, loki.warnings = {"app": [3]}, []
    work_ended(changes, 300)
    assert "nobody counted before it" in count(tmp_path, "after", **of_loki(loki)).result["msg"]


def test_prometheus_has_to_say_a_zero(tmp_path, changes, loki):
    given: dict[str, Any] = {
        "backend": "prometheus", "prometheus_url": loki.url, "prometheus_token": TOKEN,
        "prometheus_query": "sum(increase(errors[$__range]))",
    }  # fmt: skip
    gone = count(tmp_path, "before", **given)
    assert (gone.result["status"], item(changes, BEFORE)[0]) == ("unknown", "unknown")
    loki.values = {"errors": [2.7]}
    assert count(tmp_path, "before", **given).result["errors"] == 3
    assert item(changes, BEFORE)[2] == "3 errors in 1800 s"


def test_the_logs_of_a_supabase_project_are_counted(tmp_path, changes):
    work_ended(changes, 600)
    with FakeSupabase() as fake:
        given: dict[str, Any] = {
            "backend": "supabase", "project_ref": REF, "access_token": SUPABASE_TOKEN, "api_url": fake.url,
            "supabase_sql": "select count() as lines, countIf(severity_text = 'ERROR') as errors from logs",
        }  # fmt: skip
        fake.faults = [Fault("GET", "status", 429, {"Retry-After": "0"})]
        assert count(tmp_path, "before", **given).result["errors"] == 3
        after = count(tmp_path, "after", **given)
        assert (after.result["status"], after.result["span_s"] % 60, after.result["lines"]) == ("ok", 0, 900)
        # An error comes with a status that says yes, and may quote a line.
        fake.log_error = "could not parse 'patient nobody-else'"
        broken = count(tmp_path, "after", **given)
        assert (broken.failed, broken.result["status"], item(changes)[0]) == (False, "unknown", "unknown")
        fake.log_rows, fake.log_error = [{"errors": 0, "lines": 0}], None
        assert "no line at all" in count(tmp_path, "after", **given).result["msg"]


def test_a_log_on_this_machine_is_counted_across_its_rotation(tmp_path, changes):
    path = tmp_path / "app.log"

    def write(ago_s: float, text: str) -> None:
        with path.open("a") as log:
            log.write(f"{(datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()} {text}\n")

    given: dict[str, Any] = {"backend": "file", "file_path": str(path), "file_pattern": "ERROR|patient"}
    write(900, "ERROR patient nobody-else")
    before = count(tmp_path, "before", **given)
    assert (before.result["errors"], before.result["lines"]) == (1, 1)
    work_ended(changes, 300)
    for number in range(9):
        write(200 - number, "ERROR patient nobody-else")
    path.rename(tmp_path / "app.log.1")
    write(0.1, "ERROR patient nobody-else")
    after = count(tmp_path, "after", **given)
    assert (after.failed, after.result["status"], after.result["errors"]) == (True, "breach", 10)
    path.unlink()
    assert count(tmp_path, "after", **given).result["status"] == "unknown"
    kept = [file.read_text() for file in (tmp_path / "state").rglob("*") if file.is_file()]
    assert not [text for text in (*kept, json.dumps(after.result)) if "nobody-else" in text]


def test_what_a_service_says_of_an_error_stays_there(tmp_path, changes, loki):
    given = of_loki(loki) | {"loki_query": "sum(count_over_time({$x}[$__range]))"}
    loki.values = {"app": [1]}
    refused = count(tmp_path, "before", **given)
    assert (refused.failed, refused.result["status"]) == (True, "breach")
    assert "answered with 400; correct the query" in refused.result["msg"]
    assert "nobody-else" not in json.dumps(refused.result)
    denied = count(tmp_path, "before", **given | {"loki_token": "another"})
    assert "answered with 401; check loki_token, or loki_user and loki_password." in denied.result["msg"]
    assert item(changes, BEFORE)[0] == "breach"


@pytest.mark.parametrize("backend", ["loki", "prometheus"])
def test_a_user_and_a_password_count_too(tmp_path, changes, loki, backend):
    named = {f"{backend}_token": None, f"{backend}_user": "runbook", f"{backend}_password": "c4n4ry:1"}
    at_prometheus = {"backend": "prometheus", "prometheus_url": loki.url, "prometheus_query": "errors[$__range]"}
    given = (of_loki(loki) if backend == "loki" else at_prometheus) | named
    loki.values = {"errors": [3], "app": [9]}
    denied = count(tmp_path, "before", **given)
    assert (denied.failed, item(changes, BEFORE)[0]) == (True, "breach")
    named_all = f"check {backend}_token, or {backend}_user and {backend}_password."
    assert f"answered with 401; {named_all}" in denied.result["msg"]
    assert "c4n4ry" not in json.dumps(denied.result) + denied.stderr + json.dumps(changes.current().body())
    # As RFC 7617 has it.
    loki.asks = "Basic cnVuYm9vazpjNG40cnk6MQ=="
    counted = count(tmp_path, "before", **given)
    assert (counted.failed, counted.result["errors"]) == (False, 3), counted.result
    assert loki.asked[-1][2] == ("team-a" if backend == "loki" else "")
    both = count(tmp_path, "before", **given | {f"{backend}_token": "c4n4ry"})
    assert both.failed
    assert f"{backend}_user: {backend}_token is given too" in both.result["msg"]


def test_it_waits_until_enough_time_has_passed_but_not_forever(tmp_path, changes, loki):
    loki.values = {"errors": [0], "app": [9]}
    work_ended(changes, 0)
    waited = count(tmp_path, "after", **of_loki(loki) | {"min_span_s": 1})
    assert (waited.result["status"], waited.result["span_s"] >= 1) == ("ok", True)
    work_ended(changes, 0)
    cut = count(tmp_path, "after", **of_loki(loki) | {"min_span_s": 3600, "deadline_s": 1})
    assert (cut.failed, cut.result["status"], item(changes)[0]) == (False, "unknown", "unknown")
    assert "and 3600 s are needed" in cut.result["msg"]


def test_check_mode_counts_once_and_answers_nothing(tmp_path, loki):
    (tmp_path / "state").mkdir(mode=0o700)
    loki.values = {"errors": [2], "app": [9]}
    planned = count(tmp_path, "after", check=True, **of_loki(loki) | {"min_span_s": 3600})
    assert planned.result["msg"] == "Would compare with before. Just now 2 errors in 30 min (0.067 a minute)."
    assert len(loki.asked) == 2
    assert not list((tmp_path / "state").rglob("*.json"))


def test_nobody_is_to_count(tmp_path, changes):
    for state, name in (("before", BEFORE), ("after", "the_item")):
        skipped = count(tmp_path, state, backend="none")
        assert (skipped.result["status"], item(changes, name)[0]) == ("ok", "ok")
        assert skipped.result["msg"].startswith("Skipped")
    refused = count(tmp_path, "after", backend="none", file_pattern="x")
    assert "file_pattern: it is set, and backend none has no use for it" in refused.result["msg"]
