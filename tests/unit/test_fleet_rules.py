"""Hosts that a run left out, and what is said where there are many."""

from __future__ import annotations

from typing import Any

import pytest
import record_samples as samples
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import board, metrics, render, terminal
from ansible.module_utils.runbook.rules import fleet
from record_samples import VALIDATOR, Sample

NAMES = ["weekly_db.yml", "monthly_db.yml"]


@pytest.mark.parametrize(("batches", "stop_after", "found"), [
    (None, None, fleet.Fleet()),
    ([], 0, fleet.Fleet((), 0)),
    ("1,10%", "3", fleet.Fleet(("1", "10%"), 3)),
    (5, None, fleet.Fleet(("5",))),
    ({"monthly_db.yml": [1]}, None, fleet.Fleet()),
    ({"weekly_db.yml": [1, "100%"]}, 2, fleet.Fleet(("1", "100%"), 2)),
])  # fmt: skip
def test_batches_for_one_run_or_by_playbook(batches, stop_after, found):
    assert fleet.read(batches, stop_after, playbook="weekly_db.yml", known=NAMES) == found


@pytest.mark.parametrize(("batches", "stop_after", "said"), [
    ([0], None, "'0' is no size"), (["0%"], None, "'0%' is no size"), (["101%"], None, "'101%' is no size"),
    ("1, ten", None, "'ten' is no size"), ("", None, "'' is no size"), ([1.5], None, "'1.5' is no size"),
    ({"weekly.yml": [1]}, None, "did you mean weekly_db.yml?"), ([1], -1, "'-1' is no number"),
    ([1], "50%", "'50%' is no number"),
])  # fmt: skip
def test_what_means_nothing_is_refused(batches, stop_after, said):
    with pytest.raises(RunbookError) as refused:
        fleet.read(batches, stop_after, playbook="weekly_db.yml", known=NAMES)
    assert said in refused.value.message


@pytest.mark.parametrize("batches", [[], [1], [1, 5], ["1", "10%"], ["30%"], [7, "1%"], ["100%"], [1000]])
@pytest.mark.parametrize("hosts", [0, 1, 2, 10, 99])
def test_batches_are_those_of_ansible(batches, hosts):
    from ansible.executor.playbook_executor import PlaybookExecutor  # noqa: PLC0415 - the one test that needs it

    class Play:
        hosts, order, serial = "all", None, batches

    class Inventory:
        def get_hosts(self, _pattern, order):
            return [] if order else list(range(hosts))

    executor = PlaybookExecutor.__new__(PlaybookExecutor)
    executor._inventory = Inventory()
    assert fleet.sizes(batches, hosts) == [len(batch) for batch in executor._get_serialized_batches(Play())]


def test_no_further_batch_begins_at_the_limit_exactly():
    assert [bool(fleet.held(["a"] * number, 2)) for number in (0, 1, 2, 3)] == [False, False, True, True]
    assert not fleet.held(["a", "b"], 0)


def batches(*sizes: list[str], **facts: Any) -> Sample:
    """A run of as many batches; the next is to begin."""
    every = [name for size in sizes for name in size]
    sample = Sample(**facts)
    sample.events.pop()
    start(sample, 1, sizes[0], every=every)
    return sample


def start(sample: Sample, number: int, begun: list[str], held: str = "", **more: Any) -> None:
    batch = {"number": number, "of": 3, "held": held}
    sample.add("play_start", play="p1", name="Weekly", hosts="databases", batch=batch, begun=begun, **more)


def work(sample: Sample, *hosts: str) -> None:
    for host in hosts:
        sample.step("Archive", "pg_archive", host, "changed", figures=samples.archive(), own=True)


def test_a_host_that_shares_a_failure_is_not_ok():
    """Ansible fails all hosts of a batch where a step of run_once does, and counts it for one."""
    sample = batches(["a", "b"], ["c"])
    work(sample, "a", "b")
    sample.step("Tell everybody", "change_notice", "a", "failed", msg="Nobody answers.", own=True)
    sample.add("play_end", play="p1", removed=["a", "b"])
    found = samples.fold(sample.end(a={"failures": 1}, b={}).events)
    VALIDATOR.validate(found)
    assert {name: host["status"] for name, host in found["hosts"].items()} == {
        "a": "failed", "b": "not_run", "c": "not_run",
    }  # fmt: skip
    assert found["verdict"] == "1 of 3 hosts failed: a. 2 of 3 hosts were not run: b, c."
    assert found["hosts"]["a"]["not_run"] is None
    assert "takes once for all hosts" in found["hosts"]["b"]["not_run"]
    assert board.summary(found)["hosts"]["c"] == ["failed", found["hosts"]["c"]["not_run"]]


