"""A message in the form of each channel: as long as it takes, and calling nobody by accident."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.notice import (
    SLACK_CHARS,
    TEAMS_BYTES,
    Notice,
    check_mailboxes,
)

KEY = "runbook:run-1#told"


def test_slack_gets_no_marks_of_its_own():
    notice = Notice.of(KEY, "A <!channel> & B", "<https://x|y>\nline two")
    assert notice.slack() == {"text": "*A &lt;!channel&gt; &amp; B*\n&lt;https://x|y&gt;\nline two"}


def test_teams_gets_a_card_of_lines():
    card = Notice.of(KEY, "Title", "one\n\ntwo").teams()["attachments"][0]["content"]
    assert [block["text"] for block in card["body"]] == ["Title", "one", "two"]


@pytest.mark.parametrize("text", ["&" * 90_000, "x" * 90_000, "é\n" * 40_000, "😀" * 40_000])
def test_a_long_text_is_cut_to_what_fits_and_not_much_shorter(text: str):
    notice = Notice.of(KEY, "t" * 200, text)
    assert len(notice.title) == 150
    slack = notice.slack()["text"]
    assert SLACK_CHARS - 10 <= len(slack) <= SLACK_CHARS
    assert slack.endswith("…")
    teams = json.dumps(notice.teams())
    assert TEAMS_BYTES - 200 <= len(teams) <= TEAMS_BYTES


def test_a_short_text_is_whole():
    assert Notice.of(KEY, "t", "").slack() == {"text": "*t*"}
    for length in (0, 1, SLACK_CHARS - 4, SLACK_CHARS - 3):
        slack = Notice.of(KEY, "t", "x" * length).slack()["text"]
        assert slack.endswith("…") == (length > SLACK_CHARS - 4), length


def test_a_mail_has_one_id_and_no_header_of_somebody_elses():
    notice = Notice.of(KEY, "It begins\nBcc: all@example.com", "Body")
    mail = notice.email("runbook@example.com", ["a@example.com", "b@example.com"], "Sun, 29 Nov 2026 02:00:00 +0000")
    assert mail["Subject"] == "It begins Bcc: all@example.com"
    assert mail["Bcc"] is None
    assert mail["Message-ID"] == "<runbook.run-1.told@example.com>"
    assert mail.get_content() == "Body\n"


def test_what_says_nothing_is_refused():
    with pytest.raises(RunbookError, match="title: it is empty"):
        Notice.of(KEY, " \n ", "text")


@pytest.mark.parametrize("mailbox", ["team", "a@b@c", "Team <a@example.com>", "a@example.com\nBcc: x@example.com", ""])
def test_what_is_no_mailbox_is_refused(mailbox: str):
    with pytest.raises(RunbookError, match="email_to"):
        check_mailboxes("email_to", ["a@example.com", mailbox])
