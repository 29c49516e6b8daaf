"""What is no address is refused, and a secret one is not repeated."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import check_address, check_api_url, is_loopback, require_encrypted


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "ftp://example.com", "https://", "https://example.com:no", "https://a b", "https://ä.example",
     "https://example.com/\n", "https://[1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(RunbookError, match=r"probe_url: .* is no address"):
        check_address("probe_url", url)


def test_a_secret_one_is_not_repeated():
    with pytest.raises(RunbookError) as error:
        check_address("webhook_url", "hooks.example.com/c4n4ry", secret=True)
    assert "c4n4ry" not in error.value.message


@pytest.mark.parametrize(
    "url",
    ["https://a.example.com/?token=c4n4ry", "https://u:c4n4ry@a.example.com/", "https://a.example.com/#c4n4ry",
     "a.example.com?token=c4n4ry", "https://c4n4ry@"],
)  # fmt: skip
def test_an_address_that_is_printed_and_kept_holds_nothing_that_may_be_a_secret(url: str):
    with pytest.raises(RunbookError, match=r"probe_url: its value \(not repeated here\)") as error:
        check_address("probe_url", url)
    assert "c4n4ry" not in error.value.message


def test_a_secret_address_may_have_a_query():
    assert check_address("webhook_url", "https://h.example.com/?key=c4n4ry", secret=True)


@pytest.mark.parametrize(
    "url", ["", "api.supabase.com", "http://api.supabase.com", "ftp://x", "https://u:p@x", "http://127.0.0.1.evil"]
)
def test_a_token_does_not_travel_unencrypted(url):
    with pytest.raises(RunbookError, match="api_url"):
        check_api_url(url, "https://api.vercel.com")


def test_addresses_that_are_good():
    assert check_api_url("https://api.supabase.com/", "") == "https://api.supabase.com"
    assert check_api_url("http://127.0.0.1:80", "") == "http://127.0.0.1:80"


def test_a_secret_is_sent_encrypted_or_within_this_machine():
    for url, secrets in (("http://127.0.0.1:9", ["a_token"]), ("https://a.clinic.eu", ["a_token"]), ("http://a", [])):
        require_encrypted("a_url", url, secrets)
    with pytest.raises(RunbookError, match="a_url: it would send a_password, a_token unencrypted; use https"):
        require_encrypted("a_url", "http://a.clinic.eu", ["a_password", "a_token"])
    with pytest.raises(RunbookError, match="webhook_url: it is a secret, and would travel unencrypted") as error:
        require_encrypted("webhook_url", "http://a.clinic.eu/c4n4ry", ["webhook_url"])
    assert "c4n4ry" not in error.value.message


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.0.1.1", True), ("::1", True), ("localhost", True), ("127.example.com", False),
     ("192.0.2.1", False), (None, False)],
)  # fmt: skip
def test_what_is_this_machine_itself(host, expected):
    assert is_loopback(host) is expected