@pytest.mark.parametrize(("play_count", "first"), [(1, "ok"), (2, "unknown")])
def test_of_a_run_that_was_stopped_only_what_was_through_is_ok(play_count, first):
    sample = batches(["a"], ["b", "c"], ["d"], play_count=play_count)
    work(sample, "a")
    sample.add("play_end", play="p1", removed=[])
    start(sample, 2, ["b", "c"])
    task = sample.task("Archive", "pg_archive")
    sample.start(task, "b")
    sample.add("run_stopped", text="The run was stopped by Ctrl-C before its end")
    found = samples.fold(sample.events)
    assert {name: host["status"] for name, host in found["hosts"].items()} == {
        "a": first, "b": "unknown", "c": "not_run", "d": "not_run",
    }  # fmt: skip
    assert found["status"] == "failed"
    said = parsed(metrics.metrics(found))
    assert said['runbook_run_host_success{playbook="weekly_db",host="d"}'] == "0"


def many(number: int, **broken: str) -> dict[str, object]:
    """The record of a run on many hosts, of which some failed with a sentence each, and the last two were not run."""
    hosts = [f"db{each:03}" for each in range(1, number + 1)]
    sample = samples.weekly(tuple(hosts[:-2]))
    end = sample.events.pop()
    sample.events[1] |= {"batch": {"number": 1, "of": 2, "held": ""}, "begun": hosts[:-2], "every": hosts}
    for host, msg in broken.items():
        sample.step("Vacuum once more", "pg_vacuum", host, "failed", msg=msg, own=True)
        end["stats"][host]["failures"] = 1
    sample.events.append(end | {"ts": sample.events[-1]["ts"]})
    return samples.fold(sample.events)


def test_of_many_hosts_the_terminal_shows_the_odd_ones():
    record = many(60, db007="The disk is full.", db031="The disk is full.", db044="Nobody answers.")
    lines = terminal.summary_lines(record, 80)
    assert [line[:30] for line in lines[:2]] == ["55 hosts ok: db001, db002, db0", "2 hosts not run: db059, db060"]
    assert [line.split()[:2] for line in lines[2:] if line.startswith("db")] == [
        ["db007", "failed"], ["db031", "failed"], ["db044", "failed"],
    ]  # fmt: skip
    assert len(lines) < 20
    words = terminal.last_words(record)
    assert "3 of 60 hosts failed: db007, db031, db044. 2 of 60 hosts were not run: db059, db060." in words[0]
    assert any(line.startswith("db007, db031, Vacuum once more, failed: The disk is full.") for line in words)
    assert words[-1].startswith("db059, db060: Not run:")


@pytest.mark.parametrize("number", [60, pytest.param(1_000, marks=pytest.mark.long)])
def test_a_report_fits_into_a_ticket_and_says_what_it_left_out(number):
    text = render.markdown(many(number, db050="The disk is full."), [], [])
    assert 5_000 < len(text) <= render.MAX_MARKDOWN
    assert "Left out, to fit into a ticket:" in text
    assert "report.html of this run has them." in text
    table = [line for line in text.splitlines() if line.startswith("| db0")]
    assert table[0].startswith("| db050 | failed |")
    assert "The disk is full." in text
    if number == 60:
        assert "57 hosts' steps" in text
        assert "## db050" in text
        assert "## db001" not in text
    few = render.markdown(many(5), [], [])
    assert "Left out" not in few
    assert few.index("## db004") < few.index("## db001")


def parsed(text: str) -> dict[str, str]:
    return dict(line.rpartition(" ")[::2] for line in text.splitlines() if not line.startswith("#"))


