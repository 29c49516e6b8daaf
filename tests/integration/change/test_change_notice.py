"""One message for an item, whatever the network does: to Slack, Teams, a webhook, and a real mail server."""

from __future__ import annotations

import contextlib
import json
import ssl
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from ansible.module_utils.runbook.rules.status import Status
from certificates import certificate, save
from changes import item, open_change, options
from conftest import Outcome, free_port, run_module
from fakes.chat import PATHS, FakeChat
from fakes.http import Fault
from fakes.webhook import TOKEN, FakeReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aiosmtpd.smtp import SMTP, Envelope, Session
    from ansible.module_utils.runbook.drivers.change.changes import Changes

PASSWORD = "c4n4ry-p4ssw0rd"


@pytest.fixture
def chat() -> Iterator[FakeChat]:
    with FakeChat() as made:
        yield made


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    return open_change(tmp_path)


def notice(folder: Path, backend: str, *, check: bool = False, **more: Any) -> Outcome:
    common = options(folder, backend=backend, title="Maintenance begins", text="From 02:00 to 04:00 UTC", timeout_s=5)
    return run_module("change_notice", common | more, check=check, diff=check)


def hook(chat: FakeChat, backend: str) -> dict[str, Any]:
    return {f"{backend}_url": chat.url + PATHS[backend]}


@pytest.mark.parametrize("backend", ["slack", "teams"])
def test_a_message_is_sent_once(tmp_path, changes, chat, backend):
    planned = notice(tmp_path, backend, check=True, **hook(chat, backend))
    assert planned.result["changed"]
    assert planned.result["diff"]["prepared"] == "+ Maintenance begins\n+ From 02:00 to 04:00 UTC\n"
    assert chat.got == []
    sent = notice(tmp_path, backend, **hook(chat, backend))
    assert (sent.result["status"], sent.result["changed"]) == ("ok", True), sent.result
    assert "Maintenance begins" in json.dumps(chat.got)
    assert item(changes) == ("ok", sent.result["msg"], f"{backend}: accepted")
    again = notice(tmp_path, backend, **hook(chat, backend))
    assert (again.result["status"], again.result["changed"]) == ("ok", False)
    assert len(chat.got) == 1


@pytest.mark.parametrize("kind", ["lost", "reset", "status"])
def test_a_message_that_may_have_arrived_is_not_sent_again(tmp_path, changes, chat, kind):
    chat.faults = [Fault("POST", kind, 500)]
    for _ in range(2):
        sent = notice(tmp_path, "slack", blocks=False, **hook(chat, "slack"))
        assert (sent.failed, sent.result["status"], item(changes)[0]) == (False, "unknown", "unknown"), sent.result
    assert "is not sent again" in sent.result["msg"]
    assert len(chat.requests) == 1


def test_a_run_that_was_killed_while_it_sent_does_not_send_again(tmp_path, changes, chat):
    changes.answer("the_item", Status.UNKNOWN, "Is being sent")
    sent = notice(tmp_path, "slack", **hook(chat, "slack"))
    assert (sent.failed, sent.result["status"]) == (True, "unknown")
    assert chat.requests == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("POST", "status", 403, {"Content-Type": "text/plain"}, b"action_prohibited"), "403: action_prohibited"),
        (
            Fault("POST", "status", 404, {"Content-Type": "text/plain"}, b"no_service for c4n4ryc4n4ry1234"),
            "no_service",
        ),
        (Fault("POST", "status", 429, {"Retry-After": "3600"}), "too many requests"),
        (Fault("POST", "status", 200, {}, {"ok": False, "error": "channel_is_archived"}), "channel_is_archived"),
    ],
)
def test_a_message_that_was_refused_is_sent_the_next_time(tmp_path, changes, chat, fault, says):
    chat.faults = [fault]
    refused = notice(tmp_path, "slack", **hook(chat, "slack"))
    assert (refused.failed, item(changes)[0]) == (True, "breach"), refused.result
    assert says in refused.result["msg"]
    assert "c4n4ry" not in (refused.result["msg"] + refused.stderr + json.dumps(changes.current().body())).lower()
    assert notice(tmp_path, "slack", **hook(chat, "slack")).result["status"] == "ok"


@pytest.mark.usefixtures("changes")
def test_a_receiver_of_our_own_knows_a_second_sending(tmp_path):
    with FakeReceiver() as receiver:
        receiver.faults = [Fault("POST", "lost")]
        sent = notice(tmp_path, "webhook", webhook_url=receiver.hook, webhook_token=TOKEN)
        assert sent.result["status"] == "ok", sent.result
        (said,) = receiver.events.values()
        assert said == {"event": "notice", "title": "Maintenance begins", "text": "From 02:00 to 04:00 UTC"}
        assert len(receiver.came) == 2


def test_a_receiver_of_our_own_may_ask_for_a_password(tmp_path, changes):
    with FakeReceiver() as receiver:
        # The password is c4n4ry/0.
        receiver.asks = "Basic cnVuYm9vazpjNG40cnkvMA=="
        hook = receiver.hook.replace("://", "://runbook:c4n4ry%2F0@")
        both = notice(tmp_path, "webhook", webhook_url=hook, webhook_token=TOKEN)
        assert "webhook_url: it has a user, and webhook_token is given too" in both.result["msg"]
        denied = notice(tmp_path, "webhook", webhook_url=hook.replace("F0", "F1"))
        assert "check webhook_url and webhook_token." in denied.result["msg"]
        assert (both.failed, denied.failed, receiver.events) == (True, True, {})
        sent = notice(tmp_path, "webhook", webhook_url=hook)
        assert sent.result["status"] == "ok", sent.result
        assert len(receiver.events) == 1
    told = json.dumps([each.result | {"stderr": each.stderr} for each in (both, denied, sent)])
    assert "c4n4ry" not in told + json.dumps(changes.current().body())


