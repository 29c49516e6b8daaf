"""The evidence of a quarter: bullets, gaps, and an archive that others can verify."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.drivers.board import archive, records
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.board import evidence
from board_samples import record, step
from conftest import ROOT
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

QUARTER = evidence.Quarter.read("2026Q4")
#: Of zeros, so that it is always the same.
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
MAP = """## Database Maintenance

### Weekly Database Cleanup

| # | task | state | what runs | test | human step |
|---|---|---|---|---|---|
| 1 | Vacuum | built | `playbooks/weekly_db.yml`, module `library/pg_vacuum.py` | `t` | read it |
| 2 | Later | planned | – | – | do it |

## Monthly Major Updates

| # | task | state | what runs | test | human step |
|---|---|---|---|---|---|
| 1 | Read <changes> | built | `playbooks/updates.yml` (`--tags monthly`, `review`) | `t` | judge |

## Emergency

| # | task | state | what runs | test | human step |
|---|---|---|---|---|---|
| 1 | Fix | built | `playbooks/emergency.yml` | `t` | none |
"""


def judged(records, now=datetime(2027, 1, 9, tzinfo=UTC)):
    return {each.bullet.task: each for each in evidence.judge(evidence.read_map(MAP), records, QUARTER, now)}


def weekly(day):
    return record("weekly_db", day.replace(hour=2), {"db1": [step("pg_vacuum", {})]})


MONDAYS = [datetime(2026, 10, 5, tzinfo=UTC) + timedelta(weeks=number) for number in range(13)]


def test_a_bullet_is_done_where_each_of_its_periods_has_a_good_run():
    found = judged([weekly(day) for day in MONDAYS])
    assert (found["Vacuum"].state, len(found["Vacuum"].runs)) == ("done", 13)
    assert {task: each.state for task, each in found.items()} == {
        "Vacuum": "done", "Later": "not built", "Read <changes>": "not done", "Fix": "when it is needed",
    }  # fmt: skip


def test_the_last_week_of_a_quarter_goes_on_behind_it():
    """Sunday is a week's last day, and few quarters end with one."""
    sundays = [day + timedelta(days=6) for day in MONDAYS]
    other = record("emergency", sundays[-1], {"db1": [step("x", {})]})
    found = judged([*map(weekly, sundays), other])
    assert (found["Vacuum"].state, len(found["Vacuum"].runs), f"{sundays[-1]:%F}") == ("done", 13, "2027-01-03")
    assert found["Fix"].runs == ()
    assert judged(map(weekly, sundays[:-1]))["Vacuum"].gaps == ("week of 2026-12-28",)


def test_a_week_without_a_good_run_is_a_gap_and_a_failed_run_is_none():
    bad = record("weekly_db", MONDAYS[4], {"db1": [step("pg_vacuum", {}, "breach", "No.")]})
    found = judged([bad, *(weekly(day) for day in MONDAYS[:4] + MONDAYS[5:12])])["Vacuum"]
    assert (found.state, found.gaps) == ("gaps", ("week of 2026-11-02", "week of 2026-12-28"))
    assert len(found.runs) == 12


def fleet(day, left_out=(), **statuses: str):
    hosts = {host: [step("pg_vacuum", {}, status)] for host, status in statuses.items()}
    return record("weekly_db", day, hosts, left_out=list(left_out), limit="db1" if left_out else None)


