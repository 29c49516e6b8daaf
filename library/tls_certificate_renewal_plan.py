#!/usr/bin/python
"""Module tls_certificate_renewal_plan: which certificates of a server have to be renewed, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_renewal_plan
short_description: Say which certificates of a server have to be renewed
description:
  - Runs on the bastion. A certificate is renewed if there is none, if it is for other names, if less than a third of
    its lifetime is left (see M(tls_certificate_info)), or if its authority asks for it (ACME Renewal Information, RFC
    9773).
  - It is only loaded if the file on the server is right and an address shows another certificate.
  - Where an endpoint does not answer the check is V(unknown), and the task does not fail.
options:
  certificates:
    description: The certificates of the server.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called in reports; each name once.
        type: str
        required: true
      names:
        description: Host names that it has to be for.
        type: list
        elements: str
        required: true
      directory:
        description: Folder on the server, as in M(tls_certificate_install).
        type: path
        required: true
      webroot:
        description: Folder on the server whose C(.well-known/acme-challenge) is served for these names on port 80.
        type: path
        required: true
      reload_command:
        description: As in M(tls_certificate_install).
        type: list
        elements: str
        required: true
      test_command:
        description: As in M(tls_certificate_install).
        type: list
        elements: str
        default: []
      key_type:
        description: As in M(tls_certificate_request).
        type: str
        choices: [EC, RSA]
        default: EC
      key_group:
        description: As in M(tls_certificate_install).
        type: str
        default: ""
      endpoints:
        description: Where it is served, as in M(tls_certificate_info). The default is each name at port 443.
        type: list
        elements: dict
        default: []
  stored:
    description: The result C(stored) of M(tls_certificate_stored_info), for the same certificates.
    type: list
    elements: dict
    required: true
  suggestions:
    description:
      - Results of C(community.crypto.acme_certificate_renewal_info), for the same certificates. Where the authority did
        not answer, the lifetime alone decides.
    type: list
    elements: dict
    required: true
  floor_days:
    description: As in M(tls_certificate_info).
    type: int
    default: 30
  account_key:
    description:
      - Private key of the ACME account in PEM format. Needed where a certificate is to be renewed, so that what is
        wrong with it is told before anything is begun.
    type: str
    default: ""
  contact:
    description: Addresses that the authority writes to, as C(mailto:ops@example.com).
    type: list
    elements: str
    default: []
  served_within_s:
    description: How long a new certificate may take until it is served, in seconds, 1 to 3600; checked like these.
    type: int
    default: 60
  timeout_s:
    description: As in M(tls_certificate_info).
    type: int
    default: 10
  deadline_s:
    description: As in M(tls_certificate_info).
    type: int
    default: 60
attributes:
  check_mode: {support: full, description: "Reads only, so it does the same."}
  diff_mode: {support: none, description: Changes nothing.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Say what is due
  tls_certificate_renewal_plan:
    certificates: "{{ certificate_renewal_certificates }}"
    stored: "{{ certificate_renewal_stored.stored }}"
    suggestions: "{{ certificate_renewal_suggested.results }}"
    account_key: "{{ certificate_renewal_account_key }}"
"""

