"""The record of a run: folding the journal, what may be kept, the reports made from it."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import record_samples as samples
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import charts, journal, metrics, places, render, terminal, view, wording
from ansible.module_utils.runbook.report.recorder import Recorder
from ansible.module_utils.runbook.rules import record as rules
from ansible.module_utils.runbook.rules.run import PERMITS


def folded(sample: samples.Sample) -> dict[str, Any]:
    """The record of a sample, proven to keep to the schema, as a reader of record.json sees it."""
    record: dict[str, Any] = json.loads(json.dumps(samples.fold(sample.events)))
    samples.VALIDATOR.validate(record)
    return record


def a_run(state: str = "ok", host: str = "db1", stats: dict[str, int] | None = None, **fields: Any) -> dict[str, Any]:
    sample = samples.Sample()
    sample.step("Do it", "pg_archive", host, state, **fields)
    return folded(sample.end(**{host: stats or {}}))


# --- the fold ---------------------------------------------------------------------------------------------------------


def test_a_good_run():
    record = folded(samples.weekly(("db1", "db2")))
    assert (record["status"], record["verdict"]) == ("ok", "2 hosts, nothing failed; 2 warnings.")
    assert record["totals"]["moved_rows"] == 2 * 117_000
    assert record["environments"] == ["staging"]
    db1 = record["hosts"]["db1"]
    assert (db1["database"], db1["server_version"]) == ("mental_scribe", 180001)
    assert [step["task"] for step in db1["steps"]] == [
        "Check the target and take the lease",
        "Archive old rows",
        "Vacuum and analyze what needs it",
        "Release the lease",
    ]
    moved = db1["steps"][1]
    assert moved["start_s"] == pytest.approx(1.3)
    assert moved["duration_s"] == pytest.approx(42.2)
    assert [moved["progress"][index]["done"] for index in (0, -1)] == [
        0,
        117_000 * (1 - 2.718281828 ** (-41 / 14)) // (1 - 2.718281828**-3),
    ]
    assert record["warnings"][0] == {
        "host": "db1",
        "text": "public.sessions was locked by another session for 30 s and was left out.",
    }


@pytest.mark.parametrize("state", ["failed", "unreachable"])
def test_failure_is_red_and_told(state):
    key = {"failed": "failures"}.get(state, state)
    record = a_run(state, stats={key: 1}, msg="It broke.")
    assert (record["status"], record["verdict"]) == ("failed", "1 of 1 host failed: db1.")
    assert record["errors"] == [{"host": "db1", "task": "Do it", "text": "It broke."}]


def test_figures_of_a_failed_step_are_kept():
    record = a_run("failed", stats={"failures": 1}, figures={"moved_rows": 43_000, "status": "breach"})
    assert record["totals"] == {"moved_rows": 43_000}


@pytest.mark.parametrize(("said", "status"), [("breach", "failed"), ("unknown", "unknown"), ("ok", "ok")])
def test_a_green_task_with_a_bad_status_is_not_green(said, status):
    assert a_run("ok", figures={"status": said})["status"] == status


def test_a_task_that_failed_because_it_is_unknown_keeps_that_word_and_its_host_is_failed():
    record = a_run("failed", stats={"failures": 1}, msg="S3 gave no answer.", figures={"status": "unknown"})
    (step,) = record["hosts"]["db1"]["steps"]
    assert (record["status"], step["status"], charts.word(step)) == ("failed", "unknown", "failed, unknown")
    assert terminal.last_words(record) == ["db1, Do it, failed, unknown: S3 gave no answer."]


def test_a_task_that_failed_is_never_ok():
    (step,) = a_run("failed", stats={"failures": 1}, figures={"status": "ok"})["hosts"]["db1"]["steps"]
    assert step["status"] == "breach"


@pytest.mark.parametrize(("fields", "stats"), [({"ignored": True}, {"ignored": 1}), ({}, {"rescued": 1})])
def test_a_failure_that_the_playbook_handled_is_shown_and_not_held_against_the_host(fields, stats):
    record = a_run("failed", stats=stats, **fields)
    step = record["hosts"]["db1"]["steps"][0]
    assert (record["status"], step["status"], step["handled"]) == ("ok", "breach", True)
    assert charts.word(step) == "failed, handled by the playbook"


def test_no_host_is_a_failure():
    sample = samples.Sample()
    sample.add("no_hosts", play="p1")
    record = folded(sample.end())
    assert (record["status"], record["verdict"]) == ("failed", "Nothing was done: no host matched databases.")


def test_a_host_of_which_all_was_skipped_is_no_part_of_a_run():
    sample = samples.Sample()
    task = sample.task("Do it", "pg_archive")
    for host, state in (("app", "ok"), ("db1", "skipped")):
        sample.result(task, host, state)
    record = folded(sample.end(app={"ok": 1}, db1={"skipped": 1}))
    assert (record["status"], list(record["hosts"])) == ("ok", ["app"])


def test_a_host_of_which_only_arguments_were_checked_is_no_part_of_a_run():
    sample = samples.Sample()
    check = "ansible.builtin.validate_argument_spec"
    sample.step("Check the variables of role db_performance", check, "db1")
    sample.step("Check the variables of role db_performance", check, "db2", "failed")
    sample.step("Do it", "pg_archive", "app")
    record = folded(sample.end(app={"ok": 1}, db1={"ok": 1}, db2={"failures": 1}))
    assert list(record["hosts"]) == ["app", "db2"]


@pytest.mark.parametrize(
    ("tags", "skip_tags", "says"),
    [
        (["all"], [], ""),
        (["rotate", "always"], ["verify", "never"], ""),
        (["rotate", "verfy"], [], "--tags verfy names no step of logs.yml; the tags that exist are rotate, verify."),
        (["all"], ["verfy"], "--skip-tags verfy names no step of logs.yml; the tags that exist are rotate, verify."),
    ],
)
def test_a_tag_that_no_step_has_is_refused(tags, skip_tags, says):
    assert rules.no_such_tag("logs.yml", tags, skip_tags, {"rotate", "verify"}) == (
        f"Nothing was done: {says}" if says else ""
    )
    assert "it has no tags" in rules.no_such_tag("logs.yml", ["verfy"], [], ())
    # What Molecule leaves out of every playbook.
    assert rules.no_such_tag("logs.yml", [], ["molecule-notest", "notest"], ()) == ""


def test_no_task_is_a_failure():
    assert "no task was left" in folded(samples.Sample().end())["verdict"]


def test_check_mode_says_so():
    record = folded(samples.weekly(check_mode=True))
    assert record["verdict"] == "Check mode: nothing was written. Nothing failed; 1 warning."


def test_retries_are_counted():
    sample = samples.Sample()
    task = sample.task("Wait", "pg_preflight")
    sample.start(task, "db1")
    sample.add("retry", task=task, host="db1")
    sample.add("retry", task=task, host="db1")
    sample.result(task, "db1")
    assert folded(sample.end(db1={}))["hosts"]["db1"]["steps"][0]["attempts"] == 3


def test_wherever_a_run_is_cut_off_it_is_never_green():
    whole = samples.weekly()
    for length in range(1, len(whole.events)):
        cut = samples.Sample()
        cut.events = whole.events[:length]
        record = folded(cut)
        assert (record["status"], record["interrupted"], record["ended_at"]) == ("unknown", True, None)
        assert record["verdict"].startswith("The run was cut off; the journal ends at 2026-03-01 02:0")


def test_last_words_belong_to_the_step_that_was_running_and_what_to_do_stands_first():
    sample = samples.Sample()
    sample.start(sample.task("Move old rows", "pg_archive"), "db1")
    sample.add("last_words", host="db1", module="pg_archive", msg="Moved 930,470 rows; 69,531 remain.")
    sample.add("last_words", host="db2", module="pg_backup", msg="Stopped.")
    sample.add("run_stopped", text="The run was stopped by Ctrl-C before its end")
    record = folded(sample)
    assert record["hosts"]["db1"]["steps"][0]["msg"] == "Moved 930,470 rows; 69,531 remain."
    assert record["notes"] == ["db2: pg_backup: Stopped."]
    again = "Run the same command again."
    moved = "db1, Move old rows, unknown: Moved 930,470 rows; 69,531 remain."
    assert terminal.last_words(record)[1:] == [again, moved]
    text = render.markdown(record, [], [])
    assert "- Run the same command again" in text
    assert text.index(again) < text.index("**db1**") < text.index("| Last known | 2026-03-01 ")


def test_a_cut_off_run_keeps_the_failure_it_had_seen():
    sample = samples.Sample()
    sample.step("Do it", "pg_archive", "db1", "failed", msg="It broke.")
    assert folded(sample)["status"] == "failed"


def test_what_was_going_on_when_the_run_was_cut_off():
    sample = samples.Sample()
    sample.start(sample.task("Archive", "pg_archive"), "db1")
    sample.add("note", after_s=7, text="…")
    step = folded(sample)["hosts"]["db1"]["steps"][0]
    assert (step["state"], step["status"], step["duration_s"]) == ("running", "unknown", 7)


# --- the journal ------------------------------------------------------------------------------------------------------


def test_a_journal_torn_anywhere_can_be_read():
    text = samples.weekly().text()
    start = text.rindex("\n", 0, len(text) - 1) + 1
    for end in range(start, len(text)):
        events, torn = rules.parse_journal(text[:end])
        record = samples.fold(events, torn_lines=torn)
        assert record["status"] == ("ok" if end == len(text) - 1 else "unknown")


def test_a_hole_in_the_journal_is_told():
    lines = samples.weekly().text().splitlines()
    lines[3] = lines[3][:20]
    lines.insert(5, "\0\0\0")
    events, torn = rules.parse_journal("\n".join(lines))
    assert "1 line is missing here" in samples.fold(events, torn_lines=torn)["notes"][0]


@pytest.mark.parametrize("text", ["", "{}", '{"event": "result"}', "[1]", "not json"])
def test_what_is_no_journal_is_refused(text):
    with pytest.raises(RunbookError, match="does not begin with the start of a run"):
        samples.fold(rules.parse_journal(text)[0])


def test_a_playbook_of_elsewhere_is_none_of_ours_whatever_it_is_called(tmp_path, monkeypatch):
    """An emergency is spared the window only where the playbook tells people and opens the review."""
    for name in ("RUNBOOK_RUN_ID", "RUNBOOK_RUN_DIR", "RUNBOOK_CONTROLLER", "RUNBOOK_PROCESS"):
        monkeypatch.setenv(name, "")
    (tmp_path / "playbooks" / "own").mkdir(parents=True)
    for name in ("emergency.yml", "weekly_db.yml", "own/emergency.yml"):
        (tmp_path / "playbooks" / name).touch()
    link = tmp_path / "emergency.yml"
    link.symlink_to("playbooks/weekly_db.yml")
    found = []
    for path in (tmp_path / "playbooks/emergency.yml", tmp_path / "playbooks/own/emergency.yml", link):
        recorder = Recorder(tmp_path / "runs", tmp_path)
        recorder.begin(str(path), None, {})
        found.append(json.loads((Path(str(recorder.directory)) / PERMITS).read_text())["playbook"])
    assert found == ["emergency", "", "weekly_db"]


def test_a_journal_that_cannot_be_written_is_given_up(tmp_path, monkeypatch):
    for name in (
        "RUNBOOK_RUN_ID",
        "RUNBOOK_RUN_DIR",
        "RUNBOOK_CONTROLLER",
        "RUNBOOK_JOURNAL_ERROR",
        "RUNBOOK_PROGRESS_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    recorder = Recorder(tmp_path / "runs", tmp_path)
    recorder.begin("weekly_db.yml", None, {})
    assert recorder.directory is not None
    assert os.environ["RUNBOOK_RUN_DIR"] == str(recorder.directory)
    assert journal.is_alive(recorder.directory / "journal.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    assert recorder._journal is not None
    os.dup2(full, recorder._journal._handle)
    os.close(full)
    recorder.append("note", text="lost")
    assert "No space left on device" in str(recorder.error)
    assert os.environ["RUNBOOK_JOURNAL_ERROR"] == recorder.error
    assert "RUNBOOK_RUN_DIR" not in os.environ
    assert not journal.is_alive(recorder.directory / "journal.jsonl")
    assert recorder.end({}) is None
    assert "RUNBOOK_JOURNAL_ERROR" not in os.environ


def test_runs_of_one_second_get_folders_of_their_own(tmp_path):
    made = [places.make_directory(tmp_path, "20260301T020000Z-a").name for _ in range(11)]
    assert made[:2] + made[-1:] == ["20260301T020000Z-a", "20260301T020000Z-a-2", "20260301T020000Z-a-11"]
    places.make_directory(tmp_path, "20260301T020001Z-ab")
    assert [path.name for path in places.earlier_runs(tmp_path, "a")][:2] == [
        "20260301T020000Z-a-11",
        "20260301T020000Z-a-10",
    ]


def test_commit_is_read_from_git_itself(tmp_path):
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    assert places.git_commit(tmp_path) is None
    git("init", "-q", "-b", "topic/x")
    assert places.git_commit(tmp_path) is None
    git("commit", "-q", "--allow-empty", "-m", "x")
    head = git("rev-parse", "HEAD")
    assert places.git_commit(tmp_path) == head
    git("pack-refs", "--all")
    assert places.git_commit(tmp_path) == head
    git("worktree", "add", "-q", str(tmp_path / "tree"))
    assert places.git_commit(tmp_path / "tree") == head
    git("checkout", "-q", "--detach")
    assert places.git_commit(tmp_path) == head


# --- what may be kept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "could not reach postgresql://app:CANARY@db.example/x",
        "password=CANARY host=db",
        "password='CANARY x' host=db",
        'said {"login_password": "CANARY"}',
        "DB_PASSWORD: CANARY",
        "password: itsCANARY is",
        "ALTER ROLE app PASSWORD 'CANARY'",
        "the known one is CANARY, anywhere",
    ],
)
def test_secrets_are_blotted_out(text):
    known = {"CANARY"} if "known" in text else ()
    hidden = rules.redact({"a": [text]}, known)["a"][0]
    assert "CANARY" not in hidden
    assert "********" in hidden


@pytest.mark.parametrize(
    "text",
    [
        "FATAL: password authentication failed for user app",
        "5 secrets rotated",
        "https://example.org/a@b",
        "pagerduty_api_token: it is empty; give a key",
        "access_key and secret_key: only one of them is set",
    ],
)
def test_sentences_about_secrets_stay(text):
    assert rules.redact(text) == text


def test_of_foreign_modules_only_numbers_are_kept():
    said = {
        "stdout": "row",
        "content": "row",
        "rc": 0,
        "changed": True,
        "size": 5,
        "invocation": {"module_args": {"a": 1}},
        "list": ["row"],
    }
    assert rules.figures(said, own=False) == {"rc": 0, "size": 5}
    assert rules.message(said | {"msg": "row"}, own=False, failed=False) == ""


@pytest.mark.parametrize(("result", "status", "msg"), [
    ({"results": [{"status": "ok", "msg": "Fine."}, {"status": "unknown", "msg": "Hm."}]}, "unknown", "Hm."),
    ({"results": [{"status": "unknown", "msg": "Hm."}, {"status": "breach", "msg": "Old."}]}, "breach", "Hm. Old."),
    ({"results": [{"status": "ok"}, {"failed": True, "msg": "It broke."}]}, "breach", "It broke."),
    ({"results": [{"status": "ok", "msg": "One."}, {"size": 2}, {"skipped": True, "msg": "No."}]}, "ok", "One."),
    ({"results": [{"msg": "Written."}]}, None, "Written."),
    ({"censored": "hidden", "changed": True}, "unknown", "hidden by no_log"),
    ({"censored": "hidden", "results": [{"censored": "hidden"}]}, "unknown", "hidden by no_log"),
    ({"ansible_job_id": "j1", "started": 1, "finished": 0}, "unknown", "only started"),
    ({"ansible_job_id": "j1", "finished": 1, "status": "ok", "msg": "Done."}, "ok", "Done."),
])  # fmt: skip
def test_a_loop_a_hidden_result_and_one_that_is_only_started_are_judged(result, status, msg):
    given = {"msg": "All items completed"} | result if "results" in result else result
    assert rules.figures(given, own=True).get("status") == status
    assert msg in rules.message(given, own=True, failed=False)
    assert "All items" not in rules.message(given, own=True, failed=False)


def test_a_hidden_result_of_a_task_that_was_skipped_is_no_question():
    step = {"state": "skipped", "figures": rules.figures({"censored": "hidden"}, own=True)}
    assert rules._step_status(step) == "ok"


def test_of_a_loop_over_a_foreign_module_only_failures_are_told():
    given = {"msg": "One or more items failed", "results": [{"msg": "row"}, {"failed": True, "msg": "No such file."}]}
    assert rules.message(given, own=False, failed=True) == "No such file."
    assert rules.message(given, own=False, failed=False) == ""
    assert rules.figures(given, own=False) == {}


def test_large_results_are_cut_and_say_so():
    kept = rules.figures(
        {"tables": [{"n": 1}] * 5000, "note": "x" * 10_000, "invocation": 1, "_ansible_x": 1}, own=True
    )
    assert len(kept["tables"]) == 2000
    assert kept["tables_left_out"] == 3000
    assert len(kept["note"]) < 4100
    assert set(kept) == {"tables", "tables_left_out", "note"}


# --- the reports ------------------------------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> | `x` [a](javascript:1)\n# h"


class Page(HTMLParser):
    """Reads a page, and refuses tags that are not closed."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def evil() -> dict[str, Any]:
    sample = samples.Sample(inventory=[EVIL], user=EVIL, limit=EVIL, tags=[EVIL])
    table = {
        "table": EVIL,
        "action": EVIL,
        "reason": EVIL,
        "state": EVIL,
        "duration_s": 1.0,
        "before": {"dead_rows": 5, "size_bytes": 9},
    }
    table["after"] = {"dead_rows": 0, "size_bytes": 9}
    sample.step(
        EVIL,
        "pg_preflight",
        EVIL,
        role=EVIL,
        figures={"environment": EVIL, "database": EVIL, "checks": [{"name": EVIL, "status": EVIL, "msg": EVIL}]},
    )
    sample.step(
        EVIL,
        "pg_archive",
        EVIL,
        msg=EVIL,
        warnings=[EVIL],
        figures={"source": EVIL, "cutoff": EVIL, "executed_queries": [EVIL]},
    )
    sample.step(EVIL, "pg_vacuum", EVIL, figures={"tables": [table], "not_permitted": [EVIL]})
    sample.step(EVIL, "other", EVIL, "failed", msg=EVIL, figures={EVIL: EVIL})
    sample.add("warning", text=EVIL)
    sample.add("note", text=EVIL)
    return samples.fold(sample.end(**{EVIL: {"failures": 1}}).events)


