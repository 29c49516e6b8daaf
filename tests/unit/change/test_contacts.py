"""Emergency contacts: complete, no placeholder, proven not too long ago."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import contacts as rules
from ansible.module_utils.runbook.rules.state import Document

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SLACK = "https://hooks.slack.com/services/T0AB12CD/B0EF34GH/c4n4ryc4n4ry1234"
CODE = "D1JP-RV3F"


def contact(**more: Any) -> dict[str, Any]:
    return {"name": "Ada Byron", "backend": "slack", "slack_url": SLACK} | more


def everybody(**more: Any) -> dict[str, Any]:
    return {role: contact() for role in rules.ROLES} | more


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(rules, "_ITERATIONS", 1)


def test_doctests():
    assert doctest.testmod(rules).failed == 0


def test_complete_contacts_have_no_problem():
    mail = {"name": "DBA on call", "backend": "email", "email_host": "mail.clinic.eu", "email_from": "ops@clinic.eu",
            "email_to": ["dba@clinic.eu"], "email_security": "none"}  # fmt: skip
    hook = {
        "name": "Pager",
        "backend": "webhook",
        "webhook_url": "https://pager.clinic.eu/c4n4ry",
        "webhook_token": "9f8e7d",
    }
    teams = {"name": "Security", "backend": "teams", "teams_url": "https://flows.clinic.eu/c4n4ry?sig=c4n4ry"}
    said = {"engineering_lead": contact(), "database_admin": mail, "security_team": teams, "devops_sre": hook}
    assert set(rules.problems(said).values()) == {""}
    assert {each.status for each in rules.judge_filled(said, "production")} == {"ok"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "devops_sre: nobody is named; set name and backend"),
        ({"name": None, "backend": None}, "nobody is named"),
        ("[Contact]", "a placeholder stands where name and backend belong"),
        (["a"], "something else stands where"),
        (contact(name=" "), "devops_sre: name is empty"),
        (contact(backend=None), "backend is empty; take one of slack, teams, email, webhook."),
        (contact(backend="none"), "backend: 'none' reaches nobody"),
        (contact(slack_url=None), "slack_url: it is not set, and backend slack needs it"),
        (contact(webhook_url="https://x.clinic.eu/c4n4ry"), "webhook_url: it is set, and backend slack has no use"),
        (contact(slack_ulr=SLACK), "slack_ulr is no option of a contact; did you mean slack_url?"),
        (contact(slack_url="hooks.slack.com/c4n4ry"), "slack_url: its value (not repeated here) is no address"),
        (contact(slack_url="https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXX"),
         "slack_url: its value (not repeated here) is a placeholder"),
        (contact(slack_url="https://hooks.example.com/c4n4ry"), "is a placeholder; put what is really used there."),
        ({"name": "DBA", "backend": "email", "email_host": "mail.clinic.eu", "email_from": "ops@clinic.eu",
          "email_to": ["dba"]}, "email_to: 'dba' is no address of a mailbox"),
        ({"name": "DBA", "backend": "email", "email_host": "mail.clinic.eu", "email_from": "ops@clinic.eu",
          "email_to": ["dba@example.net"]}, "email_to: ['dba@example.net'] is a placeholder"),
        *((contact(name=name), f"name: {name!r} is a placeholder; put the person or the team there.") for name in (
            "[Contact]", "<name>", "TODO", "tbd: ask Ada", "changeme", "Change me", "Jane Doe", "John Doe, on call",
            "Ada, +1 555 0100", "(555) 010-0199", "your-name", "xxx", "n/a", "?")),
    ],
)  # fmt: skip
def test_what_is_incomplete_or_a_placeholder_is_named(given, says):
    problem = rules.problems(everybody(devops_sre=given))
    assert problem.pop("devops_sre").startswith("devops_sre: ")
    assert says in rules.problems(everybody(devops_sre=given))["devops_sre"]
    assert set(problem.values()) == {""}
    assert "c4n4ry" not in str(rules.problems(everybody(devops_sre=given)))


def test_a_name_that_only_looks_like_a_placeholder_stays():
    for name in ("Joe Test-Smith", "Dbrandon", "Noname Nguyen", "Unknown Pleasures Ltd.", "+49 30 5550100"):
        assert rules.problems(everybody(devops_sre=contact(name=name)))["devops_sre"] == "", name


def test_a_role_that_there_is_not_is_named():
    assert rules.problems(everybody(database_admn=contact()))["database_admn"].endswith("did you mean database_admin?")
    assert set(rules.problems("nobody")) == set(rules.ROLES)


def test_only_production_has_to_name_contacts():
    for nothing in ({}, None, dict.fromkeys(rules.ROLES)):
        assert [each.status for each in rules.judge_filled(nothing, "sandbox")] == ["ok"]
        assert [each.status for each in rules.judge_filled(nothing, "production")] == ["breach"] * 4
    one = {"devops_sre": contact()}
    assert sorted(each.status for each in rules.judge_filled(one, "sandbox")) == ["breach"] * 3 + ["ok"]


# --- proofs -----------------------------------------------------------------------------------------------------------


def proven(sent_at: datetime, of: dict[str, Any] | None = None) -> rules.Proofs:
    found = rules.Proofs("ab" * 16).with_sent(of or contact(), CODE, sent_at).confirmed(of or contact(), CODE, NOW)
    assert found is not None
    return found


def judged(proofs: rules.Proofs | None, now: datetime = NOW) -> tuple[str, str]:
    check = rules.judge_proof("devops_sre", contact(), proofs, now)
    return str(check.status), check.msg


@pytest.mark.parametrize(
    ("age", "status", "says"),
    [
        (timedelta(days=1), "ok", "Ada Byron (DevOps/SRE) by slack: proven by the message of 2026-11-28."),
        (timedelta(days=76), "ok", "proven by the message of 2026-09-14."),
        (timedelta(days=76, seconds=1), "ok", "which counts until 2026-12-13; send a test message"),
        (timedelta(days=89), "ok", "which counts until"),
        (timedelta(days=90), "ok", "which counts until"),
        (timedelta(days=90, seconds=1), "breach", "more than 90 days ago; send a test message: playbooks/contacts.yml"),
        (timedelta(days=91), "breach", "more than 90 days ago"),
        (timedelta(seconds=-1), "unknown", "in the future; set the clock"),
    ],
)
def test_a_proof_counts_for_90_days_from_its_message_on(age, status, says):
    found, said = judged(proven(NOW - age))
    assert found == status
    assert says in said


def test_a_message_alone_proves_nothing():
    assert "never proven" in judged(None)[1]
    status, said = judged(rules.Proofs("ab" * 16).with_sent(contact(), CODE, NOW))
    assert status == "breach"
    assert "The code of the message of 2026-11-29 did not come back yet" in said
    # What was proven before stays proven while a new message is on its way.
    again = proven(NOW - timedelta(days=80)).with_sent(contact(), "0000-0000", NOW)
    assert judged(again)[0] == "ok"


def test_a_changed_channel_is_unproven_again_and_its_code_proves_nothing():
    other = contact(slack_url=SLACK + "x")
    sent = rules.Proofs("ab" * 16).with_sent(contact(), CODE, NOW)
    assert sent.confirmed(other, CODE, NOW) is None
    status, said = judged(proven(NOW, other))
    assert (status, "another one than was proven" in said) == ("breach", True)
    mail = {"name": "DBA", "backend": "email", "email_host": "a", "email_from": "b", "email_to": ["c"]}
    channel = rules.Proofs("ab" * 16).channel
    assert channel(mail) == channel(mail | {"email_password": "new", "email_port": 25})
    assert channel(mail) != channel(mail | {"email_to": ["c", "d"]})


def test_only_the_code_of_the_message_confirms_and_twice_is_once():
    sent = rules.Proofs("ab" * 16).with_sent(contact(), CODE, NOW)
    assert sent.confirmed(contact(), "D1JP-RV3G", NOW) is None
    done = sent.confirmed(contact(), "dijp rv3f", NOW)
    assert done is not None
    assert (done.pending, done.proven and done.proven.confirmed_at) == (None, NOW)
    assert done.confirmed(contact(), CODE, NOW + timedelta(days=1)) == done


def test_a_channel_is_asked_once_in_a_while():
    sent = rules.Proofs("ab" * 16).with_sent(contact(), CODE, NOW)
    assert sent.was_sent_since(contact(), NOW - timedelta(hours=24))
    assert not sent.was_sent_since(contact(), NOW)
    assert not sent.was_sent_since(contact(slack_url=SLACK + "x"), NOW - timedelta(hours=24))


def test_the_document_holds_no_secret_and_is_read_as_it_was_written():
    proofs = proven(NOW).with_sent(contact(), "0000-0000", NOW)
    body = proofs.body()
    assert not any(part in str(body) for part in ("c4n4ry", "slack", "D1JP", "0000-0000"))
    document = Document("contacts/devops_sre", body, "r", "c", "t", "t")
    assert rules.Proofs.of(document) == proofs
    for damaged in ({}, body | {"proven": {"channel": "x"}}, body | {"salt": "no hex"}):
        with pytest.raises(RunbookError, match="is no proof of a contact") as caught:
            rules.Proofs.of(Document("contacts/devops_sre", damaged, "r", "c", "t", "t"))
        assert caught.value.status == "unknown"


def test_two_roles_of_one_channel_have_digests_of_their_own():
    assert rules.Proofs("ab" * 16).channel(contact()) != rules.Proofs("cd" * 16).channel(contact())
