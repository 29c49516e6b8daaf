"""Looks at the certificates that servers show: all addresses of all names at the same time, each within its own bound.

The handshakes are Python's ``ssl`` in memory, moved by asyncio: a server that is silent costs a waiting task, no
thread, and holds nobody up. The chain is verified by OpenSSL, as clients do, but without its clock, so that an expired
certificate does not hide a wrong authority; and at its lowest security level, so that what is weak is seen and judged
instead of refused. No data follow a handshake.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import resource
import socket
import ssl
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from ansible.module_utils.runbook.drivers.tls.waiting import in_thread
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.tls.certificates import Certificate, Seen, Trouble
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ansible.module_utils.runbook.rules.tls.endpoints import Endpoint

_FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

#: Connections that are open at the same time, each with some 50 kB: a silent server keeps its place for all of
#: timeout_s. No more than half of the files that this process may open, which are 256 on some systems.
_MOST_OPEN = 256
#: PostgreSQL's protocol, SSLRequest: its length, and the code in the place of a version.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name.
_NO_CHECK_TIME = 0x200000
#: ``ssl.Encoding`` is not public: DER.
_DER = 2
#: What OpenSSL says where an answer was no TLS, and where it was one older than 1.0.
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
_TOO_OLD = "UNSUPPORTED_PROTOCOL"
#: What it says where it can itself not speak a version that old.
_NOT_HERE = {"NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "INTERNAL_ERROR", "NO_SUITABLE_DIGEST_ALGORITHM"}
#: The CA/Browser Forum's policies for servers: domain, organisation and individual validated.
_FORUM = "2.23.140.1.2."
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class _TroubleError(Exception):
    """An address showed no TLS."""

    def __init__(self, status: Status, msg: str) -> None:
        super().__init__(msg)
        self.trouble = Trouble(status, msg)


def look(wanted: Sequence[Endpoint], *, timeout_s: float, deadline_s: float) -> list[list[Seen]]:
    """What each address of each endpoint shows; a name without addresses has one entry that says so.

    :param timeout_s: how long a name may take to be resolved, and each handshake with all before it
    :param deadline_s: how long all may take; what is not done by then is ``unknown``
    :raises RunbookError: a file of authorities cannot be read
    """
    contexts = _Contexts()
    for each in wanted:
        contexts.get(each.ca_cert)
    return asyncio.run(_look(wanted, contexts, timeout_s, deadline_s))


def file_fingerprint(path: Path) -> str | Trouble:
    """The fingerprint of the first certificate in a file."""
    try:
        return _certificate(x509.load_pem_x509_certificate(path.read_bytes())).fingerprint
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return Trouble(Status.UNKNOWN, f"{path} cannot be read ({reason}); correct path.")
    except ValueError:
        return Trouble(Status.UNKNOWN, f"{path} holds no certificate in PEM format; correct path.")


def first(chain: str) -> Certificate | None:
    """The first certificate of a text in PEM format; None where it holds none that can be read."""
    try:
        return _certificate(x509.load_pem_x509_certificate(chain.encode()))
    except ValueError:
        return None


# --- all at the same time ---------------------------------------------------------------------------------------------


async def _look(
    wanted: Sequence[Endpoint], contexts: _Contexts, timeout_s: float, deadline_s: float
) -> list[list[Seen]]:
    late = Trouble(Status.UNKNOWN, "It was not looked at within deadline_s; look again, or raise it.")
    places = asyncio.Semaphore(min(_MOST_OPEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
    found: list[dict[str, Seen]] = [{} for _ in wanted]

    async def of_endpoint(each: Endpoint, seen: dict[str, Seen]) -> None:
        try:
            addresses = await _resolved(each, timeout_s)
        except _TroubleError as error:
            seen[""] = Seen("", error.trouble)
            return
        # What the deadline cuts off stays said.
        seen.update({address: Seen(address, late) for address in addresses})

        async def of_address(address: str) -> None:
            seen[address] = await _of_address(each, address, contexts, timeout_s, places)

        await asyncio.gather(*map(of_address, addresses))

    tasks = [asyncio.create_task(of_endpoint(each, seen)) for each, seen in zip(wanted, found, strict=True)]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [list(seen.values()) or [Seen("", late)] for seen in found]


async def _resolved(wanted: Endpoint, timeout_s: float) -> list[str]:
    """All addresses of a name, in the order of the resolver."""

    def ask() -> list[Any]:
        return socket.getaddrinfo(wanted.host, wanted.port, _FAMILIES[wanted.family], socket.SOCK_STREAM)

    try:
        async with asyncio.timeout(timeout_s):
            found = await in_thread(ask)
    except TimeoutError:
        msg = f"{wanted.host} was not resolved within {timeout_s:g} s; see that the resolver of this machine answers."
        raise _TroubleError(Status.UNKNOWN, msg) from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no host name"
        family = "" if wanted.family == "any" else f" over {wanted.family}"
        msg = f"{wanted.host} has no address{family} ({reason}); correct host, or the zone."
        raise _TroubleError(Status.UNKNOWN, msg) from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


async def _of_address(
    wanted: Endpoint, address: str, contexts: _Contexts, timeout_s: float, places: asyncio.Semaphore
) -> Seen:
    async def shake(*, verify: bool = True, old: bool = False) -> _Shaken:
        context = contexts.get(wanted.ca_cert, verify=verify, old=old)
        async with places:
            return await _shake(wanted, address, context, timeout_s)

    try:
        first = await shake()
        shown = first
        if first.verify_code:
            shown = await shake(verify=False)
        seen = Seen(
            address,
            sent=tuple(_parsed(each) for each in shown.sent),
            path=() if first.verify_code else tuple(_parsed(each) for each in first.path),
            verify_code=first.verify_code,
            verify_message=first.verify_message,
            version=shown.version,
        )
    except _TroubleError as error:
        return Seen(address, error.trouble)
    if seen.version in ("TLSv1", "TLSv1.1"):
        return seen
    try:
        return replace(seen, old_version=(await shake(verify=False, old=True)).version)
    except _RefusedError as error:
        return replace(seen, old_version=None if error.is_ours else "")
    except _TroubleError:
        return seen


# --- one handshake ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shaken:
    sent: Sequence[bytes]
    path: Sequence[bytes]
    version: str
    verify_code: int = 0
    verify_message: str = ""


class _RefusedError(_TroubleError):
    """The server ended the handshake; or OpenSSL did, where ``is_ours``."""

    def __init__(self, msg: str, *, is_ours: bool = False) -> None:
        super().__init__(Status.UNKNOWN, msg)
        self.is_ours = is_ours


async def _shake(wanted: Endpoint, address: str, context: ssl.SSLContext, timeout_s: float) -> _Shaken:
    """Connect, ask for TLS, shake hands, and hang up."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(address, wanted.port)
            await _START[wanted.protocol](reader, writer)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname=wanted.server_name)
            return await _handshake(tls, incoming, outgoing, reader, writer)
    except TimeoutError:
        done = "no connection" if writer is None else "no handshake"
        msg = f"Port {wanted.port} gave {done} within {timeout_s:g} s; see that the server answers this machine."
        raise _TroubleError(Status.UNKNOWN, msg) from None
    except (asyncio.IncompleteReadError, ssl.SSLEOFError, ConnectionResetError, BrokenPipeError):
        raise _RefusedError(
            f"Port {wanted.port} hung up before the handshake was over; see the server's log."
        ) from None
    except ssl.SSLError as error:
        raise _refused(wanted, error) from None
    except ConnectionRefusedError:
        msg = f"Nothing listens on port {wanted.port}; start the server, or correct host or port."
        raise _TroubleError(Status.UNKNOWN, msg) from None
    except OSError as error:
        family = "IPv6" if ":" in address else "IPv4"
        hint = f"; set family where this machine has no {family}" if error.errno in _NO_ROUTE else ""
        reason = error.strerror or type(error).__name__
        msg = f"Port {wanted.port} could not be reached ({reason}){hint}."
        raise _TroubleError(Status.UNKNOWN, msg) from None
    except ValueError:  # a line without end, or bytes that are no text
        msg = f"Port {wanted.port} does not speak {wanted.protocol}; correct port or protocol."
        raise _TroubleError(Status.BREACH, msg) from None
    finally:
        if writer is not None:
            writer.transport.abort()


