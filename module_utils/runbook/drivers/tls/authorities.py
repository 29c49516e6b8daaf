"""What authorities and the zone say of certificates: revocation lists, and CAA records.

Lists are fetched over HTTP from where the certificate names them (RFC 5280, 4.2.1.13), each once however many
certificates name it, and only for a chain that was accepted: an address in any other certificate is a stranger's. A
list counts if the certificate's issuer signed it and it is current. OCSP is not asked: public authorities turn it off.

CAA records (RFC 8659) are those of the name, else of the nearest name above it that has any.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.exception
import dns.resolver
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.drivers.tls.waiting import in_thread
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.tls.certificates import Revoked, Trouble
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.drivers.http.api_client import Answer
    from ansible.module_utils.runbook.rules.tls.certificates import Certificate

_FOUND = 200


def revoked(
    paths: Sequence[Sequence[Certificate]], *, timeout_s: float, deadline_s: float
) -> dict[str, Revoked | Trouble | None]:
    """For each certificate, by its fingerprint, what its revocation list says: None where it is not on it.

    :param paths: accepted chains, the certificate first and its issuer second
    :param timeout_s: how long one list may take
    :param deadline_s: how long all may take
    """
    return asyncio.run(_revoked(paths, timeout_s, deadline_s))


def caa(
    names: Sequence[str], *, timeout_s: float, deadline_s: float, resolver: dns.asyncresolver.Resolver | None = None
) -> dict[str, tuple[str, ...] | Trouble]:
    """For each name the authorities that may issue for it, as the zone writes them; empty where any may.

    :param resolver: whom to ask; the resolvers of this machine by default
    """
    return asyncio.run(_caa(names, timeout_s, deadline_s, resolver))


# --- revocation lists -------------------------------------------------------------------------------------------------


async def _revoked(
    paths: Sequence[Sequence[Certificate]], timeout_s: float, deadline_s: float
) -> dict[str, Revoked | Trouble | None]:
    asked = {path[0].fingerprint: path for path in paths if len(path) > 1 and path[0].crl_urls}
    urls = {path[0].crl_urls[0] for path in asked.values()}
    lists = await _all({url: _fetch(url, timeout_s) for url in urls}, deadline_s)
    return {key: _look_up(path[0], path[1], lists[path[0].crl_urls[0]]) for key, path in asked.items()}


async def _fetch(url: str, timeout_s: float) -> bytes | Trouble:
    def read() -> Answer:
        return ApiClient(
            service=f"The revocation list {url}", base_url=url, headers={}, secrets={}, read_only=True,
            timeout_s=timeout_s, options=("", ""),
        ).look()  # fmt: skip

    try:
        async with asyncio.timeout(timeout_s + 1):
            found = await in_thread(read)
    except TimeoutError:
        return Trouble(Status.UNKNOWN, f"The revocation list {url} was not fetched within {timeout_s:.0f} s.")
    except RunbookError as error:
        return Trouble(Status.UNKNOWN, error.message)
    if found.status != _FOUND:
        return Trouble(Status.UNKNOWN, f"The revocation list {url} was not fetched: the answer was {found.status}.")
    return found.body


def _look_up(own: Certificate, issuer: Certificate, found: bytes | Trouble) -> Revoked | Trouble | None:
    if isinstance(found, Trouble):
        return found
    url = own.crl_urls[0]
    try:
        made = x509.load_der_x509_crl(found)
        key: Any = x509.load_der_x509_certificate(issuer.der).public_key()
        is_signed = made.is_signature_valid(key)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return Trouble(Status.UNKNOWN, f"What {url} gives is no revocation list; ask the authority.")
    if not is_signed:
        return Trouble(Status.UNKNOWN, f"The revocation list of {url} is not signed by {issuer.subject}.")
    ends = made.next_update_utc
    if ends is not None and ends < datetime.now(UTC):
        return Trouble(Status.UNKNOWN, f"The revocation list of {url} ended on {ends:%Y-%m-%d %H:%M} UTC.")
    entry = made.get_revoked_certificate_by_serial_number(int(own.serial, 16))
    if entry is None:
        return None
    reason = ""
    with suppress(x509.ExtensionNotFound):
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    return Revoked(entry.revocation_date_utc.astimezone(UTC), reason)


# --- CAA --------------------------------------------------------------------------------------------------------------


async def _caa(
    names: Sequence[str], timeout_s: float, deadline_s: float, resolver: dns.asyncresolver.Resolver | None
) -> dict[str, tuple[str, ...] | Trouble]:
    try:
        resolver = resolver or dns.asyncresolver.Resolver()
    except dns.exception.DNSException:
        trouble = Trouble(Status.UNKNOWN, "This machine names no resolver, so that CAA records were not looked up.")
        return dict.fromkeys(names, trouble)
    return await _all({name: _of_zone(resolver, name, timeout_s) for name in names}, deadline_s)


async def _of_zone(resolver: dns.asyncresolver.Resolver, name: str, timeout_s: float) -> tuple[str, ...] | Trouble:
    """From the name upwards: the first name that has records of this kind decides."""
    labels = name.split(".")
    try:
        for start in range(len(labels) - 1):
            try:
                answer = await resolver.resolve(f"{'.'.join(labels[start:])}.", "CAA", lifetime=timeout_s)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            issuers = [each.value.decode("ascii", "replace") for each in answer if each.tag.lower() == b"issue"]
            return tuple(each.partition(";")[0].strip().lower() for each in issuers)
    except dns.exception.DNSException as error:
        return Trouble(Status.UNKNOWN, f"The CAA records of {name} were not found out ({type(error).__name__}).")
    return ()


# --- all at the same time ---------------------------------------------------------------------------------------------


async def _all(asked: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
    """The answers by their keys; what does not come in time is unknown."""
    tasks = {key: asyncio.ensure_future(each) for key, each in asked.items()}
    if tasks:
        await asyncio.wait(tasks.values(), timeout=deadline_s)
    late = Trouble(Status.UNKNOWN, "It was not looked up within deadline_s; look again, or raise it.")
    found = {key: task.result() if task.done() else late for key, task in tasks.items()}
    for task in tasks.values():
        task.cancel()
    return found
