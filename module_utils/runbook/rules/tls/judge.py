"""What a server shows of itself is judged: by each of its addresses, one answer to each question.

The questions, in the order of the answers: ``reach`` (does it answer, and with TLS), ``name``, ``lifetime``, ``chain``,
``purpose``, ``key``, ``signature``, ``transparency`` (of a public authority's: does it hold what browsers want),
``revocation`` (where it names a list), ``caa`` (may its authority issue for the name), ``version``, ``same`` (do all
addresses serve one certificate) and ``disk`` (is it the one in the file). What an address did not show is not judged
there; ``reach`` says why.

Strength follows NIST SP 800-57 (RSA of 2048 bits, curves of 256) and the Baseline Requirements 7.1.3.2 (no SHA-1);
versions RFC 8996, which ended TLS 1.0 and 1.1.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.status import Check, Status, worst
from ansible.module_utils.runbook.rules.tls.certificates import Revoked, Trouble
from ansible.module_utils.runbook.rules.tls.lifetime import Lifetime, Renewal
from ansible.module_utils.runbook.rules.tls.names import covers
from ansible.module_utils.runbook.rules.words import agree, count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.rules.tls.certificates import Certificate, Seen

QUESTIONS = (
    "reach", "name", "lifetime", "chain", "purpose", "key", "signature", "transparency", "revocation", "caa", "version",
    "same", "disk",
)  # fmt: skip

#: Browsers want so many timestamps of transparency logs, of a certificate that lasts up to 180 days.
_LEAST_TIMESTAMPS = 2
#: How a zone writes the authority of an organisation, in CAA records (CCADB; each authority's practice statement).
_CAA_OF = {
    "Let's Encrypt": ("letsencrypt.org",),
    "Google Trust Services": ("pki.goog",),
    "Amazon": ("amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com"),
    "DigiCert Inc": ("digicert.com", "www.digicert.com"),
    "Sectigo Limited": ("sectigo.com", "comodo.com", "comodoca.com", "usertrust.com", "trust-provider.com"),
    "ZeroSSL": ("sectigo.com",),
    "GlobalSign nv-sa": ("globalsign.com",),
    "SSL Corporation": ("ssl.com",),
}

_LEAST_BITS = {"RSA": 2048, "EC": 256}
_STRONG_KINDS = {"Ed25519", "Ed448"}
_WEAK_HASHES = {"md5", "sha1"}
_VERSIONS = {"TLSv1.2", "TLSv1.3"}

#: What the authorities are called that no file names.
THIS_MACHINE = "this machine's list of authorities"

#: OpenSSL's numbers (X509_V_ERR_*, x509_vfy.h).
_SELF_SIGNED, _ROOT_UNKNOWN, _NO_ISSUER = {18}, {19}, {2, 20, 21}
_PURPOSE = 26


@dataclass(frozen=True)
class Demand:
    """What an endpoint must be."""

    #: What it is called in answers.
    name: str
    #: For whom the certificate must be, as ``names.ascii_name`` gives it; empty where clients do not ask.
    server_name: str
    floor_days: int
    #: What trusted authorities are called: a file, or those of this machine.
    trust: str
    #: Where the certificate lies on disk, and its fingerprint or why that is not known; empty where it is not asked.
    path: str = ""
    on_disk: str | Trouble = ""


@dataclass(frozen=True)
class Beyond:
    """What others than the servers say of their certificates."""

    #: By fingerprint; a certificate without a list is not among them.
    revocation: Mapping[str, Revoked | Trouble | None] = field(default_factory=dict)
    #: By server name: who may issue, and nobody where any may.
    caa: Mapping[str, tuple[str, ...] | Trouble] = field(default_factory=dict)


@dataclass(frozen=True)
class _Answer:
    question: str
    status: Status
    msg: str
    address: str


def judge(demand: Demand, seen: Sequence[Seen], now: datetime, beyond: Beyond | None = None) -> list[Check]:
    """One check for each question; an answer that is not that of all addresses names its own.

    :param seen: one for each address; a name without addresses has one that says so
    :param now: the clock of who looks
    :param beyond: what was asked of others; what was not asked is not judged
    """
    by_question: dict[str, list[_Answer]] = defaultdict(list)
    for each in seen:
        for answer in [*_of_address(demand, each, now), *_of_others(demand, each, beyond or Beyond())]:
            by_question[answer.question].append(answer)
    for answer in _of_all(seen):
        by_question[answer.question].append(answer)
    return [_folded(demand.name, by_question[question]) for question in QUESTIONS if by_question[question]]


def clock_hint(seen: Iterable[Seen], now: datetime) -> str:
    """A sentence on the clock of who looks, where all of two or more certificates are outside of their dates."""
    own = {each.own.fingerprint: each.own for each in seen if each.own is not None}.values()
    if len(own) < 2 or any(each.not_before <= now <= each.not_after for each in own):
        return ""
    return (
        f"None of {count(len(own), 'certificate')} is valid by this machine's clock, {now:%Y-%m-%d %H:%M} UTC; see "
        "first whether that is right (timedatectl)."
    )


def lifetime(certificate: Certificate, floor_days: int) -> Lifetime:
    """When a certificate has to be renewed."""
    return Lifetime(certificate.not_before, certificate.not_after, floor_days)


def figures(demand: Demand, seen: Seen, now: datetime) -> dict[str, Any]:
    """What one address showed, for a result; its status is that of the certificate's lifetime alone."""
    where = {"endpoint": demand.name, "address": seen.address}
    own = seen.own
    if own is None:
        return where | {"status": str(Status.UNKNOWN)}
    life = lifetime(own, demand.floor_days)
    renewal = life.renewal(now)
    return where | {
        "status": str(Status.of(breach=renewal is not Renewal.CURRENT)),
        "renewal": str(renewal),
        "not_before": own.not_before.isoformat(),
        "not_after": own.not_after.isoformat(),
        "due_at": life.due_at.isoformat(timespec="seconds"),
        "critical_at": life.critical_at.isoformat(timespec="seconds"),
        "days_left": round(life.days_left(now), 2),
        "fraction_left": round(life.fraction_left(now), 4),
        "subject": own.subject,
        "issuer": own.issuer,
        "names": [*own.dns_names, *own.addresses],
        "serial": own.serial,
        "fingerprint": own.fingerprint,
        "key": f"{own.key_kind} {own.key_bits}",
        "signature": own.signature_hash,
        "sent": len(seen.sent),
        "version": seen.version,
        "old_version": seen.old_version,
    }