def test_a_run_of_one_host_keeps_what_is_known_of_the_others():
    odd = 'db"3\\x}'
    first = metrics.metrics(samples.fold(samples.weekly(("db1", "db2", odd)).events), {"db2": {"backup_size_bytes": 5}})
    limited = samples.fold(samples.weekly(("db1",), samples.START_S + 86_400, rows=3).events)
    second = metrics.merged(metrics.metrics(limited), first, limited)
    found = parsed(second)
    of_host = 'runbook_run_step_moved_rows{{environment="staging",playbook="weekly_db",host="{}",'
    of_host += 'task="Archive old rows",module="pg_archive"}}'
    assert (found[of_host.format("db1")], found[of_host.format("db2")]) == ("3", "117000")
    assert found[of_host.format(metrics.escaped(odd))] == "117000"
    assert found['runbook_backup_size_bytes{environment="staging",playbook="weekly_db",host="db2"}'] == "5"
    # Each family once, and all its samples together.
    heads = [line for line in second.splitlines() if line.startswith("# TYPE ")]
    assert len(heads) == len(set(heads)) == len([line for line in first.splitlines() if line.startswith("# TYPE ")])
    # The same again changes nothing, and who is gone is forgotten after a quarter.
    assert metrics.merged(metrics.metrics(limited), second, limited) == second
    later = samples.fold(samples.weekly(("db1",), samples.START_S + 101 * 86_400).events)
    assert 'host="db2"' not in metrics.merged(metrics.metrics(later), second, later)


def test_hosts_that_disagree_on_batches_are_refused():
    some, none = fleet.Fleet(("1", "10%")), fleet.Fleet()
    with pytest.raises(
        RunbookError, match="preflight_batches: it is 1, 10% for db1 and all at once for db3, and a run"
    ):
        fleet.agreed({"db1": some, "db2": some, "db3": none})
    with pytest.raises(RunbookError, match="preflight_stop_after_failures: it is 1 for db1 and 3 for db2"):
        fleet.agreed({"db1": none, "db2": fleet.Fleet(stop_after_failures=3)})


def test_a_host_that_left_the_inventory_is_forgotten_and_one_that_was_left_out_is_not():
    hosts = ["db1", "db2"]
    first = metrics.metrics(samples.fold(samples.weekly(tuple(hosts)).events), {"db2": {"backup_size_bytes": 5}})
    later = samples.fold(samples.weekly(("db1",), samples.START_S + 86_400).events)
    said = metrics.metrics(later)
    for record, known, keeps in (
        (later, ["db1"], False), (later, hosts, True), (later, None, True), (later | {"limit": "db1"}, ["db1"], True),
        (later | {"inventory": [f"inventories/{later['environment']}-us"]}, ["db1"], True),
    ):  # fmt: skip
        assert ('host="db2"' in metrics.merged(said, first, record, known)) is keeps


def test_two_environments_in_one_folder_do_not_touch_each_other(tmp_path):
    for number, environment in enumerate(("production", "staging")):
        run = samples.weekly(("db1",), samples.START_S + number * 86_400, rows=number + 1)
        run.events[0] |= {"schedule": "weekly", "inventory": [f"inventories/{environment}"]}
        run.events.insert(1, run.events[0] | {
            "event": "inventory", "environment": environment, "hosts": ["db1"], "left_out": [],
        })  # fmt: skip
        record = render.render_run(run.write(tmp_path / f"2026030{number + 1}T020000Z-weekly_db"), publish=True)
        assert (record["environment"], record["left_out"]) == (environment, [])
        # Nor does the report of one show the other's runs as its past.
        assert len(render.history_of(tmp_path / f"2026030{number + 1}T020000Z-weekly_db", record)[0]) == 1
    names = sorted(path.name for path in (tmp_path / "metrics").iterdir())
    assert names == [
        "production-job-weekly.prom", "production-weekly_db.prom", "staging-job-weekly.prom", "staging-weekly_db.prom",
    ]  # fmt: skip
    for name in names:
        lines = [line for line in (tmp_path / "metrics" / name).read_text().splitlines() if line[0] != "#"]
        assert all(f'{{environment="{name.partition("-")[0]}",' in line for line in lines)
        assert any('host="db1"' in line for line in lines)


def test_a_file_of_metrics_that_is_broken_does_not_stop_the_next():
    record = samples.fold(samples.weekly().events)
    said = metrics.metrics(record)
    assert metrics.merged(said, '# HELP torn\nrunbook_run_host_success{host="x"} \nnonsense\n\x00', record) == said
