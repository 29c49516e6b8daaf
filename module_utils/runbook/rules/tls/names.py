"""Whether a certificate is for a name, as clients decide it (RFC 6125, RFC 9525)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.tls.certificates import Certificate

#: Letters that IDNA 2003, which Python knows, maps to something else, and IDNA 2008, which browsers use, keeps.
_DEVIATIONS = frozenset("ßς\u200c\u200d")


def ascii_name(option: str, name: str) -> str:
    """A host name as TLS and certificates write it, or an address in its usual form.

    >>> ascii_name("host", "Bücher.example."), ascii_name("host", "[2001:DB8::0:1]")
    ('xn--bcher-kva.example', '2001:db8::1')

    :param option: where the name was given
    :raises RunbookError: it is no host name, or its ``xn--`` form depends on who writes it
    """
    bare = name.strip().removeprefix("[").removesuffix("]")
    address = _address(bare)
    if address is not None:
        return str(address)
    if _DEVIATIONS.intersection(bare):
        raise RunbookError(f"{option}: {name}: programs disagree on how this name is encoded; give its xn-- form.")
    try:
        made = bare.removesuffix(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        made = ""
    if not made or len(made) > 253 or any(letter.isspace() or letter in "/:*@" for letter in made):
        raise RunbookError(f"{option}: {name!r} is no host name; give one such as db.example.com, or an address.")
    return made


def covers(certificate: Certificate, name: str) -> bool:
    """Whether a certificate is for a name or an address.

    Only the subject alternative name counts. A common name is none: browsers have not read it since 2017, and RFC 9525
    forbids it. A wildcard stands for one whole label, the first, and never for an address.

    :param name: as :func:`ascii_name` gives it
    """
    address = _address(name)
    if address is not None:
        return address in {_address(each) for each in certificate.addresses}
    return any(_matches(pattern.lower().removesuffix("."), name) for pattern in certificate.dns_names)


def is_address(name: str) -> bool:
    """Whether a name is an address."""
    return _address(name) is not None


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == name
    first, _, rest = name.partition(".")
    # *.example would be a whole top-level domain.
    return bool(first) and rest == pattern[2:] and "." in rest


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