def _folded(name: str, answers: Sequence[_Answer]) -> Check:
    """Answers of several addresses as one: what is not ok, with whose answer it is where that is not everybody's."""
    status = worst(each.status for each in answers)
    told = [each for each in answers if each.status is not Status.OK] or list(answers)
    told.sort(key=lambda each: list(Status).index(each.status))
    addresses: dict[str, list[str]] = defaultdict(list)
    for each in told:
        addresses[each.msg].append(each.address)
    everywhere = len(addresses) == 1 and len(told) == len(answers)
    if status is Status.OK and not everywhere:
        return Check.ok(answers[0].question, f"{count(len(answers), 'address', 'addresses')} are well.", name)
    parts = [msg if everywhere or not any(at) else f"At {some(at)}: {msg}" for msg, at in addresses.items()]
    return Check(answers[0].question, status, " ".join(parts), name)


def _of_address(demand: Demand, seen: Seen, now: datetime) -> Iterator[_Answer]:
    def answer(question: str, bad: str, good: str, status: Status = Status.BREACH) -> _Answer:
        return _Answer(question, status if bad else Status.OK, bad or good, seen.address)

    if seen.trouble is not None:
        yield answer("reach", seen.trouble.msg, "", seen.trouble.status)
    else:
        yield answer("reach", "", f"It answers with {seen.version}.")
    own = seen.own
    if own is None:
        return
    if demand.server_name:
        yield answer("name", _name(own, demand.server_name), f"It is for {demand.server_name}.")
    life = lifetime(own, demand.floor_days)
    yield answer("lifetime", _lifetime(life, now), f"It lasts until {own.not_after:%Y-%m-%d}.")
    if seen.trouble is None or seen.verify_code:
        # A certificate for another purpose is told of once, below.
        is_purpose = seen.verify_code == _PURPOSE and not own.server_auth
        if not is_purpose:
            yield answer("chain", _chain(demand, seen, now), f"It leads to an authority of {demand.trust}.")
    yield answer(
        "purpose",
        "" if own.server_auth else "Its extended key usage does not name serverAuth; have it issued for a server.",
        "It may be a server's.",
    )
    judged = _below_root(seen)
    weak = [
        f"{each.subject or own.serial} ({each.key_kind}, {each.key_bits} bits)" for each in judged if _is_weak(each)
    ]
    yield answer(
        "key",
        f"The key of {some(weak)} is weak; use RSA of 2048 bits, P-256 or Ed25519." if weak else "",
        f"{own.key_kind}, {own.key_bits} bits.",
    )
    signed = [f"{each.subject or own.serial} ({each.signature_hash})" for each in judged if _is_forgeable(each)]
    yield answer(
        "signature",
        f"The signature of {some(signed)} can be forged; have it issued again with SHA-256." if signed else "",
        f"Signed with {own.signature_hash or own.key_kind}.",
    )
    if own.is_public:
        few = own.timestamps < _LEAST_TIMESTAMPS
        held = count(own.timestamps, "timestamp")
        yield answer(
            "transparency",
            f"It holds {held} of transparency logs, and browsers want {_LEAST_TIMESTAMPS}; have it issued again."
            if few
            else "",
            f"It holds {held} of transparency logs.",
        )
    if seen.version:
        yield from _version(seen)
    if demand.path:
        yield _disk(demand, own, seen.address)


