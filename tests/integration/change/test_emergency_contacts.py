"""Emergency contacts are proven by the code of a message that arrived, whatever the services say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from changes import item, open_change
from conftest import S3, Outcome, run_module
from fakes.http import Asked, FakeService, Fault, Reply

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLES = ("engineering_lead", "database_admin", "security_team", "devops_sre")


class FakeChats(FakeService):
    """A chat for each secret address: nobody knows another one's."""

    service: ClassVar[str] = "chat"

    def __init__(self) -> None:
        super().__init__()
        self.got: dict[str, list[str]] = {}

    def answer(self, asked: Asked) -> Reply:
        self.got.setdefault(asked.path, []).append(asked.body["text"])
        return Reply(200, b"ok", {"Content-Type": "text/html"})

    def contact(self, role: str) -> dict[str, Any]:
        """Somebody who reads one of them."""
        return {"name": f"Ada, {role}", "backend": "slack", "slack_url": f"{self.url}/services/c4n4ry-{role}"}

    def code(self, role: str) -> str:
        """What a person reads in the last message."""
        found = re.search(r"[0-9A-Z]{4}-[0-9A-Z]{4}", self.got[f"/services/c4n4ry-{role}"][-1])
        assert found is not None
        return found[0]


@pytest.fixture
def chats() -> Iterator[FakeChats]:
    with FakeChats() as made:
        yield made


@pytest.fixture
def everybody(chats: FakeChats) -> dict[str, Any]:
    return {role: chats.contact(role) for role in ROLES}


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    return {"state_directory": str(folder)}


def contact_module(act: str, contacts: dict[str, Any], store: dict[str, Any], **more: Any) -> Outcome:
    check = more.pop("check", False)
    name = "change_contacts" if act == "contacts" else f"emergency_contact_{act}"
    return run_module(name, store | more | {"contacts": contacts}, check=check)


def statuses(outcome: Outcome, name: str = "") -> dict[str, str]:
    return {each["subject"]: each["status"] for each in outcome.result["checks"] if name in ("", each["name"])}


def test_a_code_that_came_back_proves_the_channel(everybody, store, chats):
    two = {"roles": ["devops_sre", "security_team"]}
    planned = contact_module("test", everybody, store, **two, check=True)
    assert planned.result["changed"]
    assert "would get a test message" in planned.result["msg"]
    assert (chats.got, list(Path(store["state_directory"]).rglob("*.json"))) == ({}, [])
    sent = contact_module("test", everybody, store, **two)
    assert (sent.result["status"], sent.result["changed"]) == ("ok", True), sent.result
    again = contact_module("test", everybody, store, **two)
    assert (again.result["status"], again.result["changed"]) == ("ok", False)
    assert [len(each) for each in chats.got.values()] == [1, 1]
    codes = [chats.code(role) for role in two["roles"]]
    assert codes[0] != codes[1]
    said = json.dumps([sent.result, again.result]) + sent.stderr
    kept = "".join(path.read_text() for path in Path(store["state_directory"]).rglob("*.json"))
    assert not [each for each in (*codes, "c4n4ry") if each in said + kept]

    given = [code.lower().replace("-", " ") for code in codes]
    assert contact_module("confirm", everybody, store, codes=given, check=True).result["changed"]
    confirmed = contact_module("confirm", everybody, store, codes=given)
    assert (confirmed.result["changed"], statuses(confirmed)) == (True, dict.fromkeys(two["roles"], "ok"))
    twice = contact_module("confirm", everybody, store, codes=given)
    assert (twice.result["status"], twice.result["changed"]) == ("ok", False)
    everybody["security_team"]["slack_url"] += "-other"
    checked = contact_module("check", everybody, store, blocks=False)
    assert (checked.failed, checked.result["status"]) == (False, "breach")
    assert [role for role, status in statuses(checked, "proven").items() if status == "ok"] == ["devops_sre"]
    wrong = contact_module("confirm", everybody, store, codes=["0000-0000", codes[0]])
    assert (wrong.failed, [each["status"] for each in wrong.result["checks"]]) == (True, ["breach", "ok"])


def test_one_that_is_down_hides_no_other(everybody, store, chats):
    chats.faults = [
        Fault("database_admin", "lost"), Fault("security_team", "status", 404, {"Content-Type": "text/plain"}, b"no")
    ]  # fmt: skip
    everybody["engineering_lead"]["name"] = "[Contact]"
    sent = contact_module("test", everybody, store, timeout_s=5)
    assert (sent.failed, sent.result["changed"]) == (True, True)
    assert statuses(sent) == {
        "engineering_lead": "breach", "database_admin": "unknown", "security_team": "breach", "devops_sre": "ok"
    }  # fmt: skip
    assert "c4n4ry" not in json.dumps(sent.result)
    # What arrived although nobody said so is proven by its code, and not sent a second time.
    confirmed = contact_module("confirm", everybody, store, codes=[chats.code("database_admin")])
    assert statuses(confirmed) == {"database_admin": "ok"}, confirmed.result
    again = contact_module("test", everybody, store, roles=["database_admin", "security_team"])
    assert again.result["status"] == "ok"
    assert {path.rpartition("-")[2]: len(texts) for path, texts in chats.got.items()} == {
        "database_admin": 1, "security_team": 1, "devops_sre": 1
    }  # fmt: skip
    checked = contact_module("check", everybody, store)
    assert statuses(checked, "complete")["engineering_lead"] == "breach"
    assert statuses(checked, "proven") == {
        "database_admin": "ok", "security_team": "breach", "devops_sre": "breach"
    }  # fmt: skip


