#!/usr/bin/python
"""Module tls_certificate_stored_info: the certificates that lie on a server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_stored_info
short_description: Read the certificates that M(tls_certificate_install) keeps on a server
description:
  - Runs on the server. Returns the certificate in use of each directory with its chain, which is public; no key is
    read.
options:
  directories:
    description: Folders as in M(tls_certificate_install).
    type: list
    elements: path
    required: true
attributes:
  check_mode: {support: full, description: "Reads only, so it does the same."}
  diff_mode: {support: none, description: Changes nothing.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Read the certificate of the application
  tls_certificate_stored_info:
    directories: [/etc/runbook-tls/app]
"""

RETURN = r"""
msg: {description: "How many there are, in one sentence.", returned: always, type: str}
status: {description: "V(ok), or V(breach) with the reason in C(msg).", returned: always, type: str}
stored:
  description: One for each directory, in their order.
  returned: success
  type: list
  elements: dict
  contains:
    directory: {description: The folder., type: str}
    generation: {description: Name of the generation in use; empty if there is none., type: str}
    chain: {description: The certificate with its chain in PEM format; empty if there is none., type: str}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers.tls.generations import Generations
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """Read each."""
    found = []
    for directory in context.params["directories"]:
        generations = Generations(Path(directory))
        found.append({"directory": directory, "generation": generations.current(), "chain": generations.chain()})
    there = sum(1 for each in found if each["chain"])
    return {
        "changed": False, "msg": f"{count(there, 'certificate')} of {len(found)} found.", "stored": found,
    }  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="tls_certificate_stored_info",
        argument_spec={"directories": {"type": "list", "elements": "path", "required": True}},
    )


if __name__ == "__main__":
    main()