def test_nothing_in_a_record_becomes_markup():
    page = Page(render.html(evil(), [], [EVIL]))
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "embed", "form"}
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert "<script>alert(1)</script>" in "".join(page.words)


def test_the_page_stands_alone():
    history = [
        view.point(samples.fold(samples.weekly(start_s=samples.START_S - week * 7 * 86400).events), f"run-{week}")
        for week in (2, 1, 0)
    ]
    page = Page(render.html(samples.fold(samples.weekly(("db1", "db2")).events), history, []))
    assert not [attrs for tag, attrs in page.tags if tag in ("link", "script", "img") or "src" in attrs]
    assert all(str(attrs["href"]).startswith(("#", "../")) for tag, attrs in page.tags if tag == "a")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    pictures = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "chart"]
    assert len(pictures) == 2 * 5 + 4
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert set(str(attrs["aria-labelledby"]).split()) <= set(ids)
    assert {attrs.get("lang") for tag, attrs in page.tags if tag == "html"} == {"en"}


@pytest.mark.parametrize(
    "change", [{"hosts": {}}, {"status": "unknown"}, {"commit": None, "limit": "db1", "tags": ["a"]}]
)
def test_a_page_can_be_made_of_every_record(change):
    record = samples.fold(samples.weekly().events) | change
    Page(render.html(record, [], []))
    assert render.markdown(record, [], []).startswith("# weekly\\_db: ")


