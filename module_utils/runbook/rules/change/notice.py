"""A message to the team, in the form of each channel and no longer than it takes."""

from __future__ import annotations

import bisect
import json
import re
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.backend import Needs
from ansible.module_utils.runbook.rules.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BACKENDS = {
    "slack": Needs(("slack_url",)),
    "teams": Needs(("teams_url",)),
    "email": Needs(
        ("email_host", "email_from", "email_to"), ("email_port", "email_security", "email_user", "email_password")
    ),
    "webhook": Needs(("webhook_url",), ("webhook_token",)),
}
#: Slack shows 4,000 characters of a text, and cuts it at ten times as many.
SLACK_CHARS = 4_000
#: A card of Teams has about 28 KB, all of its JSON.
TEAMS_BYTES = 26_000
#: Nothing takes a longer title well.
TITLE_CHARS = 150
_CUT = "…"
_MAILBOX = re.compile(r"[^\s<>@,;:\"()\[\]\\]+@[A-Za-z0-9.-]+")


@dataclass(frozen=True)
class Notice:
    """One message."""

    #: Of the change and of the item that it is for.
    key: str
    title: str
    #: Plain lines.
    text: str

    @classmethod
    def of(cls, key: str, title: str, text: str) -> Notice:
        """What can be seen of it, with a title of one line.

        :raises RunbookError: it says nothing
        """
        line = visible(" ".join(title.split()))
        if not line:
            raise RunbookError("title: it is empty; say in one line what happens.")
        return cls(key, _cut(line, TITLE_CHARS), visible(text.strip(), keep="\n"))

    def slack(self) -> dict[str, Any]:
        """As Slack takes it; no part of it calls somebody or is a link by accident."""

        def message(text: str) -> dict[str, Any]:
            said = f"*{self.title}*\n{text}".strip()
            for char, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
                said = said.replace(char, escape)
            return {"text": said}

        return _fitted(self.text, message, lambda made: len(made["text"]) <= SLACK_CHARS)

    def teams(self) -> dict[str, Any]:
        """As a Workflows webhook of Teams takes it: an adaptive card."""

        def message(text: str) -> dict[str, Any]:
            blocks = [{"type": "TextBlock", "text": self.title, "weight": "Bolder", "size": "Medium", "wrap": True}]
            blocks += [{"type": "TextBlock", "text": line, "wrap": True} for line in text.splitlines() if line.strip()]
            card = {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": blocks,
            }
            kind = "application/vnd.microsoft.card.adaptive"
            return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}

        return _fitted(self.text, message, lambda made: len(json.dumps(made)) <= TEAMS_BYTES)

    def email(self, sender: str, receivers: list[str], date: str) -> EmailMessage:
        """As a mail server takes it. A second one of the same key has the same id, by which programs know it.

        :param date: as a header has it
        """
        made = EmailMessage()
        made["Subject"] = self.title
        made["From"] = sender
        made["To"] = ", ".join(receivers)
        made["Date"] = date
        made["Message-ID"] = f"<{re.sub('[^A-Za-z0-9-]', '.', self.key)}@{sender.partition('@')[2]}>"
        made["Auto-Submitted"] = "auto-generated"
        made.set_content(f"{self.text}\n" if self.text else f"{self.title}\n")
        return made

    def event(self) -> dict[str, Any]:
        """As a webhook takes it."""
        return {"event": "notice", "title": self.title, "text": self.text}


#: How a message looks to a backend that takes JSON.
FORMS = {"slack": Notice.slack, "teams": Notice.teams}


def check_mailboxes(option: str, mailboxes: list[str]) -> None:
    """Refuse what is no plain address of a mailbox.

    :raises RunbookError: names the first
    """
    for each in mailboxes:
        if not _MAILBOX.fullmatch(each):
            raise RunbookError(f"{option}: {each!r} is no address of a mailbox; give one like team@example.com.")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - len(_CUT)] + _CUT


def _fitted(
    text: str, message: Callable[[str], dict[str, Any]], fits: Callable[[Mapping[str, Any]], bool]
) -> dict[str, Any]:
    """The message with as much of the text as fits."""
    if fits(message(text)):
        return message(text)
    too_long = bisect.bisect_left(range(1, len(text)), True, key=lambda length: not fits(message(_cut(text, length))))
    return message(_cut(text, max(too_long, 1)))
