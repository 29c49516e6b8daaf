"""Whether the certificate of a server of ours has to be renewed, or only loaded.

A certificate is renewed when there is none yet, when it is for other names, when its lifetime says so
(``lifetime.py``), or when its authority does: ACME Renewal Information (RFC 9773) names a window for each certificate,
and the authority moves that forward when it has to revoke many. It is loaded where the file is right and an address
still shows another one, as after a run that was stopped between the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Check
from ansible.module_utils.runbook.rules.tls.lifetime import Lifetime, Renewal
from ansible.module_utils.runbook.rules.tls.names import covers
from ansible.module_utils.runbook.rules.words import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.rules.tls.certificates import Certificate, Seen


_PRIVATE_KEY = re.compile(r"-----BEGIN (?:EC |RSA )?PRIVATE KEY-----\s[\w+/=\s]+-----END (?:EC |RSA )?PRIVATE KEY-----")


def check_account(key: str, contact: Sequence[str]) -> None:
    """With what the authority is asked for a certificate, before anything is begun for it.

    :param key: the account's private key; neither it nor a part of it is repeated
    :raises RunbookError: it is none, or an address is no URI (RFC 8555, 7.3)
    """
    if not _PRIVATE_KEY.search(key):
        raise RunbookError(
            f"account_key: it is {'no private key in PEM format' if key else 'not set'}, and a certificate is due; "
            "make one with openssl ecparam -name prime256v1 -genkey -noout, and keep it in Ansible Vault."
        )
    for each in contact:
        if not re.fullmatch(r"mailto:[^\s@,]+@[^\s@,]+", each):
            raise RunbookError(f"contact: {each!r} is nothing that an authority takes; write mailto:ops@example.com.")


class Act(StrEnum):
    """What a certificate needs."""

    NOTHING = "nothing"
    #: The server reads its files again.
    LOAD = "load"
    RENEW = "renew"


@dataclass(frozen=True)
class Suggestion:
    """What the authority says of a certificate."""

    #: Whether it wants it renewed; None where it was not asked, or did not answer.
    renew: bool | None = None
    words: str = ""
    #: RFC 9773, 4.1: what an order names that replaces the certificate; empty where the authority has no such thing.
    certificate_id: str = ""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Suggestion:
        """Read the result of ``community.crypto.acme_certificate_renewal_info``."""
        if result.get("failed") or "should_renew" not in result:
            return cls(None, str(result.get("msg", "")))
        supported = bool(result.get("supports_ari"))
        words = str(result.get("msg", "")).rstrip(".")
        return cls(bool(result["should_renew"]), words, str(result.get("cert_id") or "") if supported else "")


@dataclass(frozen=True)
class Decision:
    """What a certificate needs, and why."""

    act: Act
    check: Check


def decide(
    name: str,
    names: Sequence[str],
    stored: Certificate | None,
    suggestion: Suggestion,
    seen: Sequence[Seen],
    now: datetime,
    floor_days: int,
) -> Decision:
    """What a certificate needs.

    :param name: what it is called in the inventory
    :param names: host names that it has to be for
    :param stored: the one that lies on the server; None where there is none
    :param seen: what its endpoints show
    :param floor_days: as for ``lifetime.Lifetime``
    """

    def decided(act: Act, why: str) -> Decision:
        return Decision(act, Check.ok("renewal", why, name))

    why = _why_renew(names, stored, suggestion, now, floor_days)
    if why or stored is None:
        return decided(Act.RENEW, why)
    other = [each.address for each in seen if each.own is not None and each.own.fingerprint != stored.fingerprint]
    if other:
        return decided(Act.LOAD, f"{some(other)} shows another certificate than the one on the server.")
    silent = [each for each in seen if each.own is None]
    if silent:
        msg = silent[0].trouble.msg if silent[0].trouble else "It shows nothing."
        where = silent[0].address or "its name"
        said = f"Whether it is served is not known at {where}: {msg}"
        return Decision(Act.NOTHING, Check.unknown("renewal", said, name))
    return decided(Act.NOTHING, f"It lasts until {stored.not_after:%Y-%m-%d}, and is served.")


def _why_renew(
    names: Sequence[str], stored: Certificate | None, suggestion: Suggestion, now: datetime, floor_days: int
) -> str:
    """Why a certificate is renewed; empty where it is not."""
    if stored is None:
        return "There is none on the server yet."
    missing = [each for each in names if not covers(stored, each)]
    if missing:
        return f"It is not for {some(missing)}."
    life = Lifetime(stored.not_before, stored.not_after, floor_days)
    renewal = life.renewal(now)
    if renewal is Renewal.EXPIRED:
        return f"It expired on {stored.not_after:%Y-%m-%d}."
    if renewal in (Renewal.DUE, Renewal.CRITICAL):
        return f"It ends on {stored.not_after:%Y-%m-%d}, and was due on {life.due_at:%Y-%m-%d}."
    if suggestion.renew:
        return f"Its authority asks for it: {suggestion.words}."
    return ""
