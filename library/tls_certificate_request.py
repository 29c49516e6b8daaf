#!/usr/bin/python
"""Module tls_certificate_request: a key and a certificate signing request on a server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_request
short_description: Make a key and a certificate signing request on a server
description:
  - Runs on the server. Makes a private key, which never leaves it, and a request for a certificate, in the folder
    C(next) of O(directory). Nothing of what is in use is touched.
  - What an earlier run left for the same names is used again.
options:
  directory:
    description: Folder as in M(tls_certificate_install).
    type: path
    required: true
  names:
    description: Host names and addresses that the certificate is for.
    type: list
    elements: str
    required: true
  key_type:
    description: V(EC) is P-256, V(RSA) has 2048 bits.
    type: str
    choices: [EC, RSA]
    default: EC
  permitted:
    description: Set by the action plugin of the same name, once this run may write. A task does not set it.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: "Says what it would do, and writes nothing."}
  diff_mode: {support: none, description: There is nothing to compare.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Make a key and a request
  tls_certificate_request:
    directory: /etc/runbook-tls/app
    names: [app.example.com]
"""

RETURN = r"""
msg: {description: "What was made, in one sentence.", returned: always, type: str}
status: {description: "V(ok), or V(breach) with the reason in C(msg).", returned: always, type: str}
csr: {description: The request in PEM format; empty in check mode if there is none., returned: success, type: str}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.tls.generations import KEY_KINDS, Generations
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.tls.names import ascii_name
from ansible.module_utils.runbook.rules.words import some


def core(context: Context) -> dict[str, Any]:
    """Use what is there, or make it."""
    params = context.params
    if not params["permitted"]:
        permits.require_server(context.run)
    names = [ascii_name("names", each) for each in params["names"]]
    if not names:
        raise RunbookError("names: it is empty; name at least one host that the certificate is for.")
    generations, kind = Generations(Path(params["directory"])), params["key_type"]
    if context.check_mode:
        csr = generations.requested(names, kind)
        return {"changed": not csr, "msg": f"A key and a request for {some(names)} would be made.", "csr": csr}
    with generations.locked():
        csr = generations.requested(names, kind)
        if csr:
            return {"changed": False, "msg": f"The request for {some(names)} was there already.", "csr": csr}
        csr = generations.request(names, kind)
    return {"changed": True, "msg": f"A key and a request for {some(names)} were made.", "csr": csr}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="tls_certificate_request",
        argument_spec={
            "directory": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "key_type": {"type": "str", "choices": list(KEY_KINDS), "default": "EC"},
            "permitted": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