def test_cut_off_runs_have_reports_too():
    whole = samples.weekly()
    for length in (1, 2, 4, 8, 30, len(whole.events) - 1):
        record = samples.fold(whole.events[:length])
        words = "".join(Page(render.html(record, [], [])).words)
        assert "Interrupted" in words
        assert "✓Unknown" not in words


def test_markdown_tables_hold_together():
    text = render.markdown(evil(), [], [])
    columns = None
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert columns in (None, cells), line
        columns = cells
    assert "<script>" not in text.replace("\\<script\\>", "")


def parsed(text: str) -> dict[str, dict[tuple[Any, ...], float]]:
    """The samples of a metrics file; refuses what Prometheus would refuse."""
    found: dict[str, dict[tuple[Any, ...], float]] = {}
    typed: set[str] = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert kind == "gauge"
            assert name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            match = re.fullmatch(
                r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)*)\} (\S+)', line
            )
            assert match, line
            assert match[1] in typed
            labels = tuple(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2]))
            assert labels not in found.setdefault(match[1], {})
            found[match[1]][labels] = float(match[3])
    return found


def test_metrics_of_a_good_run():
    found = parsed(metrics.metrics(samples.fold(samples.weekly(("db1", "db2")).events)))
    assert found["runbook_run_success"] == {(("environment", "staging"), ("playbook", "weekly_db")): 1}
    assert found["runbook_run_start_timestamp_seconds"] == {
        (("environment", "staging"), ("playbook", "weekly_db")): samples.START_S
    }
    assert sum(found["runbook_run_step_moved_rows"].values()) == 2 * 117_000
    assert len(found["runbook_run_host_success"]) == 2
    assert "runbook_run_step_longest_batch_seconds" in found