def _of_others(demand: Demand, seen: Seen, beyond: Beyond) -> Iterator[_Answer]:
    own = seen.own
    if own is None:
        return
    if own.fingerprint in beyond.revocation:
        said = beyond.revocation[own.fingerprint]
        if said is None:
            yield _Answer("revocation", Status.OK, "It is on no revocation list of its issuer.", seen.address)
        elif isinstance(said, Trouble):
            yield _Answer("revocation", said.status, said.msg, seen.address)
        else:
            why = f" ({said.reason})" if said.reason else ""
            msg = f"It was revoked on {said.at:%Y-%m-%d %H:%M} UTC{why}; renew it now."
            yield _Answer("revocation", Status.BREACH, msg, seen.address)
    if own.is_public and demand.server_name in beyond.caa:
        yield _caa(demand, own, beyond.caa[demand.server_name], seen.address)


def _caa(demand: Demand, own: Certificate, permitted: tuple[str, ...] | Trouble, address: str) -> _Answer:
    if isinstance(permitted, Trouble):
        return _Answer("caa", permitted.status, permitted.msg, address)
    if not permitted:
        return _Answer("caa", Status.OK, "No CAA record says who may issue, so any authority may.", address)
    issuer = own.issuer_organization or own.issuer
    named = some(each or "nobody" for each in permitted)
    called = _CAA_OF.get(issuer)
    if called is None:
        msg = f"The CAA records of {demand.server_name} permit {named}, and how {issuer} is called there is not known."
        return _Answer("caa", Status.UNKNOWN, msg, address)
    if set(called) & set(permitted):
        return _Answer("caa", Status.OK, f"The CAA records of {demand.server_name} permit {issuer}.", address)
    msg = (
        f"The CAA records of {demand.server_name} permit {named}, and not {issuer}, so that it cannot be renewed; "
        "correct the records, or the authority."
    )
    return _Answer("caa", Status.BREACH, msg, address)


def _name(own: Certificate, wanted: str) -> str:
    if covers(own, wanted):
        return ""
    names = [*own.dns_names, *own.addresses]
    if not names:
        return (
            f"It has no subject alternative name, so it is for nobody: a common name ({own.subject}) is not read. Have "
            f"it issued for {wanted}."
        )
    return f"It is for {some(names)}, and not for {wanted}; correct server_name, or have it issued for that name."


def _lifetime(life: Lifetime, now: datetime) -> str:
    clock = f"by this machine's clock, {now:%Y-%m-%d %H:%M} UTC"
    end, left = f"{life.not_after:%Y-%m-%d %H:%M} UTC", life.days_left(now)
    days = f"{left:.1f} days" if left < 10 else count(int(left), "day")
    share = f"{life.fraction_left(now):.0%} of its lifetime"
    match life.renewal(now):
        case Renewal.EXPIRED:
            return f"It expired on {end}, {clock}; renew it now."
        case Renewal.NOT_YET_VALID:
            return (
                f"It is not valid before {life.not_before:%Y-%m-%d %H:%M} UTC, {clock}; if that clock is right, serve "
                "the certificate before it until then."
            )
        case Renewal.CRITICAL:
            return f"Critical: it ends on {end}, {days} or {share} are left; renew it now."
        case Renewal.DUE:
            return f"Due: it ends on {end}, {days} or {share} are left; renew it, and see why that did not happen."
        case Renewal.CURRENT:
            return ""


