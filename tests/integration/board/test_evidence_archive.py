"""Records of other places for the board, and the archive of a quarter, as modules."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.report import board
from ansible.module_utils.runbook.rules.board import index as indexes
from ansible.module_utils.runbook.rules.state import Document, board_name, record_name
from board_samples import plan, record, stamp, step
from conftest import ROOT, a_run, approve, as_environ, run_module
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from pathlib import Path

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
DAY = datetime(2026, 10, 4, 2, tzinfo=UTC)


def made(number: int = 0, playbook: str = "weekly_db") -> dict[str, Any]:
    day = DAY + timedelta(weeks=number)
    return record(playbook, day, {"db1": [step("pg_vacuum", {})]}, environment="sandbox", number=number)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of runs with one record and one that is damaged, and a state store with two of another place."""
    (tmp_path / "state").mkdir(mode=0o700)
    store = Folder(tmp_path / "state", "sandbox")
    # Of a run in AWX that had nothing to prove only the inventory says which environment it was of.
    in_awx = made(3) | {"environments": [], "environment": "sandbox", "inventory": ["/runner/inventory/hosts"]}
    for each in (made(1), made(2, playbook="evidence"), in_awx):
        store.create(Document(record_name(each["run_id"]), each, each["run_id"], "awx/1", each["started_at"], "t"))
    for name, text in (("20261004T020000Z-weekly_db", json.dumps(made())), ("20261101T020000Z-backup", "{torn")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "record.json").write_text(text)
    (tmp_path / "runs/own").mkdir()
    (tmp_path / "archives").mkdir()
    return tmp_path


def environ_of(place: Path) -> dict[str, Any]:
    run = a_run("20270109T000000Z-evidence-abc123", directory=place / "runs/own")
    approve(run, "sandbox", playbook="evidence.yml")
    return as_environ(run)


def test_records_that_the_board_does_not_know_are_fetched_once(place):
    options = {"environment": "sandbox", "state_directory": str(place / "state")}
    environ = environ_of(place)
    planned = run_module("board_collect", options, check=True, **environ)
    assert (planned.result["collected"], (place / "runs/elsewhere").exists()) == (3, False)
    assert run_module("board_collect", options, **environ).result["collected"] == 3
    assert json.loads((place / f"runs/elsewhere/{made(1)['run_id']}.json").read_text()) == made(1)
    again = run_module("board_collect", options, **environ)
    assert (again.result["collected"], again.result["changed"], again.result["status"]) == (0, False, "ok")


@pytest.mark.parametrize(
    "body",
    [
        {"schema": "x"},
        indexes.empty() | {"places": {"sandbox": indexes.empty_place() | {"hosts": {"backup": {"db1": 7}}}}},
    ],
)
def test_a_damaged_board_in_the_state_store_is_made_again_and_said(place, monkeypatch, body):
    spec = importlib.util.spec_from_file_location("run_record", ROOT / "playbooks/callback_plugins/run_record.py")
    assert spec is not None
    assert spec.loader is not None
    callback = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(callback)
    store = Folder(place / "state", "sandbox")
    store.create(Document(board_name("sandbox"), body, made()["run_id"], "awx/1", made()["started_at"], "t"))
    facts = {
        "settings": {"state_directory": str(place / "state")}, "environment": "sandbox", "place": "sandbox",
        "runs": str(place / "runs"), "plan": plan(DAY, environment="sandbox"),
        "record": {"run_id": made()["run_id"], "controller": "awx/1", "written_at": made()["started_at"]},
    }  # fmt: skip
    for says in ("The board in the state store was damaged, and is mended", ""):
        said = callback._share_board(facts)
        assert (said["index"]["seen"], round(said["ahead_s"])) == ([made()["run_id"]], 0)
        assert said["note"].startswith(says)
        assert bool(said["note"]) is bool(says)
    # This machine's clock is two days behind, and what it says of others is by the store's.
    later = datetime.now(UTC) + timedelta(days=2)
    newest = record("weekly_db", later - timedelta(hours=1), {"db1": [step("pg_vacuum", {})]}, environment="sandbox")
    (place / "runs/20990101T000000Z-weekly_db").mkdir()
    (place / "runs/20990101T000000Z-weekly_db/record.json").write_text(json.dumps(newest))
    read = Folder.read
    monkeypatch.setattr(Folder, "read", lambda store, name: replace(read(store, name), now=later))
    said = callback._share_board(facts)
    assert round(said["ahead_s"] / 86_400) == -2
    (run,) = [each for each in said["index"]["places"]["sandbox"]["runs"].values() if each["at"] > stamp(DAY)]
    assert (run["at"], run.get("dated")) == (newest["started_at"], None)


def test_an_archive_holds_the_records_of_all_places_and_is_made_once(place):
    options = {
        "quarter": "2026Q4", "dest": str(place / "archives"), "signing_key": PEM, "environment": "sandbox",
        "runbook": str(ROOT / "docs/runbook.md"), "state_directory": str(place / "state"),
    }  # fmt: skip
    bare = run_module("evidence_archive", options, permitted=False, **as_environ(a_run(directory=place / "runs/own")))
    assert "has not passed preflight" in bare.result["msg"]
    environ = environ_of(place)
    planned = run_module("evidence_archive", options, check=True, **environ)
    assert (planned.result["records"], list((place / "archives").iterdir())) == (3, [])
    done = run_module("evidence_archive", options, **environ)
    assert done.failed
    assert done.result["changed"]
    assert {"Missing: 20261101T020000Z-backup: it is damaged"} <= {each["msg"] for each in done.result["checks"]}
    (path,) = (place / "archives").iterdir()
    assert (str(path), path.stat().st_mode & 0o777) == (done.result["archive"], 0o600)
    before = path.read_bytes()
    again = run_module("evidence_archive", options, **environ)
    assert (again.result["changed"], again.result["sha256"], path.read_bytes()) == (
        False,
        done.result["sha256"],
        before,
    )
    (place / "evidence.pem").write_text("\n".join(done.result["public_key"]) + "\n")
    verify = {"archive": str(path), "public_key": str(place / "evidence.pem")}
    assert run_module("evidence_verify", verify).result["msg"].endswith("The one check is ok.")
    assert run_module("evidence_verify", {"archive": str(path)}).result["status"] == "unknown"
    path.write_bytes(before[:-200])
    assert run_module("evidence_verify", verify).failed
    refused = run_module("evidence_archive", options, **environ)
    assert "was changed; look at who did it" in refused.result["msg"]
    # A record that was removed is missed: the board knew its run.
    index = indexes.empty()
    for each in (made(), made(1), made(2, playbook="evidence"), made(3), made(4)):
        indexes.add(index, board.summary(each), datetime(2027, 1, 9, tzinfo=UTC))
    store = Folder(place / "state", "sandbox")
    store.create(Document(board_name("sandbox"), index, "20270101T000000Z-x-0", "awx/1", made()["started_at"], "t"))
    lacking = made(4)["run_id"]
    less = run_module("evidence_archive", options, check=True, **environ)
    assert [each["msg"].partition(": ")[2] for each in less.result["checks"] if each["subject"].startswith("202")] == [
        "20261101T020000Z-backup: it is damaged",
        f"{lacking}: the board knows this run, and its record is neither here nor in the store. It was on bastion.",
    ]