# --- mail -------------------------------------------------------------------------------------------------------------


class Mailbox:
    """What the server does with mail."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []
        self.breaks = self.refuses = False
        self.unknown = ""

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del server, session, options
        if address == self.unknown:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        del session
        if self.refuses:
            return f"554 {PASSWORD} is spam"
        self.got.append(envelope)
        if self.breaks:
            assert server.transport is not None
            server.transport.close()
        return "250 OK"


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@contextlib.contextmanager
def mail_server(folder: Path, mailbox: Mailbox, **settings: Any) -> Iterator[dict[str, Any]]:
    """A mail server with STARTTLS and a login; as options of the module."""
    authority = certificate(None)
    save(folder, "authority", authority)
    path = save(folder, "mail", certificate(authority))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path, path.replace(".crt", ".key"))

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        del server, session, envelope, mechanism
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    port = free_port()
    tls_settings = (
        {"ssl_context": tls} if settings.pop("tls", False) else {"tls_context": tls, "require_starttls": True}
    )
    if settings.pop("plain", False):
        tls_settings = {}
    server = Controller(
        mailbox, "127.0.0.1", port, authenticator=login, auth_required=True,
        auth_require_tls="tls_context" in tls_settings, ready_timeout=60, **tls_settings,
    )  # fmt: skip
    server.start()
    try:
        yield {
            "email_host": "127.0.0.1", "email_port": port, "email_user": "runbook", "email_password": PASSWORD,
            "email_from": "runbook@example.com", "email_to": ["a@example.com", "b@example.com"],
            "ca_cert": str(folder / "authority.crt"),
        }  # fmt: skip
    finally:
        server.stop()


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_a_mail_is_delivered_once(tmp_path, changes, mailbox, security):
    with mail_server(tmp_path, mailbox, tls=security == "tls", plain=security == "none") as server:
        sent = notice(tmp_path, "email", email_security=security, **server)
        assert (sent.result["status"], sent.result["changed"]) == ("ok", True), sent.result
        notice(tmp_path, "email", email_security=security, **server)
    (got,) = mailbox.got
    assert got.rcpt_tos == ["a@example.com", "b@example.com"]
    content = got.content
    assert isinstance(content, bytes)
    mail = message_from_bytes(content)
    assert (mail["Subject"], mail["To"]) == ("Maintenance begins", "a@example.com, b@example.com")
    assert "From 02:00 to 04:00 UTC" in str(mail.get_payload())
    assert PASSWORD not in json.dumps(changes.current().body())


def test_a_mail_whose_answer_was_lost_is_not_sent_again(tmp_path, changes, mailbox):
    mailbox.breaks = True
    with mail_server(tmp_path, mailbox) as server:
        for _ in range(2):
            sent = notice(tmp_path, "email", **server)
            assert (sent.failed, sent.result["status"], item(changes)[0]) == (True, "unknown", "unknown"), sent.result
    assert len(mailbox.got) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"email_password": "c4n4ry-wr0ng"}, "refused the login with 535"),
        ({"ca_cert": None}, "has a certificate that is not trusted"),
        ({"email_to": ["a@example.com", "nobody@example.com"]}, "550: RCPT TO nobody@example.com: no such mailbox"),
        ({"title": "refused"}, "554: *** is spam"),
        ({"email_security": "tls"}, "Nothing was sent"),
    ],
)
def test_a_mail_that_was_refused_went_to_nobody(tmp_path, changes, mailbox, given, says):
    mailbox.unknown, mailbox.refuses = "nobody@example.com", "title" in given
    with mail_server(tmp_path, mailbox) as server:
        refused = notice(tmp_path, "email", **server | given)
    assert (refused.failed, refused.result["status"], item(changes)[0]) == (True, "breach", "breach"), refused.result
    assert says in refused.result["msg"]
    assert mailbox.got == []
    assert "c4n4ry" not in refused.result["msg"] + refused.stderr


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize(
    ("backend", "given", "says"),
    [
        ("slack", {}, "slack_url"),
        ("slack", {"slack_url": "hooks.slack.com/c4n4ry1"}, "slack_url: its value (not repeated here) is no address"),
        ("slack", {"slack_url": "http://hooks.example.com/c4n4ry1"}, "unencrypted; use https"),
        ("none", {"slack_url": "https://hooks.example.com/c4n4ry1"}, "slack_url"),
        ("none", {"title": " "}, "title: it is empty"),
        ("email", {"email_host": "mail.example.com", "email_from": "runbook", "email_to": ["a@example.com"]},
         "email_from: 'runbook' is no address of a mailbox"),
        ("email", {"email_host": "mail.example.com", "email_from": "a@example.com", "email_to": ["a@example.com"],
                   "email_password": PASSWORD, "email_security": "none"}, "email_security: none would send"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_sentence(tmp_path, backend, given, says):
    refused = notice(tmp_path, backend, **given)
    assert refused.failed
    assert says in refused.result["msg"]
    assert "c4n4ry" not in refused.result["msg"]