def test_metrics_are_escaped_and_a_cut_off_run_has_no_end():
    found = parsed(metrics.metrics(evil()))
    ((labels, value),) = found["runbook_run_success"].items()
    assert (labels[1], value) == (("playbook", "weekly_db"), 0)
    cut = parsed(metrics.metrics(samples.fold(samples.weekly().events[:-1])))
    assert "runbook_run_end_timestamp_seconds" not in cut
    assert cut["runbook_run_success"] == {(("environment", "staging"), ("playbook", "weekly_db")): 0}


@pytest.mark.parametrize(("job", "written"), [("daily-backup", ["staging-job-daily-backup.prom"]), ("../../job", [])])
def test_a_job_whose_name_is_none_writes_no_file(tmp_path, job, written):
    run = samples.weekly()
    run.events[0]["schedule"] = job
    render.render_run(run.write(tmp_path / "runs" / "20260301T020000Z-weekly_db"), publish=True)
    assert [path.name for path in tmp_path.rglob("*job*")] == written


@pytest.mark.parametrize(("code", "replaces"), [("frozen", False), ("held", True)])
def test_a_job_that_a_freeze_refused_leaves_the_metrics_of_the_run_before(tmp_path, code, replaces):
    render.render_run(samples.weekly().write(tmp_path / "20260301T020000Z-weekly_db"), publish=True)
    latest = tmp_path / "metrics" / "staging-weekly_db.prom"
    before = latest.read_text()
    run = samples.Sample(samples.START_S + 7 * 86_400, schedule="weekly-maintenance", environment="staging")
    figures = samples.preflight() | {"code": code, "status": "breach"}
    run.step("Check", "runbook_preflight", "db1", "failed", figures=figures, msg="weekly_db.yml: not now.")
    run.end(db1={"failures": 1})
    render.render_run(run.write(tmp_path / "20260308T020000Z-weekly_db"), publish=True)
    assert (latest.read_text() != before) is replaces