def test_what_was_done_on_some_hosts_is_no_evidence_for_the_others():
    runs = [fleet(day, db1="ok", db2="ok", db3="ok") for day in MONDAYS]
    runs[2] = fleet(MONDAYS[2], left_out=["db2", "db3"], db1="ok")
    runs[3] = fleet(MONDAYS[3], db1="ok", db2="breach", db3="unknown")
    again = fleet(MONDAYS[3] + timedelta(days=1), left_out=["db1", "db2"], db3="ok")
    runs[5]["hosts"]["db1"]["status"] = "not_run"
    found = judged([*runs, again])["Vacuum"]
    assert found.state == "gaps"
    assert found.gaps == (
        "week of 2026-10-19 without db2, db3", "week of 2026-10-26 without db2", "week of 2026-11-09 without db1",
    )  # fmt: skip
    assert found.result()["hosts_covered"] == []
    assert found.result()["hosts_not_covered"] == {
        "db1": ["week of 2026-11-09"], "db2": ["week of 2026-10-19 to week of 2026-10-26"],
        "db3": ["week of 2026-10-19"],
    }  # fmt: skip
    assert found.runs[2]["hosts"] == "Done on db1. Not done on db2, db3 (left out by --limit)."
    assert found.runs[3]["hosts"] == "Done on db1. Not done on db2 (failed). Not done on db3 (unknown)."
    assert "Not done on db2, db3 (left out by --limit)." in evidence.page([found], [], QUARTER, "production", 14)
    whole = judged(runs[:2] + [fleet(day, db1="ok", db2="ok", db3="ok") for day in MONDAYS[2:]])["Vacuum"]
    assert (whole.state, whole.covered, whole.not_covered) == ("done", ("db1", "db2", "db3"), {})


def test_a_host_is_due_from_when_it_came_until_it_left_and_a_bullet_is_for_those_that_its_module_worked_on():
    runs = [fleet(day, db1="ok", **({"db2": "ok"} if 3 <= week < 6 else {})) for week, day in enumerate(MONDAYS)]
    assert judged(runs)["Vacuum"].state == "done"
    for each in runs:
        # A playbook whose other hosts have nothing to do with the bullet, failed or left out as they may be.
        each["playbook"] = "monthly_db"
        each["hosts"]["web"] = record("x", MONDAYS[0], {"web": [step("lighthouse_info", {})]})["hosts"]["web"]
    runs[4]["hosts"]["web"]["status"] = "failed"
    runs[5]["left_out"] = ["web"]
    assert judged(runs)["Vacuum"].state == "done"
    once = [record("weekly_db", day, {f"db{week % 2}": []}) for week, day in enumerate(MONDAYS)]
    for each in once:
        each["plays"][0]["hosts"] = "databases[0]"
    assert judged(once)["Vacuum"].state == "done"


def test_what_is_not_over_yet_is_no_gap():
    found = judged([weekly(MONDAYS[0])], now=datetime(2026, 10, 19, tzinfo=UTC))
    assert found["Vacuum"].gaps == ("week of 2026-10-12",)
    assert found["Read <changes>"].state == "not over yet"


def test_a_module_counts_whatever_playbook_ran_it_and_a_skipped_one_does_not():
    monthly = record("monthly_db", MONDAYS[0], {"db1": [step("pg_vacuum", {})]})
    skipped = record("monthly_db", MONDAYS[1], {"db1": [step("pg_vacuum", {}, state="skipped")]})
    assert [run["id"] for run in judged([monthly, skipped])["Vacuum"].runs] == [monthly["run_id"]]


def test_a_playbook_of_several_parts_counts_by_its_tag():
    told = step("app_update_review", {"reviewed_by": "Ada"}, msg="Ada read it.")
    runs = [
        record("updates", MONDAYS[0], {"app": []}, tags=["weekly"]),
        record("updates", MONDAYS[1], {"app": [told]}, tags=["monthly"]),
    ]
    found = judged(runs)["Read <changes>"]
    assert ([run["id"] for run in found.runs], found.gaps) == ([runs[1]["run_id"]], ("2026-11 to 2026-12",))
    assert [text for _, text in found.said] == ["Ada read it."]


def test_the_map_of_this_project_is_read_whole():
    text = (ROOT / "docs/runbook.md").read_text()
    bullets = evidence.read_map(text)
    assert len(bullets) > 90
    assert {each.rhythm for each in bullets} == {"", "daily", "weekly", "monthly", "quarterly"}
    playbooks = {name for each in bullets for name, _ in each.playbooks}
    assert playbooks <= {path.stem for path in (ROOT / "playbooks").glob("*.yml")}


