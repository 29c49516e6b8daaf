"""What may go to a terminal, and which options are refused."""

from __future__ import annotations

import doctest
import unicodedata

import pytest
from ansible.module_utils.runbook.rules import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("audit_log of größe 東京 → 5", "audit_log of größe 東京 → 5"),
        ("\x1b[31m\x1b]0;t\x07", r"\x1b[31m\x1b]0;t\x07"),
        ("a\rb\nc\td\0", r"a\rb\nc\td\x00"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202e\u2066\u200f\u061c", r"\u202e\u2066\u200f\u061c"),
        ("\u200b\u2060\ufeff\xad\u2028\u2029", r"\u200b\u2060\ufeff\xad\u2028\u2029"),
        ("\U000e0041\ufe0f\u3164\u034f", r"\U000e0041\ufe0f\u3164\u034f"),
        ("\udc1b", r"\udc1b"),
    ],
)
def test_what_cannot_be_seen_is_written_out(raw, shown):
    assert text.visible(raw) == shown


def test_no_character_commands_or_hides():
    everything = "".join(map(chr, range(0x110000)))
    left = set(text.visible(everything))
    assert not [char for char in left if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert "a" in left
    assert "é" in left


def test_a_result_is_clean_at_any_depth_and_only_a_diff_has_lines():
    raw = {"msg": "a\nb", "tables": [{"x\x1b": ("\u202e", 1, None, True)}], "diff": {"prepared": "a\x1b\nb\n"}}
    assert text.outgoing(raw) == {
        "msg": r"a\nb",
        "tables": [{r"x\x1b": [r"\u202e", 1, None, True]}],
        "diff": {"prepared": "a\\x1b\nb\n"},
    }


@pytest.mark.parametrize(
    "options",
    [
        {"login_host": "postgresql://app:hunter2@db/x"},
        {"login_host": "app:hunter2@db"},
        {"endpoint_url": "https://app:hunter2@s3"},
        {"endpoint_url": "https://hunter2@s3"},
        {"login_db": "host=db password=hunter2"},
        {"nested": [{"deeper": {"url": "HTTPS://a:hunter2@b"}}]},
        {"alertmanager_urls": ["https://a", "https://hunter2@b"]},
        {"settings": {"prometheus": {"prometheus_url": "https://hunter2@b"}}},
        {"table": "hunter2\0"},
        {"table": "hunter2\udcff"},
    ],
)
def test_what_no_option_may_hold_is_refused_without_repeating_it(options):
    refused = text.refusal(options, secret=())
    assert refused is not None
    value, sentence = refused
    assert "hunter2" in value
    assert "hunter2" not in sentence
    assert sentence.startswith(next(iter(options)))


def test_what_is_refused_is_named_where_it_is():
    settings = {"web": {"pages": ["a", "b"]}, "prometheus": {"prometheus_url": "https://a:hunter2@b"}}
    refused = text.refusal({"settings": settings}, secret=())
    assert refused is not None
    assert refused[1].startswith("settings: prometheus: prometheus_url: it holds a password (not repeated here)")


def test_ordinary_options_and_secrets_pass():
    fine = {
        "login_host": "/var/run/postgresql", "endpoint_url": "https://s3.example.com:9000", "prefix": "a:b@c", "n": 5,
        "pages": [{"url": "https://a/@b"}], "repository": {"url": "ssh://git@b/c"},
        "login_user": "app@server", "dsn": "postgresql://app:hunter2@db/x", "roles": [{"password": "a://b:c@d"}],
        "none": None, "smoke_queries": [{"query": "SELECT count(*) = 0 FROM app.users WHERE password = ''"}],
    }  # fmt: skip
    assert text.refusal(fine, secret={"dsn", "password"}) is None


def test_doctests():
    assert doctest.testmod(text).failed == 0
