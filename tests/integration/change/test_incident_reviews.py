"""Reviews of emergencies: opened in the change, reminded of once a day, red when overdue, closed by a person."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.rules.change.change import Change
from ansible.module_utils.runbook.rules.change.review import Review
from ansible.module_utils.runbook.rules.status import Status
from changes import item, open_change
from conftest import Outcome, run_module, this_run
from fakes.chat import PATHS, FakeChat
from fakes.http import Fault

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

ACTIONS = [{"text": "Lock migrations", "owner": "Bo Katan", "due_date": "2026-12-31"}]
WORDS: dict[str, Any] = {"by": "Ada Byron", "text": "A migration ran twice.", "actions": ACTIONS}


@pytest.fixture
def chat() -> Iterator[FakeChat]:
    with FakeChat() as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "state").mkdir(mode=0o700)
    return {"state_directory": str(tmp_path / "state")}


def a_review(store: dict[str, Any], change_id: str, age_days: float, environment: str = "production") -> Review:
    """A review that was opened so many days ago, with five days for it."""
    then = datetime.now(UTC) - timedelta(days=age_days)
    change = Change(change_id, "emergency.yml", f"Reason of {change_id}", (), "m", then, then)
    review = Review.of_change(change, kind="security", owner="security_team", due_days=5, opened_at=then)
    documents = Documents(Folder(Path(store["state_directory"]), environment), this_run(), environment)
    documents.update(Review.document_name(change_id), lambda _: review.body())
    return review


def review_module(store: dict[str, Any], state: str, **options: Any) -> Outcome:
    flags = {name: options.pop(name) for name in ("check", "diff") if name in options}
    return run_module("incident_review", store | {"state": state} | options, **flags)


def remind(store: dict[str, Any], chat: FakeChat, **flags: Any) -> Outcome:
    return run_module(
        "incident_review_remind",
        store | {"backend": "slack", "slack_url": chat.url + PATHS["slack"], "timeout_s": 5},
        **flags,
    )


def test_a_review_is_opened_in_its_change_completed_at_its_end_and_closed_once(tmp_path, store):
    options = {"kind": "corruption", "owner": "database_admin"}
    planned = review_module(store, "opened", **options, check=True)
    assert (planned.result["changed"], list(Path(store["state_directory"]).rglob("*.json"))) == (True, [])
    # The plan of the checklists has this line.
    assert planned.result["answers"] == "review"
    none = review_module(store, "opened", **options)
    assert (none.failed, "is not open" in none.result["msg"]) == (True, True)
    changes = open_change(tmp_path)
    first = review_module(store, "opened", **options, diff=True)
    assert (first.result["status"], first.result["changed"]) == ("ok", True), first.result
    assert first.result["diff"]["prepared"].startswith(f"+ Review {changes.id} (corruption: a test; Database Admin)")
    assert item(changes, "review")[0] == "ok"
    assert review_module(store, "opened", **options).result["changed"] is False
    changes.answer("ticket", Status.OK, "Opened", "https://tickets.clinic.eu/7")
    last = review_module(store, "opened", **options).result
    assert (last["changed"], last["review"]["ticket"]) == (True, "https://tickets.clinic.eu/7")
    assert [each["item"] for each in last["review"]["timeline"]] == ["ticket"]
    assert last["review"]["due"] == first.result["review"]["due"]

    planned = review_module(store, "closed", change_id=changes.id, **WORDS, check=True, diff=True)
    assert "+ Lock migrations (Bo Katan, until 2026-12-31)\n" in planned.result["diff"]["prepared"]
    listed = run_module("incident_review_info", store).result
    assert (listed["status"], listed["reviews"][0]["closed_at"]) == ("ok", None)
    closed = review_module(store, "closed", change_id=changes.id, **WORDS)
    assert (closed.result["status"], closed.result["changed"]) == ("ok", True)
    assert review_module(store, "closed", change_id=changes.id, **WORDS).result["changed"] is False
    other = review_module(store, "closed", change_id=changes.id, **WORDS | {"text": "Something else."})
    assert (other.failed, "was closed by Ada Byron" in other.result["msg"]) == (True, True)
    listed = run_module("incident_review_info", store).result
    assert listed["reviews"][0]["closing"]["actions"] == ACTIONS


@pytest.mark.parametrize(
    ("state", "options", "says"),
    [
        ("opened", {"owner": "Ada"}, "kind: it is not set"),
        ("opened", {"kind": "security"}, "owner: it is not set"),
        ("opened", {"kind": "security", "owner": "[Contact]"}, "owner: '[Contact]' is a placeholder"),
        ("opened", {"kind": "security", "owner": "Ada", "due_days": 0}, "due_days: 0 is out of bounds"),
        ("closed", WORDS, "change_id: it is not set"),
        ("closed", WORDS | {"change_id": "gone"}, "change_id: there is no review of gone"),
        ("closed", WORDS | {"change_id": "../x"}, "is no document of the state store"),
        ("closed", WORDS | {"change_id": "x", "actions": []}, "actions: it is empty"),
    ],
)
def test_bad_input_is_one_clear_sentence(store, state, options, says):
    refused = review_module(store, state, **options)
    assert refused.failed
    assert says in refused.result["msg"]


def test_overdue_is_red_and_hides_no_other(store):
    a_review(store, "overdue", 7)
    a_review(store, "soon", 3.5)
    a_review(store, "later", 0)
    (known,) = Path(store["state_directory"]).rglob("later.json")
    known.with_name("broken.json").write_text("{")
    found = run_module("incident_review_info", store)
    assert found.failed
    assert {each["subject"]: each["status"] for each in found.result["checks"]} == {
        "overdue": "breach", "soon": "ok", "later": "ok", "broken": "unknown"
    }  # fmt: skip
    assert [each["id"] for each in found.result["reviews"]] == ["overdue", "soon", "later"]
    assert "Reason of soon" in found.result["msg"]
    assert "Reason of later" not in found.result["msg"]


def test_each_review_is_reminded_of_once_a_day_whatever_the_service_says(store, chat):
    for change_id, age in (("a", 7), ("b", 7), ("c", 7), ("later", 0)):
        a_review(store, change_id, age)
    assert (remind(store, chat, check=True).result["changed"], chat.got) == (True, [])
    chat.faults = [
        Fault("POST", "lost"), Fault("POST", "status", 404, {"Content-Type": "text/plain"}, b"no_service")
    ]  # fmt: skip
    said = remind(store, chat)
    assert (said.failed, said.result["changed"]) == (False, True)
    assert {each["subject"]: each["status"] for each in said.result["checks"]} == {
        "a": "unknown", "b": "breach", "c": "ok"
    }  # fmt: skip
    assert "c4n4ry" not in json.dumps(said.result) + said.stderr
    again = remind(store, chat)
    assert {each["subject"]: each["status"] for each in again.result["checks"]} == {
        "a": "unknown", "b": "ok", "c": "ok"
    }  # fmt: skip
    assert sorted(each["text"].partition("Reason of ")[2][0] for each in chat.got) == ["a", "b", "c"]
    assert remind(store, chat).result["changed"] is False
    nobody = run_module("incident_review_remind", store | {"backend": "none"})
    assert (nobody.failed, nobody.result["changed"]) == (False, False)


def test_the_playbook_reminds_is_red_and_closes_by_a_file(tmp_path, store, chat):
    late = a_review(store, "late", 7, "staging")
    common = {
        "runbook_environment": "staging",
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "change_notice_backend": "slack",
        "change_notice_slack_url": chat.url + PATHS["slack"],
    }
    project = Project(tmp_path, {"db": {}}, common | store)
    red = project.run("reviews.yml", "-vvv", "--diff")
    assert red.code != 0
    assert f"{late.describe()}: overdue since {late.due}" in " ".join(red.output.split())
    assert len(chat.got) == 1
    file = tmp_path / "review.yml"
    file.write_text(
        "incident_review_close:\n  change_id: late\n  by: Ada Byron\n  text: A migration ran twice.\n  actions:\n"
        "    - {text: Lock migrations, owner: Bo Katan, due_date: 2026-12-31}\n"
    )
    file = file.rename(tmp_path.parent / f"{tmp_path.name}-review.yml")
    closed = project.run("reviews.yml", "-e", f"@{file}", "-vvv", "--diff")
    assert closed.code == 0, closed.output
    assert closed.last("incident_review_info")["reviews"][0]["closing"]["actions"] == ACTIONS
    assert len(chat.got) == 1
    kept = [path for folder in ("runs", "state") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    shown = red.output + closed.output + "".join(path.read_text(errors="replace") for path in kept)
    assert "c4n4ry" not in shown