RETURN = r"""
msg: {description: "What is due and why, in one sentence.", returned: always, type: str}
status: {description: "V(ok), or V(unknown) if an endpoint did not answer.", returned: always, type: str}
checks: {description: "One for each certificate, C(renewal), with what was decided and why.", returned: always,
         type: list}
due:
  description: The certificates that need something, as they were given, with these keys beside.
  returned: always
  type: list
  elements: dict
  contains:
    act: {description: "V(renew) or V(load).", type: str}
    state: {description: What M(tls_certificate_install) is told., type: str}
    why: {description: Why., type: str}
    replaces: {description: What an order of ACME says that it replaces; may be empty., type: str}
    endpoints: {description: "Where it is served, with the default filled in.", type: list}
authority_silent: {description: Certificates whose authority was asked and did not answer., returned: always,
                   type: list}
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import tls_probe
from ansible.module_utils.runbook.drivers.tls import endpoints as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.tls import endpoints, renewal
from ansible.module_utils.runbook.rules.tls.names import ascii_name
from ansible.module_utils.runbook.rules.words import some

BOUNDS = {"floor_days": (0, 365), "served_within_s": (1, 3600), "timeout_s": (1, 60), "deadline_s": (1, 3600)}


def checked(certificates: list[dict[str, Any]]) -> None:
    """Refuse what cannot be meant, before anybody is asked.

    :raises RunbookError: a name is there twice, or a list is empty
    """
    if not certificates:
        raise RunbookError("certificates: it is empty; name at least one certificate of this server.")
    for key in ("name", "directory"):
        values = [each[key] for each in certificates]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise RunbookError(f"certificates[].{key}: {twice} is there twice; give each certificate its own.")
    for each in certificates:
        empty = next((key for key in ("names", "reload_command") if not each[key]), None)
        if empty:
            raise RunbookError(f"certificates[].{empty}: it is empty for {each['name']}; fill it in.")


def core(context: Context) -> dict[str, Any]:
    """Look at what is served, and decide for each."""
    context.require_bounds(BOUNDS)
    params = context.params
    certificates, stored, suggested = params["certificates"], params["stored"], params["suggestions"]
    checked(certificates)
    if not len(certificates) == len(stored) == len(suggested):
        raise RunbookError("stored, suggestions: they are not for the same certificates; run the playbook as it is.")
    root, decisions, due, silent = tls_probe.libpq_root(), [], [], []
    for each, there, result in zip(certificates, stored, suggested, strict=True):
        names = [ascii_name("certificates[].names", name) for name in each["names"]]
        where = each["endpoints"] or [{"host": name} for name in names]
        seen = driver.look(
            endpoints.read([endpoints.with_defaults(place) for place in where], root),
            timeout_s=params["timeout_s"], deadline_s=params["deadline_s"],
        )  # fmt: skip
        suggestion = renewal.Suggestion.of(result)
        made = renewal.decide(
            each["name"], names, driver.first(there["chain"]), suggestion,
            [shown for one in seen for shown in one], datetime.now(UTC), params["floor_days"],
        )  # fmt: skip
        decisions.append(made)
        if suggestion.renew is None and there["chain"]:
            silent.append(each["name"])
        if made.act is not renewal.Act.NOTHING:
            state = "installed" if made.act is renewal.Act.RENEW else "loaded"
            said = {"act": str(made.act), "state": state, "why": made.check.msg, "replaces": suggestion.certificate_id}
            due.append(each | {"names": names, "endpoints": where} | said)
    if any(each["act"] == renewal.Act.RENEW for each in due):
        renewal.check_account(params["account_key"], params["contact"])
    checks = [made.check for made in decisions]
    msg = "; ".join(f"{each['act']} {each['name']}: {each['why']}" for each in due) or "No certificate is due."
    return context.conclude(
        checks, msg=f"{msg} {_unasked(silent)}".strip(), fail_on_unknown=False, due=due, authority_silent=silent,
    )  # fmt: skip


def _unasked(silent: list[str]) -> str:
    return f"The authority did not answer for {some(silent)}; the lifetime alone decided." if silent else ""


def main() -> None:
    """Run as an Ansible module."""
    text, texts = {"type": "str", "default": ""}, {"type": "list", "elements": "str"}
    certificate: dict[str, dict[str, Any]] = {
        "name": {"type": "str", "required": True},
        "names": texts | {"required": True},
        "directory": {"type": "path", "required": True},
        "webroot": {"type": "path", "required": True},
        "reload_command": texts | {"required": True},
        "test_command": texts | {"default": []},
        "key_type": {"type": "str", "choices": ["EC", "RSA"], "default": "EC"},
        "key_group": text | {"no_log": False},
        "endpoints": {"type": "list", "elements": "dict", "default": []},
    }
    anything = {"type": "list", "elements": "dict", "required": True}
    run_module(
        core,
        name="tls_certificate_renewal_plan",
        argument_spec={
            "certificates": anything | {"options": certificate},
            "stored": anything,
            "suggestions": anything,
            "floor_days": {"type": "int", "default": 30},
            "account_key": text | {"no_log": True},
            "contact": texts | {"default": []},
            "served_within_s": {"type": "int", "default": 60},
            "timeout_s": {"type": "int", "default": 10},
            "deadline_s": {"type": "int", "default": 60},
        },
    )


if __name__ == "__main__":
    main()
