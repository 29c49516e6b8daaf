#!/usr/bin/python
"""Module tls_certificate_info: whether servers show the certificates that they should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_info
short_description: Check the certificates that servers show
description:
  - Shakes hands with every address behind every name, IPv4 and IPv6, all at the same time, and judges what is shown.
    A server that does not answer holds up no other. Nothing is sent after the handshake, nothing is written.
  - The questions are C(reach) (it answers, with TLS), C(name), C(lifetime), C(chain) (as it was sent, under the stated
    authorities), C(purpose), C(key), C(signature), C(transparency) (a public authority's certificate holds two
    timestamps of logs), C(revocation) (it is not on the list that it names), C(caa) (the zone permits its authority),
    C(version) (TLS 1.2 or newer, and nothing older), C(same) (all addresses serve one certificate) and C(disk) (it is
    the one in the file). What an address did not show is not judged, and its C(reach) is V(unknown).
  - A certificate is due when less than a third of its lifetime is left, and critical under a sixth. A lifetime of more
    than 200 days counts as 200. Both are V(breach).
  - The module fails where a check is not V(ok).
options:
  endpoints:
    description: Where to look.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called in reports and metrics; each name once. By default the host and the port.
        type: str
      host:
        description: Host name, also an international one, or address.
        type: str
        required: true
      port:
        description: Port, 1 to 65535. The default is that of the protocol, 443, 5432, 25 or 143.
        type: int
      protocol:
        description:
          - How TLS begins. V(tls) at once, as with HTTPS; V(postgresql) after PostgreSQL's SSLRequest; V(smtp) and
            V(imap) after STARTTLS.
        type: str
        choices: [tls, postgresql, smtp, imap]
        default: tls
      server_name:
        description: For whom the certificate must be, and what is asked for by SNI. The default is O(endpoints[].host).
        type: str
      check_name:
        description: V(false) where clients do not look at the name, as with libpq's V(verify-ca).
        type: bool
        default: true
      ca_cert:
        description:
          - File with the trusted authorities. The default are those of this machine, and with V(postgresql) the file
            that libpq takes, C(~/.postgresql/root.crt), where there is one. V(system) means those of this machine.
        type: path
      path:
        description: File on this machine, in PEM format, with the certificate that must be served.
        type: path
      family:
        description: Which addresses are looked at. Say V(ipv4) where this machine has no IPv6 though the name has.
        type: str
        choices: [any, ipv4, ipv6]
        default: any
  database:
    description: A database whose clients' settings say whether its certificate is looked at, and how.
    type: dict
    suboptions:
      name:
        description: As O(endpoints[].name).
        type: str
        required: true
      host:
        description: Host name or address; a socket's folder has no certificate.
        type: str
        required: true
      port:
        description: Port.
        type: int
        required: true
      ssl_mode:
        description:
          - As libpq's clients have it. Nothing is looked at under V(require), and the name counts with V(verify-full)
            alone.
        type: str
        required: true
      ca_cert:
        description: As O(endpoints[].ca_cert).
        type: path
  shared_with:
    description:
      - Inventory hosts that have the same O(endpoints). The first of them looks at those, the others at their
        O(database) alone.
    type: list
    elements: str
    default: []
  revocation:
    description:
      - Whether revocation lists are fetched, over HTTP from where certificates name them. V(false) where this machine
        may not reach them; then nobody looks.
    type: bool
    default: true
  floor_days:
    description:
      - A certificate is due when fewer days are left, 0 to 365, even if that is more than a third of its lifetime. It
        does not count for lifetimes under 90 days.
    type: int
    default: 30
  timeout_s:
    description: How long the resolver, or one handshake with the connection before it, may take, 1 to 60 seconds.
    type: int
    default: 10
  deadline_s:
    description: How long all may take, 1 to 3600 seconds. What is not done by then is V(unknown).
    type: int
    default: 120
attributes:
  check_mode: {support: full, description: "Reads only, so it does the same."}
  diff_mode: {support: none, description: Changes nothing.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Check the application, its mail server and the database
  tls_certificate_info:
    endpoints:
      - host: app.example.com
      - host: mail.example.com
        protocol: smtp
      - name: database
        host: db.example.com
        protocol: postgresql
        ca_cert: /etc/runbook/db-ca.pem
      - name: load balancer
        host: 192.0.2.10
        server_name: app.example.com
        path: /etc/nginx/app.example.com.pem
"""