def test_history(tmp_path):
    for week in range(35, 0, -1):
        start = samples.START_S - week * 7 * 86400
        name = f"{rules.timestamp(start)[:19].replace('-', '').replace(':', '')}Z-weekly_db"
        render.render_run(samples.weekly(start_s=start, check_mode=week == 3).write(tmp_path / name))
    newest = samples.weekly().write(tmp_path / "20260301T020000Z-weekly_db")
    earlier = places.earlier_runs(tmp_path, "weekly_db")
    (earlier[1] / "record.json").write_text("{")
    (earlier[4] / "record.json").write_text('{"schema_version": 1}')
    render.write_whole(tmp_path / "20260201T030000Z-monthly_db", "not a run of this playbook")
    record = render.render_run(newest, publish=True)
    history, _, notes = render.history_of(newest, record)
    assert len(history) == render.HISTORY
    assert [run["started_at"] for run in history] == sorted(run["started_at"] for run in history)
    assert history[-1]["directory"] is None
    assert notes == ["Not read, and missing in the trends: 2 earlier records."]
    assert "2 earlier records" in (newest / "report.html").read_text()
    assert (tmp_path / "metrics" / "staging-weekly_db.prom").read_text() == (newest / "metrics.prom").read_text()
    assert sorted(path.name for path in newest.iterdir()) == [
        "journal.jsonl",
        "metrics.prom",
        "record.json",
        "report.html",
        "report.md",
    ]


