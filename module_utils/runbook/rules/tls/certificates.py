"""What a server showed of itself on one of its addresses: the certificate, its chain, and the versions of TLS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from ansible.module_utils.runbook.rules.status import Status


@dataclass(frozen=True)
class Certificate:
    """A certificate (RFC 5280), as far as it is judged."""

    subject: str
    issuer: str
    #: Hexadecimal, as authorities print it.
    serial: str
    #: SHA-256 of the whole certificate, hexadecimal.
    fingerprint: str
    not_before: datetime
    not_after: datetime
    #: Of the subject alternative name: DNS names, international ones in their ``xn--`` form, and addresses.
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    #: ``RSA``, ``EC``, ``Ed25519``, ``Ed448``, or another.
    key_kind: str = "EC"
    key_bits: int = 256
    #: What the signature hashes with; empty where the algorithm needs no hash of its own.
    signature_hash: str = "sha256"
    #: It may be a server's: there is no extended key usage, or it names serverAuth.
    server_auth: bool = True

    #: Of a public authority: it names a policy of the CA/Browser Forum, which it must (Baseline Requirements 7.1.6.1).
    is_public: bool = False
    #: Signed certificate timestamps of transparency logs that are in it (RFC 6962).
    timestamps: int = 0
    #: Where its revocation list is, over HTTP.
    crl_urls: tuple[str, ...] = ()
    #: The organisation of its issuer; empty where it names none.
    issuer_organization: str = ""
    #: As it was sent.
    der: bytes = b""

    @property
    def is_self_issued(self) -> bool:
        """It names itself as its issuer, as a root does."""
        return self.subject == self.issuer


@dataclass(frozen=True)
class Trouble:
    """Why an address showed no certificate: ``unknown`` where nobody answered, ``breach`` where no TLS did."""

    status: Status
    #: A clause with the fix, which follows the address.
    msg: str


@dataclass(frozen=True)
class Revoked:
    """Its authority took a certificate back."""

    at: datetime
    #: As RFC 5280 names it, such as ``keyCompromise``; empty where the list gives none.
    reason: str


@dataclass(frozen=True)
class Seen:
    """What one address showed."""

    #: Empty where the name has none.
    address: str
    trouble: Trouble | None = None
    #: The chain as it was sent, the server's own certificate first.
    sent: tuple[Certificate, ...] = ()
    #: The chain up to a trusted authority, without its clock being looked at; empty where there is none.
    path: tuple[Certificate, ...] = ()
    #: Number and words of OpenSSL's objection (``X509_V_ERR_*``); 0 where it has none.
    verify_code: int = 0
    verify_message: str = ""
    #: The best version that both sides know, such as ``TLSv1.3``; empty where the handshake did not come to its end.
    version: str = ""
    #: The version older than 1.2 that it still answers; empty where it refuses, None where that could not be found out.
    old_version: str | None = None

    @property
    def own(self) -> Certificate | None:
        """The server's own certificate."""
        return self.sent[0] if self.sent else None
