"""The chain of an inventory host's log archives: what each link says, and how one that is missing or changed is found.

Each archive has a manifest, the link, which is written after its content was read back. A link holds the seal of the
link before it, and its own seal is an HMAC over all that it says. So whoever has no key can neither edit a link nor put
another in its place, and a link that was moved or taken out leaves a gap. The newest link's number and seal lie in the
state store, by which an end that was cut off is found. (The construction is that of B. Schneier and J. Kelsey, "Secure
Audit Logs to Support Computer Forensics", 1999, without their changing key.)

Nothing is ever taken out of a chain. What was deleted because its time was over, and an archive that does not count,
are links of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime  # noqa: TC003 - typed.read looks the hints up
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import typed
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SCHEMA = "runbook-logs"
VERSION = 1
#: A link is small.
MAX_LINK_BYTES = 1 << 20
#: Characters of a key: 128 bits, written as hexadecimal digits.
MIN_KEY_CHARS = 32


@dataclass(frozen=True)
class Content:
    """What an archive holds."""

    #: Object, and its version where the bucket keeps versions.
    key: str
    version_id: str | None
    size_bytes: int
    sha256: str
    #: The lines themselves, as they came.
    content_bytes: int
    content_sha256: str
    lines: int
    #: Bounds of the times that lines say, to the minute; None where none says its time.
    first_at: datetime | None
    last_at: datetime | None
    #: Where they come from: ``kind`` (``file``, ``table``, ``supabase``) and what that kind needs.
    source: dict[str, Any]


@dataclass(frozen=True)
class Link:
    """One link."""

    seq: int
    kind: Literal["archive", "expiry", "void"]
    at: datetime
    run_id: str
    #: The seal of the link before; empty for the first.
    previous: str
    stream: str = ""
    retention_class: str = ""
    content: Content | None = None
    #: Links whose archives were deleted, or do not count.
    of: tuple[int, ...] = ()
    reason: str = ""
    key_id: str = ""
    seal: str = ""

    def serialised(self) -> bytes:
        """A sealed link as it is written."""
        return json.dumps(_plain(self), sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, seq: int, data: bytes, keys: Keys) -> Link:
        """The link that lies at a place of the chain.

        :raises RunbookError: it cannot be read, was edited, or belongs to another place
        """
        try:
            said = json.loads(data)
            if not isinstance(said, dict) or said.get("schema") != SCHEMA:
                raise _broken(seq, "is no link of a chain of logs")
        except ValueError:
            raise _broken(seq, "is damaged") from None
        if not keys.fits(said):
            raise _broken(seq, "was edited, or sealed with a key that is not among seal_keys")
        if said.get("schema_version") != VERSION:
            raise RunbookError(
                f"Link {seq} has version {said.get('schema_version')}, and this project knows {VERSION}; update the "
                "project here.",
                status=Status.UNKNOWN,
            )
        try:
            link: Link = typed.read(Link, said, "link")
        except typed.FieldError as error:
            raise _broken(seq, f"lacks what each has ({error})") from None
        if link.seq != seq:
            raise _broken(seq, f"is link {link.seq} in another's place")
        return link

    def stands_off(self, before: Head) -> str:
        """Why it does not follow another link; empty where it does."""
        if self.seq != before.seq + 1:
            return f"Link {self.seq} follows link {before.seq}; those between are missing."
        if self.previous != before.seal:
            return f"Link {self.seq} does not follow link {before.seq} as it is now: one of them was replaced."
        return ""


@dataclass(frozen=True)
class Head:
    """The newest link that the state store knows; 0 and empty for a chain that begins."""

    seq: int = 0
    seal: str = ""


class Keys:
    """The keys that seal: the first seals, the others made older seals."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the inventory's keys.

        :raises RunbookError: there is none, or one could be guessed
        """
        if not keys:
            raise RunbookError(
                "seal_keys: it is empty; make a key with `openssl rand -hex 32`, and keep it in Ansible Vault."
            )
        if any(len(key) < MIN_KEY_CHARS for key in keys):
            raise RunbookError(
                f"seal_keys: a key has fewer than {MIN_KEY_CHARS} characters; make one with `openssl rand -hex 32`."
            )
        self._keys = {_hmac(key.encode(), b"runbook-logs key")[:16]: key.encode() for key in keys}
        self._newest = next(iter(self._keys))

    def sealed(self, link: Link) -> Link:
        """The link with its seal."""
        named = replace(link, key_id=self._newest, seal="")
        return replace(named, seal=_hmac(self._keys[self._newest], _canonical(_plain(named))))

    def fits(self, said: Mapping[str, Any]) -> bool:
        """Whether a link's seal is of one of these keys, over what it says."""
        key = self._keys.get(str(said.get("key_id")))
        return key is not None and hmac.compare_digest(_hmac(key, _canonical(said)), str(said.get("seal")))


def _hmac(key: bytes, data: bytes) -> str:
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def _canonical(said: Mapping[str, Any]) -> bytes:
    """The bytes that are sealed: fields in order, without the seal."""
    return json.dumps({k: v for k, v in said.items() if k != "seal"}, sort_keys=True, separators=(",", ":")).encode()


def _plain(link: Link) -> dict[str, Any]:
    said = asdict(link) | {"at": link.at.isoformat(), "of": list(link.of), "schema": SCHEMA, "schema_version": VERSION}
    if link.content is not None:
        times = {"first_at": link.content.first_at, "last_at": link.content.last_at}
        said["content"] |= {name: at.isoformat() if at else None for name, at in times.items()}
    return said


def _broken(seq: int, what: str) -> RunbookError:
    return RunbookError(
        f"Link {seq} {what}; bring back the version of it that the bucket keeps, and find out who did it.",
        code="log_chain_broken",
    )


def broken(links: Iterable[tuple[int, Link | str]], head: Head) -> Iterator[str]:
    """What is wrong with a chain, one sentence each; nothing where it is whole.

    :param links: what was found, by its place and in order: a link, or why it is none
    :param head: what the state store says
    """
    before, at_head = Head(), head.seq == 0
    last = 0
    for seq, found in links:
        if seq != last + 1:
            gone = f"Link {last + 1} is" if seq == last + 2 else f"Links {last + 1} to {seq - 1} are"
            yield f"{gone} missing; bring back the version of it that the bucket keeps."
        elif isinstance(found, Link) and before.seq == last and (why := found.stands_off(before)):
            yield why
        last = seq
        if isinstance(found, str):
            yield found
            continue
        before = Head(seq, found.seal)
        if before == head:
            at_head = True
    if last < head.seq:
        yield (
            f"The chain ends with link {last}, and the state store knows link {head.seq}: its end was cut off; bring "
            "back the versions that the bucket keeps."
        )
    elif not at_head:
        yield f"Link {head.seq} is not the one that the state store knows; one of them was replaced."


def settled(links: Iterable[Link]) -> tuple[set[int], set[int]]:
    """Links whose archives were deleted because their time was over, and those that do not count."""
    expired: set[int] = set()
    void: set[int] = set()
    for link in links:
        if link.kind == "expiry":
            expired.update(link.of)
        elif link.kind == "void":
            void.update(link.of)
    return expired, void


def standing(links: Iterable[Link]) -> list[Link]:
    """Archives that count and are still there, in their order."""
    known = list(links)
    expired, void = settled(known)
    return [each for each in known if each.kind == "archive" and each.seq not in expired | void]
