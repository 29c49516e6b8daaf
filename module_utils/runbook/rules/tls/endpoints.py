"""Where certificates are looked at: what an inventory says of an endpoint, read once and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.tls.names import ascii_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: How TLS begins, with the port where it usually does.
PORTS = {"tls": 443, "postgresql": 5432, "smtp": 25, "imap": 143}
FAMILIES = ("any", "ipv4", "ipv6")
#: The modes of libpq in which a client insists on TLS.
_WITH_TLS = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Endpoint:
    """An endpoint to look at."""

    host: str
    port: int
    #: One of :data:`PORTS`: TLS at once, or after a request in that protocol.
    protocol: str
    #: Sent as SNI, and for whom the certificate must be; as ``names.ascii_name`` gives it.
    server_name: str
    #: What reports and metrics call it.
    name: str = ""
    #: Whether clients look at the name.
    check_name: bool = True
    #: File with the trusted authorities; None for those of this machine.
    ca_cert: str | None = None
    #: File with the certificate that must be served; empty where that is not asked.
    path: str = ""
    #: One of :data:`FAMILIES`.
    family: str = "any"


def argument_spec() -> dict[str, dict[str, Any]]:
    """The option ``endpoints`` of a module."""
    return {
        "endpoints": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str"},
                "host": {"type": "str", "required": True},
                "port": {"type": "int"},
                "protocol": {"type": "str", "choices": list(PORTS), "default": "tls"},
                "server_name": {"type": "str"},
                "check_name": {"type": "bool", "default": True},
                "ca_cert": {"type": "path"},
                "path": {"type": "path"},
                "family": {"type": "str", "choices": list(FAMILIES), "default": "any"},
            },
        }
    }


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """An endpoint that no option of a module has read, with what it leaves out.

    :raises RunbookError: it has a key that does not exist, or no host
    """
    options = argument_spec()["endpoints"]["options"]
    odd = next((key for key in given if key not in options), None)
    if odd is not None or not given.get("host"):
        what = f"{odd} is no key of an endpoint" if odd else "one has no host"
        raise RunbookError(f"endpoints: {what}; an endpoint has {', '.join(options)}.")
    return {key: given.get(key, option.get("default")) for key, option in options.items()}


def read(given: Sequence[Mapping[str, Any]], libpq_root: str | None) -> list[Endpoint]:
    """The endpoints of an option, in their order.

    :param libpq_root: the file of authorities that libpq takes where nobody names one; None where there is none
    :raises RunbookError: a value cannot be meant, or a name is there twice
    """
    made = [_read(each, libpq_root) for each in given]
    names = [each.name for each in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RunbookError(f"endpoints[].name: {twice} is there twice; give each endpoint a name of its own.")
    return made


def of_database(name: str, host: str, port: int, ssl_mode: str, ca_cert: str | None) -> list[dict[str, Any]]:
    """A database as the option ``endpoints`` has it; none where its clients ask for no TLS, or by a socket.

    :param name: what reports call it
    :param ssl_mode: as its clients have it; only ``verify-full`` looks at the name
    """
    if ssl_mode not in _WITH_TLS or host.startswith("/"):
        return []
    return [
        {
            "name": name, "host": host, "port": port, "protocol": "postgresql", "server_name": None,
            "check_name": ssl_mode == "verify-full", "ca_cert": ca_cert, "path": None, "family": "any",
        }
    ]  # fmt: skip


def _read(given: Mapping[str, Any], libpq_root: str | None) -> Endpoint:
    protocol, ca_cert, asked = given["protocol"], given["ca_cert"], given["server_name"]
    port = PORTS[protocol] if given["port"] is None else given["port"]
    if not 1 <= port <= 65_535:
        raise RunbookError(f"endpoints[].port: {port} is out of bounds; give a number from 1 to 65535.")
    host = ascii_name("endpoints[].host", given["host"])
    if ca_cert is None and protocol == "postgresql":
        ca_cert = libpq_root
    return Endpoint(
        host=host,
        port=port,
        protocol=protocol,
        server_name=host if asked is None else ascii_name("endpoints[].server_name", asked),
        name=given["name"] or f"{host}:{port}",
        check_name=given["check_name"],
        ca_cert=None if ca_cert == "system" else ca_cert,
        path=given["path"] or "",
        family=given["family"],
    )