def test_proofs_lie_in_a_bucket_too_and_a_damaged_one_is_unknown(everybody, chats, s3: S3):
    bucket = s3.bucket(environment="production")
    store = {f"state_{name}": value for name, value in s3.options(bucket).items()}
    sent = contact_module("test", everybody, store, roles=["devops_sre"])
    assert sent.result["status"] == "ok", sent.result
    assert contact_module("confirm", everybody, store, codes=[chats.code("devops_sre")]).result["changed"]
    client = s3.client()
    client.put_object(Bucket=bucket, Key="contacts/security_team.json", Body=b"{")
    checked = contact_module("check", everybody, store)
    assert statuses(checked, "proven") == {
        "engineering_lead": "breach", "database_admin": "breach", "security_team": "unknown", "devops_sre": "ok"
    }  # fmt: skip
    gone = contact_module("check", everybody, store | {"state_bucket": "not-there"})
    assert set(statuses(gone, "complete").values()) == {"ok"}
    assert set(statuses(gone, "proven").values()) == {"unknown"}


@pytest.mark.parametrize(
    ("act", "options", "says"),
    [
        ("test", {"interval_h": -1}, "interval_h: -1 is out of bounds"),
        ("test", {"roles": []}, "roles: it is empty"),
        ("confirm", {"codes": []}, "codes: it is empty"),
        ("check", {"state_directory": None}, "state_bucket, state_directory: neither is set"),
    ],
)
def test_bad_input_is_one_clear_sentence(everybody, store, act, options, says):
    refused = run_module(f"emergency_contact_{act}", store | {"contacts": everybody} | options)
    assert refused.failed
    assert says in refused.result["msg"]


def test_a_misspelt_option_of_a_contact_does_not_show_its_value(everybody, store):
    everybody["devops_sre"]["slack_ulr"] = everybody["devops_sre"].pop("slack_url")
    refused = contact_module("check", everybody, store)
    assert refused.failed
    assert "slack_ulr" in refused.result["msg"]
    assert "c4n4ry" not in json.dumps(refused.result) + refused.stderr


def test_the_playbook_sends_confirms_checks_and_shows_no_secret(everybody, store, chats, tmp_path):
    common = {
        "runbook_environment": "staging",
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "emergency_contacts": everybody,
    }
    project = Project(tmp_path, {"db": {}}, common | store)
    everybody["devops_sre"]["name"] = "[Contact]"
    chats.faults = [Fault("engineering_lead", "status", 500, body={"error": "c4n4ry-engineering_lead"}, times=9)]
    sent = project.run("contacts.yml", "-vvv", "--diff", emergency_contact_test="all")
    assert sent.code != 0
    found = {each["subject"]: each["status"] for each in sent.last("emergency_contact_test")["checks"]}
    assert found == dict.fromkeys(ROLES, "ok") | {"engineering_lead": "unknown", "devops_sre": "breach"}
    assert "devops_sre: name: '[Contact]' is a placeholder" in " ".join(sent.output.split())
    codes = [chats.code(role) for role in ("database_admin", "security_team")]
    confirmed = project.run("contacts.yml", "-vvv", "--diff", emergency_contact_codes=codes)
    assert "Ada, security_team (Security Team) is proven by slack" in " ".join(confirmed.output.split())
    checked = {each["subject"]: each["status"] for each in confirmed.last("emergency_contact_check")["checks"]}
    assert checked == dict.fromkeys(ROLES, "ok") | {"engineering_lead": "breach", "devops_sre": "breach"}
    kept = [path for folder in ("runs", "state") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    shown = sent.output + "".join(path.read_text(errors="replace") for path in kept)
    assert not [each for each in (*codes, "c4n4ry") if each in shown]
    assert "c4n4ry" not in confirmed.output


def test_in_a_change_each_contact_is_told_once_and_is_an_item_of_its_own(everybody, store, chats, tmp_path):
    message = {"title": "Emergency: the disk is full", "text": "Maintenance mode is on."}
    assert contact_module("contacts", everybody, store, **message, check=True).result["changed"]
    assert chats.got == {}
    changes = open_change(tmp_path)
    everybody["engineering_lead"]["name"] = "[Contact]"
    chats.faults = [
        Fault("database_admin", "lost"), Fault("security_team", "status", 404, {"Content-Type": "text/plain"}, b"no")
    ]  # fmt: skip
    told = contact_module("contacts", everybody, store, **message)
    assert (told.failed, told.result["status"], told.result["changed"]) == (False, "unknown", True)
    assert statuses(told) == dict.fromkeys(ROLES, "unknown") | {"devops_sre": "ok"}, told.result
    assert "Ada, security_team (Security Team) by slack: Slack refused POST with 404" in told.result["msg"]
    answers = {role: item(changes, f"contact:{role}")[0] for role in ROLES}
    assert answers == {
        "engineering_lead": "breach", "database_admin": "unknown", "security_team": "breach", "devops_sre": "ok"
    }  # fmt: skip
    everybody["engineering_lead"]["name"] = "Ada"
    again = contact_module("contacts", everybody, store, **message)
    assert statuses(again) == dict.fromkeys(ROLES, "ok") | {"database_admin": "unknown"}
    assert "may have been sent by slack already" in again.result["msg"]
    assert chats.got == {
        f"/services/c4n4ry-{role}": ["*Emergency: the disk is full*\nMaintenance mode is on."] for role in ROLES
    }
    change = changes.current()
    assert change is not None
    assert "c4n4ry" not in json.dumps([told.result, again.result, change.body()]) + told.stderr + again.stderr