def test_small_tables_are_summed_up():
    rows = charts.pairs([(f"t{number}", float(number), 0.0) for number in range(1, 41)], wording.number)
    assert len(rows) == charts.TOP + 1
    assert (rows[0]["label"], rows[0]["before"]) == ("t40", 100)
    assert (rows[-1]["label"], rows[-1]["before_text"]) == ("25 others", "325")


def test_terminal_summary_fits():
    record = samples.fold(samples.weekly(("db1", "a-host-with-a-very-long-name.eu-central-1.example.org")).events)
    lines = terminal.summary_lines(record, 60)
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(line.strip() for line in lines).count("117,000 rows moved, 19 tables treated") == 2
    assert lines[1].startswith(" " * 41)


@pytest.mark.parametrize("name", ["rules.record", "report.wording", "report.charts", "report.metrics", "report.places"])
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"ansible.module_utils.runbook.{name}")
    outcome = doctest.testmod(module)
    assert (outcome.failed, outcome.attempted > 0) == (0, True)


def test_what_is_recorded_can_be_seen(tmp_path):
    """Names rewrite no terminal on the way from the journal to the summary and to report.md."""
    nasty = "a\x1b[2J\r\u202eb\n| x |"
    journal_path = tmp_path / journal.FILE_NAME
    written = journal.Journal(journal_path, lambda: samples.START_S)
    sample = samples.weekly(("db1",))
    for event in sample.events:
        fields = {key: value for key, value in event.items() if key not in ("event", "ts")}
        if event["event"] == "result":
            fields |= {
                "msg": f"moved {nasty}",
                "warnings": [nasty],
                "figures": fields["figures"] | {"x": {nasty: nasty}},
            }
        written.append(event["event"], **fields)
    written.close()
    render.render_run(tmp_path, publish=False)
    for path in tmp_path.iterdir():
        said = path.read_text()
        assert not set("\x1b\r\u202e") & set(said), path
        assert "\n| x |" not in said, path
    assert "u202eb" in (tmp_path / "report.md").read_text()


