#!/usr/bin/python
"""Module tls_certificate_install: a certificate put into use on a server, or taken back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_install
short_description: Put a certificate into use on a server, or take it back
description:
  - Runs on the server. O(directory) holds key and certificate as generations, folders of C(privkey.pem) and
    C(fullchain.pem), and a symbolic link C(current) to the one in use, which the server is configured with. So both
    are exchanged by one rename.
  - After the rename O(test_command) and O(reload_command) run. If one of them fails the files of before are in use
    again, and loaded.
  - The generation before is kept, older ones are deleted.
options:
  directory:
    description: Folder of the generations. Nothing else may lie in it.
    type: path
    required: true
  state:
    description:
      - V(installed) makes a generation of the key of M(tls_certificate_request) and of O(full_chain), and uses it.
      - V(loaded) lets the server read again what is in use.
      - V(previous) uses the generation before, and deletes the newer one.
    type: str
    choices: [installed, loaded, previous]
    default: installed
  full_chain:
    description: The certificate with its chain in PEM format. Needed for V(installed).
    type: str
  key_group:
    description: Group on the server that may read the key. By default only its owner may.
    type: str
    default: ""
  test_command:
    description: Program with its arguments that says whether the server's configuration is sound. May be empty.
    type: list
    elements: str
    default: []
  reload_command:
    description: Program with its arguments that lets the server read its files again.
    type: list
    elements: str
    required: true
  timeout_s:
    description: How long each of the two commands may take, 1 to 600 seconds.
    type: int
    default: 60
  permitted:
    description: Set by the action plugin of the same name, once this run may write. A task does not set it.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: "Says what it would do, and writes nothing."}
  diff_mode: {support: none, description: There is nothing to compare but names of folders.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Use the new certificate
  tls_certificate_install:
    directory: /etc/runbook-tls/app
    full_chain: "{{ certificate_renewal_issued.selected_chain.full_chain }}"
    test_command: [nginx, -t]
    reload_command: [systemctl, reload, nginx]
"""

RETURN = r"""
msg: {description: "What is in use now, in one sentence.", returned: always, type: str}
status: {description: "V(ok), or V(breach) with the reason in C(msg).", returned: always, type: str}
generation: {description: Name of the generation in use; empty if there is none., returned: success, type: str}
is_new: {description: Whether another generation is in use than before., returned: success, type: bool}
previous: {description: Name of the generation that was in use before., returned: success, type: str}
fingerprint: {description: "SHA-256 of the certificate in use, hexadecimal; empty if there is none.", returned: success,
              type: str}
deleted: {description: Generations that were deleted., returned: success, type: list}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.tls.generations import Generations, fingerprint, run
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module

BOUNDS = {"timeout_s": (1, 600)}


def wanted(state: str, generations: Generations, chain: str) -> str:
    """The generation that is to be used; empty where it has to be made.

    :raises RunbookError: there is none
    """
    if state == "installed":
        there = generations.chain()
        return generations.current() if there and fingerprint(there) == fingerprint(chain) else ""
    name = generations.before() if state == "previous" else generations.current()
    if not name:
        which = "earlier certificate" if state == "previous" else "certificate"
        raise RunbookError(f"directory: {generations.folder} holds no {which}; renew it.")
    return name


def load(params: dict[str, Any]) -> None:
    """Let the server read its files.

    :raises RunbookError: it does not
    """
    if params["test_command"]:
        run(params["test_command"], "The server refuses its configuration", timeout_s=params["timeout_s"])
    run(params["reload_command"], "The server was not reloaded", timeout_s=params["timeout_s"])


def go_back(generations: Generations, before: str, after: str, params: dict[str, Any], why: RunbookError) -> None:
    """Use again what was in use.

    :raises RunbookError: always: ``why``, and what is in use now
    """
    if before:
        generations.use(before)
    else:
        generations.unlink()
    generations.remove(after)
    said = "The files of before are in use again"
    try:
        load(params)
    except RunbookError as error:
        raise RunbookError(f"{why.message} {said}, but: {error.message}", **why.context) from None
    raise RunbookError(f"{why.message} {said}, and loaded.", **why.context)


def core(context: Context) -> dict[str, Any]:
    """Exchange by one rename, load, and go back where that fails."""
    params, state = context.params, context.params["state"]
    context.require_bounds(BOUNDS)
    if not params["permitted"]:
        permits.require_server(context.run)
    if not params["reload_command"]:
        raise RunbookError("reload_command: it is empty; name the program that lets the server read its files.")
    chain = params["full_chain"] or ""
    if state == "installed":
        fingerprint(chain)
    generations = Generations(Path(params["directory"]), params["key_group"])
    if context.check_mode:
        name = wanted(state, generations, chain)
        use = name or "A new generation"
        is_new = name != generations.current()
        return {
            "changed": is_new or state == "loaded", "is_new": is_new, "msg": f"{use} would be used and loaded.",
            "generation": name, "previous": generations.current(), "fingerprint": "", "deleted": [],
        }  # fmt: skip
    with generations.locked():
        before = generations.current()
        name = wanted(state, generations, chain)
        if name and name == before and state == "installed":
            return _said(generations, before, "was in use already", changed=False)
        name = name or generations.add(chain)
        try:
            if name != before:
                generations.use(name)
            load(params)
        except RunbookError as error:
            if name == before or state == "previous":
                raise
            go_back(generations, before, name, params, error)
        return _said(generations, before, "is in use and loaded", changed=True, deleted=generations.clean())


def _said(generations: Generations, before: str, words: str, *, changed: bool, deleted: Any = ()) -> dict[str, Any]:
    current = generations.current()
    return {
        "changed": changed, "msg": f"{generations.folder / current} {words}.", "generation": current,
        "is_new": current != before, "previous": before, "fingerprint": fingerprint(generations.chain()),
        "deleted": list(deleted),
    }  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="tls_certificate_install",
        argument_spec={
            "directory": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["installed", "loaded", "previous"], "default": "installed"},
            "full_chain": {"type": "str"},
            "key_group": {"type": "str", "default": "", "no_log": False},
            "test_command": {"type": "list", "elements": "str", "default": []},
            "reload_command": {"type": "list", "elements": "str", "required": True},
            "timeout_s": {"type": "int", "default": 60},
            "permitted": {"type": "bool", "default": False},
        },
        required_if=[("state", "installed", ["full_chain"])],
    )


if __name__ == "__main__":
    main()
