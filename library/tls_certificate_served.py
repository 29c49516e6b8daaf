#!/usr/bin/python
"""Module tls_certificate_served: whether a certificate is served at each address, and accepted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_served
short_description: Wait until a certificate is served at each of its addresses
description:
  - Runs on the bastion. Shakes hands with every address of every endpoint, until all of them show the certificate
    O(fingerprint), or O(deadline_s) is over. It must be for the endpoint's name, and its chain must be accepted.
  - The questions are those of M(tls_certificate_info) that a new certificate can answer wrongly, C(reach), C(name),
    C(chain) and C(disk). The task fails if one of them is not V(ok).
options:
  endpoints:
    description: Where it is served, as in M(tls_certificate_info).
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: As in M(tls_certificate_info)., type: str}
      host: {description: As in M(tls_certificate_info)., type: str, required: true}
      port: {description: As in M(tls_certificate_info)., type: int}
      protocol:
        description: As in M(tls_certificate_info).
        type: str
        choices: [tls, postgresql, smtp, imap]
        default: tls
      server_name: {description: As in M(tls_certificate_info)., type: str}
      check_name: {description: As in M(tls_certificate_info)., type: bool, default: true}
      ca_cert: {description: As in M(tls_certificate_info)., type: path}
      path: {description: Not used here., type: path}
      family:
        description: As in M(tls_certificate_info).
        type: str
        choices: [any, ipv4, ipv6]
        default: any
  fingerprint:
    description: SHA-256 of the certificate, hexadecimal.
    type: str
    required: true
  timeout_s:
    description: As in M(tls_certificate_info).
    type: int
    default: 10
  deadline_s:
    description: How long to wait, 1 to 3600 seconds.
    type: int
    default: 60
attributes:
  check_mode: {support: full, description: "Reads only, so it does the same."}
  diff_mode: {support: none, description: Changes nothing.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: See that it is served
  tls_certificate_served:
    endpoints: [{host: app.example.com}]
    fingerprint: "{{ certificate_renewal_installed.fingerprint }}"
"""

RETURN = r"""
msg: {description: "Where it is served, or what is not as it should be.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
checks: {description: "One for each endpoint and question, with its C(name), C(status), C(msg) and C(subject).",
         returned: always, type: list}
waited_s: {description: How long it took., returned: always, type: float}
"""

import time
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import tls_probe
from ansible.module_utils.runbook.drivers.tls import endpoints as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Check, Status, sentence, worst
from ansible.module_utils.runbook.rules.tls import endpoints, judge

BOUNDS = {"timeout_s": (1, 60), "deadline_s": (1, 3600)}
QUESTIONS = ("reach", "name", "chain", "disk")
#: Between two looks.
PAUSE_S = 0.5


def look(meant: list[endpoints.Endpoint], fingerprint: str, timeout_s: float, deadline_s: float) -> list[Check]:
    """The answers of one look at all addresses."""
    found = driver.look(meant, timeout_s=timeout_s, deadline_s=deadline_s)
    checks: list[Check] = []
    for each, seen in zip(meant, found, strict=True):
        demand = judge.Demand(
            each.name, each.server_name if each.check_name else "", 0, each.ca_cert or judge.THIS_MACHINE,
            path="use on the server", on_disk=fingerprint,
        )  # fmt: skip
        checks += [made for made in judge.judge(demand, seen, datetime.now(UTC)) if made.name in QUESTIONS]
    return checks


def core(context: Context) -> dict[str, Any]:
    """Look until all is well, or the time is over."""
    context.require_bounds(BOUNDS)
    params = context.params
    meant = endpoints.read(params["endpoints"], tls_probe.libpq_root())
    if not meant:
        raise RunbookError("endpoints: it is empty; name at least one host where the certificate is served.")
    begin = time.monotonic()
    while True:
        checks = look(meant, params["fingerprint"], params["timeout_s"], params["deadline_s"])
        waited_s = time.monotonic() - begin
        if worst(each.status for each in checks) is Status.OK or waited_s >= params["deadline_s"]:
            break
        time.sleep(PAUSE_S)
    named = [Check(f"{each.subject}: {each.name}", each.status, each.msg) for each in checks]
    about = f"The certificate {params['fingerprint'][:16]}"
    return context.conclude(checks, msg=sentence(about, named), waited_s=round(waited_s, 2))


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="tls_certificate_served",
        argument_spec=endpoints.argument_spec()
        | {
            "fingerprint": {"type": "str", "required": True},
            "timeout_s": {"type": "int", "default": 10},
            "deadline_s": {"type": "int", "default": 60},
        },
    )


if __name__ == "__main__":
    main()