# --- the terminal's last lines ----------------------------------------------------------------------------------------


def test_in_a_pipe_nothing_is_cut():
    long = "a-host-with-a-very-long-name.eu-central-1.example.org"
    lines = terminal.summary_lines(samples.fold(samples.weekly(("db1", long)).events), None)
    assert lines[0].startswith(long)
    assert all(line.endswith("s") for line in lines)
    assert lines[0].index("ok") == lines[1].index("ok")


@pytest.mark.parametrize(
    ("module", "figures", "check", "words"),
    [
        ("pg_archive", {"moved_rows": 1}, False, "1 row moved"),
        ("pg_archive", {"moved_rows": 0, "planned_rows": 1}, True, "would move 1 row,"),
        ("pg_vacuum", {"done_tables": 1}, False, "1 table treated"),
        ("s3_mirror", {"copied_objects": 1, "copied_bytes": 5}, False, "1 file copied"),
        ("pg_restore", {"restored_bytes": 2048}, False, "2.0 KiB restored"),
    ],
)
def test_one_is_one(module, figures, check, words):
    sample = samples.Sample(check_mode=check)
    sample.step("Do it", module, "db1", "changed", figures=figures)
    (line,) = terminal.summary_lines(folded(sample.end(db1={})), 79)
    assert words in line


def test_a_missing_variable_of_a_role_is_said_in_one_line():
    said = (
        "Validation of arguments failed:\nmissing required arguments: backup_bucket, backup_prefix\nvalue of x is bad"
    )
    assert rules.message({"msg": said}, own=False, failed=True) == (
        "Not set: backup_bucket, backup_prefix; set them in the inventory, or with -e. value of x is bad"
    )


def test_a_run_without_figures_ends_with_what_its_work_said():
    sample = samples.Sample(check_mode=True)
    sample.step("Check", "pg_preflight", "db1", msg="10 checks passed.")
    sample.step("Back up", "pg_backup", "db1", "changed", msg="Would back up notes.", figures={"size_bytes": 0})
    sample.step("Clear", "pg_backup_retention", "db1", msg="0 would be deleted.")
    sample.step("Give it back", "pg_lease", "db1", msg="Nobody holds the lease.")
    (line,) = terminal.summary_lines(folded(sample.end(db1={})), None)
    assert line.endswith("s: Would back up notes.")


def test_a_plan_names_the_indexes_to_rebuild():
    for check, words in ((True, "would rebuild 2 indexes"), (False, "1 index rebuilt")):
        sample = samples.Sample(check_mode=check)
        figures = {"planned_indexes": 2, "rebuilt_indexes": 1}
        sample.step("Rebuild", "pg_reindex", "db1", "changed", figures=figures)
        (line,) = terminal.summary_lines(folded(sample.end(db1={})), 79)
        assert words in line


def test_warnings_of_a_green_run_are_its_last_lines():
    assert terminal.last_warnings(a_run(warnings=["Left out."])) == ["db1: Left out."]
    assert terminal.last_warnings(a_run()) == []
    assert terminal.last_warnings(a_run("failed", warnings=["Left out."], stats={"failures": 1})) == []
    many = terminal.last_warnings(a_run(warnings=[f"Left out {number}." for number in range(9)]))
    assert many[-1] == "4 more warnings; the report has them all."