RETURN = r"""
msg: {description: "What is not ok and the fix, or how many certificates are.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
checks:
  description: One for each endpoint and question, with its C(name), C(status), C(msg) and C(subject).
  returned: always
  type: list
looked_at: {description: Number of addresses that showed a certificate., returned: always, type: int}
endpoints: {description: Number of endpoints., returned: always, type: int}
addresses:
  description:
    - What each address of each endpoint showed. Without a certificate only C(endpoint), C(address), C(port) and
      C(status) are there.
  returned: always
  type: list
  elements: dict
  contains:
    endpoint: {description: Name of the endpoint., type: str}
    address: {description: Address., type: str}
    port: {description: Port., type: int}
    status: {description: "V(ok) or V(breach) if it showed a certificate that is current, or not; else V(unknown).",
             type: str}
    renewal: {description: "V(current), V(due), V(critical), V(expired) or V(not_yet_valid).", type: str}
    not_before: {description: Beginning of the validity., type: str}
    not_after: {description: End of the validity., type: str}
    due_at: {description: When the certificate is due., type: str}
    critical_at: {description: When it is critical., type: str}
    days_left: {description: Days until the end., type: float}
    fraction_left: {description: "Of the lifetime, what is left, 0 to 1.", type: float}
    subject: {description: Whose it is., type: str}
    issuer: {description: Who issued it., type: str}
    names: {description: For which names and addresses it is., type: list}
    serial: {description: "Serial number, hexadecimal.", type: str}
    fingerprint: {description: "SHA-256 of the certificate, hexadecimal.", type: str}
    key: {description: Kind and bits of the key., type: str}
    signature: {description: Hash of the signature., type: str}
    sent: {description: Number of certificates that were sent., type: int}
    version: {description: The best version of TLS that both sides know., type: str}
    old_version:
      description: A version under 1.2 that is still answered; empty if there is none, null if that is not known.
      type: str
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.postgres import tls_probe
from ansible.module_utils.runbook.drivers.tls import authorities
from ansible.module_utils.runbook.drivers.tls import endpoints as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Check, Status, sentence
from ansible.module_utils.runbook.rules.tls import endpoints, names
from ansible.module_utils.runbook.rules.tls import judge as rules
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.tls.certificates import Seen
    from ansible.module_utils.runbook.rules.tls.endpoints import Endpoint

BOUNDS = {"floor_days": (0, 365), "timeout_s": (1, 60), "deadline_s": (1, 3600)}


def demand(endpoint: Endpoint, floor_days: int) -> rules.Demand:
    """What an endpoint must be."""
    return rules.Demand(
        name=endpoint.name,
        server_name=endpoint.server_name if endpoint.check_name else "",
        floor_days=floor_days,
        trust=endpoint.ca_cert or rules.THIS_MACHINE,
        path=endpoint.path,
        on_disk=driver.file_fingerprint(Path(endpoint.path)) if endpoint.path else "",
    )


def given(context: Context) -> list[dict[str, Any]]:
    """The endpoints that this host looks at.

    :raises RunbookError: there is none in the whole run
    """
    params = context.params
    hosts = params["shared_with"]
    is_first = not hosts or context.run.host == hosts[0]
    shared = params["endpoints"] if is_first else []
    database = params["database"]
    own = endpoints.of_database(**database) if database else []
    if not own and not shared and (is_first and len(hosts) <= 1):
        raise RunbookError("endpoints: it is empty; name at least one host whose certificate is to be checked.")
    return [*own, *shared]


def _asked(params: dict[str, Any], meant: list[Endpoint], found: list[list[Seen]]) -> rules.Beyond:
    """What others say of the certificates that were seen."""
    times = {"timeout_s": params["timeout_s"], "deadline_s": params["deadline_s"]}
    paths = [each.path for seen in found for each in seen if each.path]
    public = {
        place.server_name: None
        for place, seen in zip(meant, found, strict=True)
        if place.check_name and not names.is_address(place.server_name)
        if any(each.own is not None and each.own.is_public for each in seen)
    }
    return rules.Beyond(
        revocation=authorities.revoked(paths, **times) if params["revocation"] else {},
        caa=authorities.caa(list(public), **times) if public else {},
    )


def core(context: Context) -> dict[str, Any]:
    """Look at all, then judge each."""
    context.require_bounds(BOUNDS)
    meant = endpoints.read(given(context), tls_probe.libpq_root())
    floor_days = context.params["floor_days"]
    demands = [demand(each, floor_days) for each in meant]
    found = driver.look(meant, timeout_s=context.params["timeout_s"], deadline_s=context.params["deadline_s"])
    beyond = _asked(context.params, meant, found)
    now = datetime.now(UTC)
    checks: list[Check] = []
    addresses: list[dict[str, Any]] = []
    if not meant:
        msg = "Its clients ask for no TLS, so there is no certificate to look at."
        return context.conclude(Status.OK, msg=msg, checks=[], endpoints=0, looked_at=0, addresses=[])
    for made, place, seen in zip(demands, meant, found, strict=True):
        checks += rules.judge(made, seen, now, beyond)
        addresses += [{"port": place.port} | rules.figures(made, each, now) for each in seen]
    looked_at = sum(1 for each in addresses if "serial" in each)
    about = f"{count(len(meant), 'endpoint')}, {count(looked_at, 'certificate')} seen"
    named = [Check(f"{each.subject}: {each.name}", each.status, each.msg) for each in checks]
    hint = rules.clock_hint((each for seen in found for each in seen), now)
    return context.conclude(
        checks,
        msg=" ".join(filter(None, (hint, sentence(about, named)))),
        endpoints=len(meant),
        looked_at=looked_at,
        addresses=addresses,
    )


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    database = {
        "name": {"type": "str", "required": True},
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "ssl_mode": {"type": "str", "required": True},
        "ca_cert": {"type": "path"},
    }
    return endpoints.argument_spec() | {
        "database": {"type": "dict", "options": database},
        "shared_with": {"type": "list", "elements": "str", "default": []},
        "revocation": {"type": "bool", "default": True},
        "floor_days": {"type": "int", "default": 30},
        "timeout_s": {"type": "int", "default": 10},
        "deadline_s": {"type": "int", "default": 120},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="tls_certificate_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
