"""What a certificate of a server of ours needs: nothing, to be loaded, or to be renewed, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.tls import endpoints
from ansible.module_utils.runbook.rules.tls.certificates import Certificate, Seen, Trouble
from ansible.module_utils.runbook.rules.tls.renewal import Act, Suggestion, check_account, decide

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OWN = Certificate(
    "", "middle", "0a", "aa", NOW - timedelta(days=10), NOW + timedelta(days=80), dns_names=("app.example.test",)
)
SEEN = (Seen("192.0.2.1", None, (OWN,), (OWN,)), Seen("2001:db8::1", None, (OWN,), (OWN,)))
ASKED = {"should_renew": True, "supports_ari": True, "msg": "The window has begun.", "cert_id": "x.y"}


def decided(stored=OWN, result=None, seen=SEEN, names=("app.example.test",), now=NOW):
    suggestion = Suggestion.of(ASKED | {"should_renew": False} if result is None else result)
    made = decide("app", names, stored, suggestion, seen, now, 0)
    return made.act, made.check.status, made.check.msg


@pytest.mark.parametrize(
    ("change", "act", "says"),
    [
        ({}, Act.NOTHING, "It lasts until 2026-08-20, and is served."),
        ({"stored": None}, Act.RENEW, "There is none on the server yet."),
        ({"names": ("app.example.test", "www.example.test")}, Act.RENEW, "It is not for www.example.test."),
        ({"now": OWN.not_after + timedelta(seconds=1)}, Act.RENEW, "It expired on 2026-08-20."),
        ({"now": OWN.not_after - timedelta(days=30)}, Act.NOTHING, "It lasts until 2026-08-20, and is served."),
        ({"now": OWN.not_after - timedelta(days=29)}, Act.RENEW, "It ends on 2026-08-20, and was due on 2026-07-21."),
        ({"result": ASKED}, Act.RENEW, "Its authority asks for it: The window has begun."),
        ({"result": {"failed": True, "msg": "refused"}}, Act.NOTHING, "It lasts until 2026-08-20, and is served."),
        ({"result": {}}, Act.NOTHING, "It lasts until 2026-08-20, and is served."),
        (
            {"seen": (SEEN[0], replace(SEEN[1], sent=(replace(OWN, fingerprint="bb"),)))},
            Act.LOAD,
            "2001:db8::1 shows another certificate than the one on the server.",
        ),
    ],
)
def test_what_a_certificate_needs(change, act, says):
    assert decided(**change) == (act, Status.OK, says)


def test_an_address_that_does_not_answer_is_unknown_and_nothing_is_done():
    silent = Seen("192.0.2.2", Trouble(Status.UNKNOWN, "Nothing listens on port 443; start the server."))
    act, status, says = decided(seen=(*SEEN, silent))
    assert (act, status) == (Act.NOTHING, Status.UNKNOWN)
    assert says == "Whether it is served is not known at 192.0.2.2: Nothing listens on port 443; start the server."


def test_an_order_names_what_it_replaces_only_where_the_authority_knows_that():
    assert Suggestion.of(ASKED).certificate_id == "x.y"
    assert Suggestion.of(ASKED | {"supports_ari": False}).certificate_id == ""
    assert Suggestion.of({"failed": True, "msg": "refused"}) == Suggestion(None, "refused")


def test_a_database_is_an_endpoint_where_its_clients_ask_for_tls():
    def of(ssl_mode: str, host: str = "db.example.test") -> list[tuple[object, ...]]:
        made = endpoints.read(endpoints.of_database("db", host, 5432, ssl_mode, None), "/root.crt")
        return [(each.name, each.protocol, each.check_name, each.ca_cert) for each in made]

    assert of("prefer") == of("disable") == of("verify-full", "/run/postgresql") == []
    assert of("require") == of("verify-ca") == [("db", "postgresql", False, "/root.crt")]
    assert of("verify-full") == [("db", "postgresql", True, "/root.crt")]


def test_an_endpoint_that_no_option_has_read_gets_its_defaults_and_no_odd_key():
    made = endpoints.read([endpoints.with_defaults({"host": "app.example.test"})], None)[0]
    assert (made.name, made.port, made.protocol, made.ca_cert) == ("app.example.test:443", 443, "tls", None)
    for odd, says in (({"host": "a", "prot": 1}, "prot is no key"), ({"port": 1}, "one has no host")):
        with pytest.raises(RunbookError, match=says):
            endpoints.with_defaults(odd)


KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE+/=\n-----END EC PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("key", "contact", "says"),
    [
        ("", [], "account_key: it is not set, and a certificate is due"),
        ("MHcCAQEE", [], "account_key: it is no private key in PEM format"),
        (KEY.replace("PRIVATE", "PUBLIC"), [], "account_key: it is no private key"),
        (KEY, ["ops@example.com"], "contact: 'ops@example.com' is nothing .* mailto:"),
    ],
)
def test_an_account_that_no_authority_takes_is_refused(key, contact, says):
    with pytest.raises(RunbookError, match=says) as refused:
        check_account(key, contact)
    assert "MHcC" not in refused.value.message
    check_account(KEY, ["mailto:ops@example.com"])