def test_the_page_names_gaps_and_what_is_missing_and_escapes_what_it_is_told():
    page = evidence.page(list(judged([weekly(MONDAYS[0])]).values()), ["x: it is damaged"], QUARTER, "production", 1)
    assert "Read &lt;changes&gt;" in page
    assert "Missing: x: it is damaged" in page
    assert 'href="records/20261005T020000Z-weekly_db-000000.json"' in page


@pytest.mark.parametrize("said", ["", "2026", "2026Q5", "Q4", "1999Q1"])
def test_what_is_no_quarter_is_refused(said):
    with pytest.raises(RunbookError, match="write it as 2026Q4"):
        evidence.Quarter.read(said)


FILES = {"index.html": b"<p>", "records/a.json": b"{}"}


def put(path, files):
    path.write_bytes(archive.packed(files))
    return path


def test_the_same_files_make_the_same_archive_and_nobody_needs_us_to_verify_it(tmp_path):
    whole = archive.signed(FILES, KEY)
    assert archive.packed(whole) == archive.packed(dict(reversed(whole.items())))
    assert archive.verify(put(tmp_path / "a.zip", whole), KEY.public_key()) == (
        3,
        archive.fingerprint(KEY.public_key()),
        [],
    )
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so its own verification was not tried")
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        packed.extractall(tmp_path)  # our own
    commands = [line.strip() for line in evidence.README.splitlines() if line.startswith("  ")]
    for command in commands[:2]:
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602 - as a person types it
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    said = subprocess.run(commands[2], shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S602 - as above
    assert said.stdout.split()[0] == archive.fingerprint(KEY.public_key())


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"records/a.json": b"{ }"}, "records/a.json was changed."),
        ({"records/a.json": None}, "records/a.json is missing."),
        ({"records/b.json": b"{}"}, "records/b.json was added."),
        ({"SHA256SUMS": b""}, "The signature is not of that key over these hashes."),
    ],
)
def test_what_was_changed_is_named(tmp_path, change, wrong):
    whole = {name: data for name, data in (archive.signed(FILES, KEY) | change).items() if data is not None}
    assert wrong in archive.verify(put(tmp_path / "a.zip", whole), KEY.public_key())[2]


def test_another_key_proves_nothing(tmp_path):
    other = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
    path = put(tmp_path / "a.zip", archive.signed(FILES, other))
    assert archive.verify(path, None)[2] == []
    assert archive.verify(path, KEY.public_key())[2] == ["The signature is not of that key over these hashes."]


@pytest.mark.parametrize("pem", ["", "CANARY", PEM[:60]])
def test_what_is_no_key_is_refused_and_not_repeated(pem):
    with pytest.raises(RunbookError, match="openssl genpkey") as found:
        archive.private_key(pem)
    assert "CANARY" not in str(found.value)
    assert ("is empty" in str(found.value)) is not bool(pem)


def test_an_archive_whose_bytes_were_changed_is_refused_in_one_sentence(tmp_path):
    path = put(tmp_path / "a.zip", archive.signed({"records/a.json": b"x" * 500}, KEY))
    with zipfile.ZipFile(path) as packed:
        entry = packed.getinfo("records/a.json")
    data = bytearray(path.read_bytes())
    begin = entry.header_offset + 30 + len(entry.filename)
    data[begin : begin + entry.compress_size] = b"\xff" * entry.compress_size
    path.write_bytes(data)
    with pytest.raises(RunbookError, match="cannot be read"):
        archive.verify(path, None)


@pytest.mark.parametrize("run_id", ["20261004T020000Z-x/../../../etc/x", "../x", "20261005T020000Z-weekly_db-0", None])
def test_a_record_that_is_of_another_run_is_missing_and_names_no_file(tmp_path, run_id):
    place = tmp_path / "20261004T020000Z-weekly_db"
    place.mkdir()
    (place / "record.json").write_text(json.dumps({"run_id": run_id}))
    assert list(records.local(tmp_path, "2", "3")) == [(place.name, f"it says that it is of the run {str(run_id)!r}")]


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip"])
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(RunbookError, match="cannot be read"):
        archive.verify(tmp_path / "a.zip", None)