def test_reports_leave_out_what_says_nothing():
    sample = samples.Sample(playbook="backup")
    sample.step("Validating arguments", "ansible.builtin.validate_argument_spec", "db1")
    sample.step("Say it", "ansible.builtin.debug", "db1")
    sample.step("Recover", "pg_pitr_restore", "db1", "skipped", figures={"duration_s": 0.0})
    sample.step("Ask", "supabase_backup_info", "db1", figures={"status": "ok"})
    sample.step("Restore", "pg_restore", "db1", figures={"restored_bytes": 0, "removed_databases": [], "tables": 3})
    text = render.markdown(folded(sample.end(db1={})), [], [])
    assert "| Host | Status | Time |" in text
    assert "Validating" not in text
    assert "Say it" not in text
    assert "point in time" not in text
    assert "Supabase" not in text
    assert "**Restore**: tables 3." in text
    assert "0 B" not in text


def test_a_target_is_named_once():
    sample = samples.Sample(playbook="backup")
    target = {"kind": "bucket", "place": "s3.us-east-1.amazonaws.com", "name": "backups", "environment": "staging"}
    sample.step("Prove the bucket", "s3_preflight", "db1", figures={"target": target})
    shown = view.host(folded(sample.end(db1={})), "db1", is_open=True)
    assert [value for _, value in shown["identity"]].count("backups (s3.us-east-1.amazonaws.com)") == 1


def test_a_check_restores_nothing_and_does_not_say_so():
    sample = samples.Sample(check_mode=True)
    sample.step("Restore", "pg_restore", "db1", "ok", figures={"restored_bytes": 0})
    (line,) = terminal.summary_lines(folded(sample.end(db1={})), 79)
    assert "restored" not in line


def test_the_last_words_are_the_reason():
    assert terminal.last_words(a_run()) == []
    failed = a_run("failed", msg="The disk is full; make room.", stats={"failures": 1})
    assert terminal.last_words(failed) == ["db1, Do it, failed: The disk is full; make room."]


def test_on_a_terminal_no_word_of_the_reason_is_cut():
    text = "Cannot connect to app@db.example.com:5432/mental_scribe: no server answers there; check login_host."
    (wrapped,) = terminal.last_words(a_run("failed", msg=text, stats={"failures": 1}), 79)
    lines = f"[ERROR]: {wrapped}".splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 79
    assert " ".join(map(str.strip, lines)) == f"[ERROR]: db1, Do it, failed: {text}"


def test_of_what_is_unknown_the_last_words_say_what_would_make_it_known():
    figures = {
        "status": "unknown",
        "unknown": [{"kind": "bloat", "msg": "No statistics; ANALYZE it."}],
        "checks": [{"name": "a", "status": "ok", "msg": "Fine."}, {"name": "b", "status": "unknown", "msg": "Ask S3."}],
    }
    assert terminal.last_words(a_run(msg="Looked.", figures=figures)) == [
        "db1, Do it, unknown: Looked. No statistics; ANALYZE it. Ask S3."
    ]
    warned = a_run(msg="Looked.", figures={"status": "unknown"}, warnings=["Grant SELECT."])
    assert terminal.last_words(warned) == ["db1, Do it, unknown: Looked. Grant SELECT."]


def test_of_many_hosts_the_same_reason_is_told_once_and_not_too_many():
    sample = samples.Sample()
    hosts = [f"db{number}" for number in range(20)]
    for number, host in enumerate(hosts):
        text = "The disk is full; make room." if number < 10 else f"Reason {number}; see to it."
        sample.step("Do it", "pg_archive", host, "failed", msg=text)
    lines = terminal.last_words(folded(sample.end(**{host: {"failures": 1} for host in hosts})))
    assert lines[0].startswith("20 of 20 hosts failed")
    assert lines[1] == "db0, db1, db2, db3 and 6 more hosts, Do it, failed: The disk is full; make room."
    assert len(lines) == 2 + terminal.MAX_REASONS
    assert lines[-1] == "6 more reasons; the report has them all."


def test_what_a_rescue_took_care_of_is_no_reason():
    record = a_run("failed", msg="It broke.", stats={"rescued": 1})
    assert terminal.last_words(record) == []


def test_all_is_not_well_beside_a_warning():
    assert a_run(warnings=["Left out."])["verdict"] == "Nothing failed; 1 warning."


def test_markdown_has_no_table_without_rows(tmp_path):
    sample = samples.Sample()
    sample.step("Review", "pg_index_info", "db1", "ok", figures={"findings": [], "unknown": [], "status": "ok"})
    path = tmp_path / journal.FILE_NAME
    path.write_text("".join(json.dumps(event) + "\n" for event in sample.end(db1={}).events))
    render.render_run(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "No findings." in text
    # A line of dashes is followed by a row.
    assert not re.search(r"^\|(?: -+:? \|)+\n(?!\|)", text, re.MULTILINE)