def _chain(demand: Demand, seen: Seen, now: datetime) -> str:
    code, own = seen.verify_code, seen.sent[0]
    if code in _SELF_SIGNED:
        return f"It is signed by itself, and {demand.trust} does not hold it; have an authority issue one."
    top = _top(seen.sent)
    if code in _ROOT_UNKNOWN:
        return f"Its chain ends at {top.subject}, which {demand.trust} does not hold; correct ca_cert or the chain."
    if code in _NO_ISSUER:
        if top is own:
            return (
                f"The server sends no certificate of its issuer, {own.issuer}, and {demand.trust} does not hold one "
                "that fits. If that is an intermediate authority, serve the full chain; if it is a root, correct "
                "ca_cert."
            )
        return (
            f"The chain that is sent ends at {top.subject}, whose issuer, {top.issuer}, {demand.trust} does not hold; "
            "serve the full chain, or correct ca_cert."
        )
    if code:
        return f"It is not accepted with {demand.trust}: {seen.verify_message}."
    for each in seen.path[1:]:
        if now > each.not_after:
            return f"The authority {each.subject} expired on {each.not_after:%Y-%m-%d}; replace the chain or ca_cert."
        if now < each.not_before:
            return f"The authority {each.subject} is not valid before {each.not_before:%Y-%m-%d %H:%M} UTC."
        if each.not_after < own.not_after and lifetime(each, demand.floor_days).renewal(now) is Renewal.CRITICAL:
            return (
                f"The authority {each.subject} ends on {each.not_after:%Y-%m-%d}, before the certificate; have it "
                "issued by its successor."
            )
    return ""


def _top(sent: Sequence[Certificate]) -> Certificate:
    """The last certificate that is reached from the server's own, from issuer to issuer."""
    by_subject = {each.subject: each for each in sent[1:]}
    top = sent[0]
    while not top.is_self_issued and top.issuer in by_subject:
        top = by_subject.pop(top.issuer)
    return top


def _below_root(seen: Seen) -> list[Certificate]:
    """The certificates whose keys and signatures count; a root is trusted because it is in a file."""
    chain = seen.path or seen.sent
    return [chain[0], *(each for each in chain[1:] if not each.is_self_issued)]


def _is_weak(certificate: Certificate) -> bool:
    least = _LEAST_BITS.get(certificate.key_kind)
    return certificate.key_kind not in _STRONG_KINDS if least is None else certificate.key_bits < least


def _is_forgeable(certificate: Certificate) -> bool:
    return certificate.signature_hash in _WEAK_HASHES


def _version(seen: Seen) -> Iterator[_Answer]:
    def answer(status: Status, msg: str) -> _Answer:
        return _Answer("version", status, msg, seen.address)

    if seen.version not in _VERSIONS:
        yield answer(Status.BREACH, f"It knows nothing newer than {seen.version}; let it speak TLS 1.2 and 1.3.")
    elif seen.old_version:
        yield answer(Status.BREACH, f"It still answers {seen.old_version}; let it refuse all below TLS 1.2.")
    elif seen.old_version is None:
        yield answer(Status.UNKNOWN, "Whether it still answers TLS 1.0 or 1.1 could not be found out; look again.")
    else:
        yield answer(Status.OK, f"It speaks {seen.version}, and nothing below TLS 1.2.")


def _disk(demand: Demand, own: Certificate, address: str) -> _Answer:
    if not isinstance(demand.on_disk, str):
        return _Answer("disk", demand.on_disk.status, demand.on_disk.msg, address)
    if demand.on_disk == own.fingerprint:
        return _Answer("disk", Status.OK, f"It is the one in {demand.path}.", address)
    msg = f"It is not the one in {demand.path}; reload the server, or correct path."
    return _Answer("disk", Status.BREACH, msg, address)


def _of_all(seen: Sequence[Seen]) -> Iterator[_Answer]:
    """Whether all addresses serve one certificate; those that serve an older one than the newest are named."""
    shown = [(each.address, each.own) for each in seen if each.own is not None]
    if len(shown) < 2:
        return
    newest = max((own for _, own in shown), key=lambda own: (own.not_before, own.not_after, own.fingerprint))
    others = [(address, own) for address, own in shown if own.fingerprint != newest.fingerprint]
    if not others:
        yield _Answer("same", Status.OK, f"{count(len(shown), 'address', 'addresses')} serve one certificate.", "")
        return
    named = some(f"{address} (until {own.not_after:%Y-%m-%d})" for address, own in others)
    msg = (
        f"{named} {agree(len(others), 'serves', 'serve')} another certificate than the newest (until "
        f"{newest.not_after:%Y-%m-%d}); load that one there too."
    )
    yield _Answer("same", Status.BREACH, msg, "")
