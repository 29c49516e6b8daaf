"""Names, lifetimes and answers, at their limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.tls.certificates import Certificate, Seen, Trouble
from ansible.module_utils.runbook.rules.tls.judge import Demand, clock_hint, judge
from ansible.module_utils.runbook.rules.tls.lifetime import Lifetime, Renewal
from ansible.module_utils.runbook.rules.tls.names import ascii_name, covers

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OWN = Certificate(
    "app", "middle", "0a", "aa", NOW - timedelta(days=1), NOW + timedelta(days=89), dns_names=("app.example.test",)
)
MIDDLE = replace(OWN, subject="middle", issuer="root", dns_names=(), not_after=NOW + timedelta(days=900))
ROOT = replace(MIDDLE, subject="root", issuer="root", signature_hash="sha1", key_bits=1024, key_kind="RSA")
SEEN = Seen("192.0.2.1", None, (OWN, MIDDLE), (OWN, MIDDLE, ROOT), version="TLSv1.3", old_version="")
DEMAND = Demand("app", "app.example.test", 30, "/ca.pem")


def bad(*seen: Seen, demand: Demand = DEMAND, now: datetime = NOW) -> dict[str, tuple[str, str]]:
    return {each.name: (each.status, each.msg) for each in judge(demand, seen, now) if each.status != "ok"}


@pytest.mark.parametrize(
    ("dns", "addresses", "name", "is_for"),
    [
        (["app.example.test"], [], "app.example.test", True),
        (["APP.example.test."], [], "app.example.test", True),
        (["*.example.test"], [], "app.example.test", True),
        (["*.example.test"], [], "a.app.example.test", False),
        (["*.example.test"], [], "example.test", False),
        (["*.test"], [], "example.test", False),
        (["a*.example.test"], [], "app.example.test", False),
        (["*.example.test"], [], "xn--bcher-kva.example.test", True),
        (["192.0.2.1"], [], "192.0.2.1", False),
        ([], ["192.0.2.1"], "192.0.2.1", True),
        ([], ["2001:db8::1"], "2001:db8:0::1", True),
        (["*.0.2.1"], [], "192.0.2.1", False),
        ([], [], "app", False),
    ],
)
def test_for_whom_a_certificate_is(dns, addresses, name, is_for):
    made = replace(OWN, subject="app", dns_names=tuple(dns), addresses=tuple(addresses))
    assert covers(made, name) is is_for


@pytest.mark.parametrize("name", ["", " ", ".", "a..b", "a b", "https://a", "a:443", "*.a.b", "faß.de", "a" * 64])
def test_what_is_no_host_name_is_refused(name):
    with pytest.raises(RunbookError, match=r"^host: "):
        ascii_name("host", name)


@pytest.mark.parametrize(
    ("days", "floor", "left", "expected"),
    [
        # 47 days, as public authorities will issue: the floor would always be red.
        (47, 30, 15.7, Renewal.CURRENT),
        (47, 30, 15.6, Renewal.DUE),
        (47, 30, 7.8, Renewal.CRITICAL),
        (89, 45, 44, Renewal.CURRENT),
        # Renewed by hand: the floor may be more than a third.
        (90, 45, 44.9, Renewal.DUE),
        (90, 30, 30, Renewal.CURRENT),
        (90, 30, 29.9, Renewal.DUE),
        (90, 30, 15, Renewal.DUE),
        (90, 30, 14.9, Renewal.CRITICAL),
        # A private authority's: as one of 200 days.
        (3650, 30, 66.7, Renewal.CURRENT),
        (3650, 30, 66.6, Renewal.DUE),
        (3650, 30, 33.3, Renewal.CRITICAL),
        (3650, 90, 89, Renewal.DUE),
        (90, 30, 0, Renewal.CRITICAL),
        (90, 30, -0.001, Renewal.EXPIRED),
        (90, 30, 90.001, Renewal.NOT_YET_VALID),
        # 160 hours.
        (6.67, 30, 3, Renewal.CURRENT),
        (0, 30, 0, Renewal.CURRENT),
        (-1, 30, 0, Renewal.NOT_YET_VALID),
    ],
)
def test_when_a_certificate_is_due(days, floor, left, expected):
    end = NOW + timedelta(days=left)
    made = Lifetime(end - timedelta(days=days), end, floor)
    assert made.renewal(NOW) is expected
    assert made.due_at <= made.critical_at <= made.not_after
    assert 0 <= made.fraction_left(NOW) <= 1


def test_what_is_well_is_ok_and_its_root_is_not_judged():
    assert not bad(SEEN)


def test_a_wrong_clock_is_named_beside_what_it_makes_wrong():
    slow = bad(SEEN, now=NOW - timedelta(days=400))
    assert slow["lifetime"][1].startswith("It is not valid before 2026-05-31 00:00 UTC, by this machine's clock, 2025-")
    assert "by this machine's clock, 2027-" in bad(SEEN, now=NOW + timedelta(days=400))["lifetime"][1]


def test_an_address_that_did_not_answer_is_unknown_and_hides_no_other():
    silent = Seen("192.0.2.2", Trouble(Status.UNKNOWN, "Nothing listens."))
    assert bad(SEEN, silent) == {"reach": ("unknown", "At 192.0.2.2: Nothing listens.")}
    assert bad(Seen("", Trouble(Status.UNKNOWN, "It has no address."))) == {"reach": ("unknown", "It has no address.")}


def test_the_worst_of_several_addresses_counts_and_stands_first():
    old = replace(SEEN, address="192.0.2.2", old_version="TLSv1.1")
    unclear = replace(SEEN, address="192.0.2.3", old_version=None)
    status, msg = bad(SEEN, unclear, old)["version"]
    assert status == "breach"
    assert msg.index("At 192.0.2.2: It still answers TLSv1.1") < msg.index("At 192.0.2.3: Whether")


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        ((OWN,), 20, "sends no certificate of its issuer, middle"),
        ((OWN, MIDDLE), 20, "ends at middle, whose issuer, root, /ca.pem does not hold"),
        ((OWN, MIDDLE, ROOT), 19, "ends at root, which /ca.pem does not hold"),
        ((replace(OWN, issuer="app"),), 18, "signed by itself"),
        ((OWN, MIDDLE), 24, "invalid CA certificate"),
    ],
)
def test_what_is_wrong_with_a_chain(sent, code, words):
    seen = replace(SEEN, sent=sent, path=(), verify_code=code, verify_message="invalid CA certificate")
    assert words in bad(seen)["chain"][1]


@pytest.mark.parametrize(
    ("days", "words"),
    [((-9, -1), "middle expired on"), ((1, 900), "middle is not valid before"), ((-900, 20), "before the certificate")],
)
def test_the_authorities_of_a_chain_have_a_lifetime_too(days, words):
    begin, end = (NOW + timedelta(days=each) for each in days)
    seen = replace(SEEN, path=(OWN, replace(MIDDLE, not_before=begin, not_after=end), ROOT))
    assert words in bad(seen)["chain"][1]


@pytest.mark.parametrize(
    ("change", "question"),
    [
        ({"key_kind": "RSA", "key_bits": 2047}, "key"),
        ({"key_bits": 224}, "key"),
        ({"key_kind": "DSA", "key_bits": 4096}, "key"),
        ({"signature_hash": "sha1"}, "signature"),
        ({"signature_hash": "md5"}, "signature"),
        ({"server_auth": False}, "purpose"),
    ],
)
def test_what_is_weak_or_for_something_else(change, question):
    own = replace(OWN, **change)
    assert set(bad(replace(SEEN, sent=(own, MIDDLE), path=(own, MIDDLE, ROOT)))) == {question}


def test_an_authority_of_the_chain_that_is_weak():
    weak = replace(MIDDLE, signature_hash="sha1")
    assert "The signature of middle (sha1)" in bad(replace(SEEN, path=(OWN, weak, ROOT)))["signature"][1]


def test_what_is_strong():
    for change in ({"key_kind": "RSA", "key_bits": 2048}, {"key_kind": "Ed25519", "signature_hash": ""}):
        own = replace(OWN, **change)
        assert not bad(replace(SEEN, sent=(own, MIDDLE), path=(own, MIDDLE, ROOT)))


def test_a_purpose_is_told_of_once():
    own = replace(OWN, server_auth=False)
    assert set(bad(replace(SEEN, sent=(own,), path=(), verify_code=26, verify_message="unsuitable"))) == {"purpose"}


def test_the_file_on_disk():
    meant = replace(DEMAND, path="/app.pem", on_disk="aa")
    assert not bad(SEEN, demand=meant)
    assert bad(SEEN, demand=replace(meant, on_disk="bb"))["disk"][0] == "breach"
    unread = Trouble(Status.UNKNOWN, "It cannot be read.")
    assert bad(SEEN, demand=replace(meant, on_disk=unread))["disk"] == ("unknown", "It cannot be read.")


def test_a_stale_address_is_named_beside_the_newest():
    old = replace(OWN, fingerprint="bb", not_before=NOW - timedelta(days=20), not_after=NOW + timedelta(days=70))
    stale = replace(SEEN, address="192.0.2.2", sent=(old, MIDDLE), path=(old, MIDDLE, ROOT))
    same = bad(stale, SEEN)["same"][1]
    assert same.startswith("192.0.2.2 (until 2026-08-10) serves another certificate than the newest (until 2026-08-29)")
    assert not bad(SEEN, replace(SEEN, address="192.0.2.2"))


def test_the_clock_is_suspected_where_no_certificate_is_valid():
    other = replace(SEEN, sent=(replace(OWN, fingerprint="bb"),))
    late = OWN.not_after + timedelta(days=1)
    assert clock_hint([SEEN, other], late).startswith("None of 2 certificates is valid by this machine's clock, ")
    assert clock_hint([SEEN, other], OWN.not_after) == clock_hint([SEEN, SEEN], late) == clock_hint([], late) == ""