def _refused(wanted: Endpoint, error: ssl.SSLError) -> _TroubleError:
    reason = error.reason or ""
    if reason in _NO_TLS:
        msg = f"What port {wanted.port} answers is no TLS; turn it on there, or correct port or protocol."
        return _TroubleError(Status.BREACH, msg)
    said = reason.lower().replace("_", " ") or type(error).__name__
    if reason == _TOO_OLD:
        return _RefusedError(f"Port {wanted.port} speaks no version that is known here ({said}); let it speak TLS 1.2.")
    msg = f"Port {wanted.port} ended the handshake ({said}); see the server's log."
    return _RefusedError(msg, is_ours=reason in _NOT_HERE)


async def _handshake(
    tls: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> _Shaken:
    verify_code, verify_message = 0, ""
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            await writer.drain()
            received = await reader.read(65_536)
            if received:
                incoming.write(received)
            else:
                incoming.write_eof()
        except ssl.SSLCertVerificationError as error:
            verify_code, verify_message = error.verify_code, error.verify_message
            break
    if not verify_code:
        with suppress(ssl.SSLError):  # the server's own farewell is not waited for
            tls.unwrap()
    with suppress(OSError):
        writer.write(outgoing.read())
        await writer.drain()
    return _Shaken(
        () if verify_code else _chain(tls, "get_unverified_chain"),
        () if verify_code else _chain(tls, "get_verified_chain"),
        tls.version() or "",
        verify_code,
        verify_message,
    )


def _chain(tls: ssl.SSLObject, method: str) -> list[bytes]:
    """The certificates of a connection, DER; public since Python 3.13, and there before under another name."""
    public = getattr(tls, method, None)
    if public is not None:
        return list(public() or ())
    inner = cast("Any", tls)._sslobj  # noqa: SLF001 - see above
    return [each.public_bytes(_DER) for each in getattr(inner, method)() or ()]


async def _start_postgresql(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_SSL_REQUEST)
    match await reader.readexactly(1):
        case b"S":
            return
        case b"N":
            raise _TroubleError(Status.BREACH, "The server speaks no TLS; set ssl = on there.")
        case b"E":
            raise _TroubleError(Status.UNKNOWN, "The server answered with an error; see its log.")
        case _:
            raise ValueError


async def _start_smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def answer() -> tuple[str, list[str]]:
        lines: list[str] = []
        while len(lines) < 100:
            line = await _line(reader)
            lines.append(line[4:].strip().upper())
            if not line[:3].isdigit():
                raise ValueError
            if line[3:4] != "-":
                return line[:3], lines
        raise ValueError

    def expect(code: str, wanted: str) -> None:
        if code != wanted:
            raise _TroubleError(Status.UNKNOWN, f"The server answered {code} instead of {wanted}; see its log.")

    expect((await answer())[0], "220")
    writer.write(b"EHLO localhost\r\n")
    code, offered = await answer()
    expect(code, "250")
    if "STARTTLS" not in offered:
        raise _TroubleError(Status.BREACH, "The server offers no STARTTLS; turn TLS on there.")
    writer.write(b"STARTTLS\r\n")
    expect((await answer())[0], "220")


async def _start_imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """RFC 9051, 6.2.1; a server may say other things before it answers."""
    if not (await _line(reader)).startswith("* OK"):
        raise ValueError
    writer.write(b"a STARTTLS\r\n")
    for _ in range(100):
        line = await _line(reader)
        if line.startswith("a OK"):
            return
        if line.startswith("a "):
            raise _TroubleError(Status.BREACH, "The server refuses STARTTLS; turn TLS on there.")
    raise ValueError


async def _line(reader: asyncio.StreamReader) -> str:
    """A line of a protocol of lines, without its end.

    :raises ValueError: it is no text, or has no end
    """
    line = (await reader.readline()).decode("ascii").rstrip("\r\n")
    if not line:
        raise asyncio.IncompleteReadError(b"", None)
    return line


async def _start_tls(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


_START = {"tls": _start_tls, "postgresql": _start_postgresql, "smtp": _start_smtp, "imap": _start_imap}


class _Contexts:
    """OpenSSL's settings, made once for each file of authorities: to read it takes longer than ten handshakes."""

    def __init__(self) -> None:
        self._made: dict[tuple[str | None, bool, bool], ssl.SSLContext] = {}

    def get(self, ca_cert: str | None, *, verify: bool = True, old: bool = False) -> ssl.SSLContext:
        """One that verifies, or one that looks; ``old`` offers nothing newer than TLS 1.1."""
        key = (ca_cert if verify else None, verify, old)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    @staticmethod
    def _make(ca_cert: str | None, verify: bool, old: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The name is judged by rules/tls/names.py, so that it hides nothing else.
        context.check_hostname = False
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            # To see whether a server still speaks an old version, it has to be offered.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            if old:
                context.maximum_version = ssl.TLSVersion.TLSv1_1
        if not verify:
            context.verify_mode = ssl.CERT_NONE
            return context
        context.verify_flags = ssl.VerifyFlags(int(context.verify_flags) | _NO_CHECK_TIME)
        if ca_cert is None:
            context.load_default_certs()
            return context
        try:
            context.load_verify_locations(cafile=ca_cert)
        except ssl.SSLError:
            raise RunbookError(f"ca_cert: {ca_cert} holds no certificate in PEM format; download it again.") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RunbookError(
                f"ca_cert: {ca_cert} cannot be read ({reason}); put the authorities' certificates there."
            ) from None
        return context


# --- certificates -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)  # a few authorities sign most certificates
def _parsed(der: bytes) -> Certificate:
    try:
        return _certificate(x509.load_der_x509_certificate(der))
    except ValueError as error:
        msg = f"A certificate of the chain cannot be read ({error}); have it issued again."
        raise _TroubleError(Status.BREACH, msg) from None


def _certificate(made: x509.Certificate) -> Certificate:
    """:raises ValueError: it is not what RFC 5280 says"""
    names: list[str] = []
    addresses: list[str] = []
    with suppress(x509.ExtensionNotFound):
        san = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = san.get_values_for_type(x509.DNSName)
        addresses = [
            str(each)
            for each in san.get_values_for_type(x509.IPAddress)
            if isinstance(each, (ipaddress.IPv4Address, ipaddress.IPv6Address))
        ]
    server_auth = True
    with suppress(x509.ExtensionNotFound):
        usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        server_auth = ExtendedKeyUsageOID.SERVER_AUTH in usage
    try:
        signature_hash = made.signature_hash_algorithm.name if made.signature_hash_algorithm else ""
    except UnsupportedAlgorithm:
        signature_hash = made.signature_algorithm_oid.dotted_string
    kind, bits = _key(made)
    return Certificate(
        subject=_named(made.subject),
        issuer=_named(made.issuer),
        serial=f"{made.serial_number:x}",
        fingerprint=made.fingerprint(hashes.SHA256()).hex(),
        not_before=made.not_valid_before_utc.astimezone(UTC),
        not_after=made.not_valid_after_utc.astimezone(UTC),
        dns_names=tuple(names),
        addresses=tuple(addresses),
        key_kind=kind,
        key_bits=bits,
        signature_hash=signature_hash,
        server_auth=server_auth,
        is_public=_is_public(made),
        timestamps=_timestamps(made),
        crl_urls=_crl_urls(made),
        issuer_organization=next(
            (str(each.value) for each in made.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)), ""
        ),
        der=made.public_bytes(Encoding.DER),
    )


def _is_public(made: x509.Certificate) -> bool:
    with suppress(x509.ExtensionNotFound):
        policies = made.extensions.get_extension_for_class(x509.CertificatePolicies).value
        return any(each.policy_identifier.dotted_string.startswith(_FORUM) for each in policies)
    return False


def _timestamps(made: x509.Certificate) -> int:
    with suppress(x509.ExtensionNotFound):
        kind = x509.PrecertificateSignedCertificateTimestamps
        return len(list(made.extensions.get_extension_for_class(kind).value))
    return 0


def _crl_urls(made: x509.Certificate) -> tuple[str, ...]:
    with suppress(x509.ExtensionNotFound):
        points = made.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        names = [str(name.value) for point in points for name in point.full_name or ()]
        return tuple(name for name in names if name.startswith("http://"))
    return ()


def _named(name: x509.Name) -> str:
    """A name as people write it; certificates for servers have often none."""
    common = [str(each.value) for each in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return common[0] if len(name) == len(common) == 1 else name.rfc4514_string()


def _key(made: x509.Certificate) -> tuple[str, int]:
    try:
        key = made.public_key()
    except UnsupportedAlgorithm:
        return made.public_key_algorithm_oid.dotted_string, 0
    match key:
        case rsa.RSAPublicKey():
            return "RSA", key.key_size
        case ec.EllipticCurvePublicKey():
            return "EC", key.key_size
        case dsa.DSAPublicKey():
            return "DSA", key.key_size
        case ed25519.Ed25519PublicKey():
            return "Ed25519", 256
        case ed448.Ed448PublicKey():
            return "Ed448", 448
        case _:
            return made.public_key_algorithm_oid.dotted_string, 0
