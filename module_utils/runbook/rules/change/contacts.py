"""Who is told in an emergency: four roles, each a person or a team with a channel that was proven to arrive.

A service that says yes to a message says nothing of the people behind it: a channel is archived, a mailbox is read by
nobody. So a test message carries a code, and the proof is that a person gives the code back.

What is kept of a channel is a digest by PBKDF2, with a salt of each role: the address of a webhook is a secret, and may
be short enough to be guessed, and so each guess is as slow as one of a password. Of a code, which is worth nothing to
whoever may write to the store, a plain digest is kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.change.backend import check_options
from ansible.module_utils.runbook.rules.change.notice import BACKENDS, check_mailboxes
from ansible.module_utils.runbook.rules.state import check_name
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import some

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.state import Document

#: As the runbook's contact list calls them.
ROLES = {
    "engineering_lead": "Engineering Lead",
    "database_admin": "Database Admin",
    "security_team": "Security Team",
    "devops_sre": "DevOps/SRE",
}
#: How long a proof counts, in days.
PROVEN_DAYS = 90
#: From so many days before its end on a proof is said to end.
SOON_DAYS = 14

#: Of each backend, what says where a message goes. A password or a user may change without a new proof.
_ADDRESS = {
    "slack": ("slack_url",),
    "teams": ("teams_url",),
    "email": ("email_host", "email_from", "email_to"),
    "webhook": ("webhook_url",),
}
#: Options of a channel, in the order of their backends.
OPTIONS = tuple(option for needs in BACKENDS.values() for option in (*needs.required, *needs.optional))
#: Values that nobody may print.
_SECRET = re.compile(r"_(url|password|token)$")
#: What is written where a person or an address is still to be named, beside what the examples of inventories hold.
_PLACEHOLDER = re.compile(
    r"^(?:\[.*\]|x+|[-.?]+|n/a|nobody|somebody|someone|none|unknown|name|contact|test)$"
    r"|\[(?:contact|name|e-?mail|phone|url)[^\]]*\]|\b(?:todo|tbd|fixme|change[ _-]?me|placeholder)\b"
    r"|\b555[ .)-]+\d|\b(?:jane|john|jo|joe) (?:doe|bloggs)\b|\bfoo ?bar\b|\bmax mustermann\b"
    r"|\.(?:example|invalid)(?:[:/]|$)|/X{3,}\b|/T0{6,}\b",
    re.IGNORECASE,
)
#: Options that are no name and no address.
_SETTINGS = ("backend", "email_port", "email_security")
#: OWASP Password Storage Cheat Sheet, for PBKDF2-HMAC-SHA512. A third of a second.
_ITERATIONS = 210_000
#: Crockford's Base32: no I, L, O and U, which are misread.
_FROM_RFC4648 = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_MISREAD = str.maketrans("ILO", "110")


def is_placeholder(value: Any) -> bool:
    """Whether a value names nobody and nothing yet.

    >>> [is_placeholder(each) for each in ("[Contact]", "Jane Doe", "+1 555 0100", "a@example.org", "Ada Byron")]
    [True, True, True, True, False]
    """
    if isinstance(value, (list, tuple)):
        return any(map(is_placeholder, value))
    text = str(value or "").strip()
    return preflight.is_example(text) or bool(_PLACEHOLDER.search(text))


def problems(said: Any) -> dict[str, str]:
    """What has to be done before each contact can be reached, by role; empty for one that is complete.

    :param said: the inventory's ``emergency_contacts``; of a secret in it nothing is repeated
    """
    if not isinstance(said, Mapping):
        said_of_all = "emergency_contacts: it is no dictionary; give each of the four roles a name and a backend."
        return dict.fromkeys(ROLES, said_of_all)
    found = {role: _problem(role, said.get(role)) for role in ROLES}
    for role in said:
        if role not in ROLES:
            close = get_close_matches(str(role), list(ROLES), 1)
            fix = f"did you mean {close[0]}?" if close else f"the roles are {', '.join(ROLES)}."
            found[str(role)] = f"{role}: nobody is called by this role in an emergency; {fix}"
    return found


def _problem(role: str, contact: Any) -> str:
    if contact in (None, "", {}) or (isinstance(contact, Mapping) and not any(contact.values())):
        return f"{role}: nobody is named; set name and backend, with the backend's options."
    if not isinstance(contact, Mapping):
        what = "a placeholder" if is_placeholder(contact) else "something else"
        return f"{role}: {what} stands where name and backend belong; set both."
    given = {name: value for name, value in contact.items() if value not in (None, "", [])}
    strange = sorted(str(name) for name in given if name not in {"name", "backend", *OPTIONS})
    if strange:
        close = get_close_matches(strange[0], ["name", "backend", *OPTIONS], 1)
        fix = f"did you mean {close[0]}?" if close else "take it out."
        return f"{role}: {strange[0]} is no option of a contact; {fix}"
    for name in ("name", "backend"):
        if not str(given.get(name, "")).strip():
            return f"{role}: {name} is empty; " + (
                "name the person or the team." if name == "name" else f"take one of {', '.join(BACKENDS)}."
            )
    if given["backend"] not in BACKENDS:
        return f"{role}: backend: {given['backend']!r} reaches nobody; take one of {', '.join(BACKENDS)}."
    for name, value in given.items():
        if name not in _SETTINGS and is_placeholder(value):
            shown = "its value (not repeated here)" if _SECRET.search(name) else repr(value)
            what = "the person or the team" if name == "name" else "what is really used"
            return f"{role}: {name}: {shown} is a placeholder; put {what} there."
    try:
        check_channel(given)
    except RunbookError as error:
        return f"{role}: {error.message}"
    return ""


def check_channel(contact: Mapping[str, Any]) -> None:
    """Refuse a channel with an option too much or too little, or with what is no address.

    :raises RunbookError: names the option and the fix
    """
    check_options(dict.fromkeys(OPTIONS) | dict(contact), BACKENDS)
    check_mailboxes("email_from", [contact["email_from"]] if contact.get("email_from") else [])
    check_mailboxes("email_to", list(contact.get("email_to") or []))


def judge_filled(said: Any, environment: str) -> list[Check]:
    """Whether each contact is complete. Only production has to have any.

    :param said: the inventory's ``emergency_contacts``
    """
    if not any_given(said) and environment != "production":
        return [Check.ok("contacts", f"{environment.capitalize()} names no emergency contacts, and needs none.")]
    return [
        Check.breach("complete", problem, role)
        if problem
        else Check.ok("complete", f"{_who(role, said)} is named.", role)
        for role, problem in problems(said).items()
    ]


def any_given(said: Any) -> bool:
    """Whether an inventory says anything of contacts."""
    return any(said.values()) if isinstance(said, Mapping) else bool(said)


def _who(role: str, said: Mapping[str, Any]) -> str:
    return f"{said[role]['name']} ({ROLES[role]})"


# --- proofs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A test message that went out, or may have."""

    #: Digest of the channel that it went to.
    channel: str
    #: Digest of the code that it carries.
    code: str
    sent_at: datetime
    #: When a person gave the code back; None until then.
    confirmed_at: datetime | None = None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """As :meth:`Proofs.body` wrote it."""
        confirmed = found["confirmed_at"]
        return cls(
            str(found["channel"]), str(found["code"]), datetime.fromisoformat(found["sent_at"]).astimezone(UTC),
            datetime.fromisoformat(confirmed).astimezone(UTC) if confirmed else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Proofs:
    """What is known of one role's channel: one document of the state store."""

    #: Hexadecimal; drawn once for the role.
    salt: str
    #: The last test message whose code came back.
    proven: Sent | None = None
    #: A later one whose code did not come back yet.
    pending: Sent | None = None

    @staticmethod
    def document_name(role: str) -> str:
        """Under which name the document of a role lies.

        >>> Proofs.document_name("devops_sre")
        'contacts/devops_sre'
        """
        return check_name(f"contacts/{role}")

    @classmethod
    def of(cls, document: Document) -> Self:
        """The proofs that a document is.

        :raises RunbookError: it is none; whether the channel was proven is unknown
        """
        try:
            body = document.body
            proven, pending = (Sent.of(body[part]) if body[part] else None for part in ("proven", "pending"))
            return cls(bytes.fromhex(body["salt"]).hex(), proven, pending)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise RunbookError(
                f"State store: {document.name} is no proof of a contact; remove it, and prove the channel again.",
                code="state_damaged",
                status=Status.UNKNOWN,
            ) from None

    def body(self) -> dict[str, Any]:
        """What its document holds."""

        def written(sent: Sent | None) -> dict[str, Any] | None:
            if sent is None:
                return None
            moments = {"sent_at": sent.sent_at.isoformat()}
            if sent.confirmed_at is not None:
                moments["confirmed_at"] = sent.confirmed_at.isoformat()
            return asdict(sent) | moments

        return {"salt": self.salt, "proven": written(self.proven), "pending": written(self.pending)}

    def channel(self, contact: Mapping[str, Any]) -> str:
        """Digest of where a contact's messages go."""
        backend = contact["backend"]
        return _slow_digest(self.salt, json.dumps([backend, *(contact.get(name) for name in _ADDRESS[backend])]))

    def with_sent(self, contact: Mapping[str, Any], code_: str, now: datetime) -> Proofs:
        """The same with one more test message on its way."""
        return replace(self, pending=Sent(self.channel(contact), self._digest(code_), now))

    def confirmed(self, contact: Mapping[str, Any], code_: str, now: datetime) -> Proofs | None:
        """The same after a person gave a code back; None where no message to this channel carried it.

        A code that came back before changes nothing.
        """
        digest = self._digest(code_)
        sent = next((each for each in (self.pending, self.proven) if each and each.code == digest), None)
        if sent is None or sent.channel != self.channel(contact):
            return None
        return self if sent is self.proven else replace(self, proven=replace(sent, confirmed_at=now), pending=None)

    def was_sent_since(self, contact: Mapping[str, Any], since: datetime) -> bool:
        """Whether a test message went to this very channel since then."""
        return any(
            each is not None and each.sent_at > since and each.channel == self.channel(contact)
            for each in (self.pending, self.proven)
        )

    def _digest(self, code_: str) -> str:
        return hashlib.sha256(f"{self.salt} {plain(code_)}".encode()).hexdigest()


@lru_cache
def _slow_digest(salt: str, text: str) -> str:
    return hashlib.pbkdf2_hmac("sha512", text.encode(), bytes.fromhex(salt), _ITERATIONS).hex()


def code(drawn: bytes) -> str:
    """A code that a person can read out.

    :param drawn: five random bytes

    >>> code(b"hello")
    'D1JP-RV3F'
    """
    text = base64.b32encode(drawn).decode().translate(_FROM_RFC4648)
    return f"{text[:4]}-{text[4:]}"


def plain(code_: str) -> str:
    """A code as a person may have typed it.

    >>> plain(" d1jp rv3f"), plain("DIJP-RV3F")
    ('D1JPRV3F', 'D1JPRV3F')
    """
    return re.sub(r"[^0-9A-Z]", "", code_.upper()).translate(_MISREAD)


def judge_proof(role: str, contact: Mapping[str, Any], proofs: Proofs | None, now: datetime) -> Check:
    """Whether a person gave the code of a test message back that went to this very channel not too long ago.

    The age is that of the message, since nobody knows that a later one would have arrived.

    :param now: the store's clock
    """
    named = f"{contact['name']} ({ROLES[role]}) by {contact['backend']}"
    fix = f"send a test message: playbooks/contacts.yml -e emergency_contact_test={role}"
    proven = proofs.proven if proofs else None
    waiting = ""
    if proofs and proofs.pending and proofs.pending.channel == proofs.channel(contact):
        sent = f"{proofs.pending.sent_at:%Y-%m-%d}"
        waiting = (
            f" The code of the message of {sent} did not come back yet: ask for it, or look why it did not arrive."
        )
    if proofs is None or proven is None:
        return Check.breach("proven", f"{named}: never proven to arrive; {fix}.{waiting}", role)
    if proven.channel != proofs.channel(contact):
        return Check.breach("proven", f"{named}: the channel is another one than was proven; {fix}.{waiting}", role)
    until = proven.sent_at + timedelta(days=PROVEN_DAYS)
    when = f"proven by the message of {proven.sent_at:%Y-%m-%d}"
    if proven.sent_at > now:
        said = f"{named}: {when}, which is in the future; set the clock of this machine, and prove it again."
        return Check.unknown("proven", said, role)
    if now > until:
        return Check.breach("proven", f"{named}: {when}, more than {PROVEN_DAYS} days ago; {fix}.{waiting}", role)
    if now > until - timedelta(days=SOON_DAYS):
        return Check.ok("proven", f"{named}: {when}, which counts until {until:%Y-%m-%d}; {fix}.{waiting}", role)
    return Check.ok("proven", f"{named}: {when}.", role)


def message(role: str, contact: Mapping[str, Any], environment: str, code_: str) -> tuple[str, str]:
    """Title and text of a test message."""
    text = (
        f"To {contact['name']}. In an emergency you are told here.\n"
        f"Please give this code to whoever asked for the test: {code_}\n"
        "Nothing else is to be done. A message without an answer counts as not arrived."
    )
    return f"Test of the emergency contacts of {environment}: {ROLES[role]}", text


def summary(checks: list[Check]) -> str:
    """One sentence on all contacts."""
    bad = [each for each in checks if each.status != Status.OK]
    if not bad:
        soon = [each.subject for each in checks if "which counts until" in each.msg]
        return f"The emergency contacts can be reached.{f' To be proven again soon: {some(soon)}.' if soon else ''}"
    return " ".join(dict.fromkeys(each.msg for each in bad))
