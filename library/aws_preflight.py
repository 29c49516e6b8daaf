#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_preflight
short_description: Verify which account of AWS the credentials belong to
description:
  - Verifies that the credentials belong to the account that the inventory pins. Run M(runbook_preflight) first in the
    same run.
  - Takes the lease if the inventory names a state store. C(ansible-playbook) renews and releases it.
  - Records the result in the folder of the run. Modules that write to an account refuse one that has not passed in the
    same run.
extends_documentation_fragment:
  - runbook_aws
  - runbook_state
  - runbook_lease
attributes:
  check_mode:
    support: full
    description:
      - Runs the checks. Reads the lease without taking it, and fails if another run holds it. Other modules of the run
        may then only read.
  diff_mode:
    support: none
    description: Writes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Verify the account
  aws_preflight:
    account_id: "123456789012"
    profile: mental-scribe-keys
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: What was verified, or which check failed and the fix, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if it is another account, V(unknown) if AWS does not say.
  type: str
  returned: always
checks:
  description: The checks, C(identity) and C(lease), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when this run passed M(runbook_preflight)
target:
  description:
    - The verified target, with C(kind) (V(aws_account)), C(place) (V(AWS), or the server's address), C(name) (number of
      the account) and C(environment) (of this run).
  type: dict
  returned: success
lease:
  description:
    - C(name), C(decision) (V(acquire), V(renew), V(take_over); V(none) without a state store or O(take_lease)) and
      C(expires_at). In check mode C(decision) is what the real run would do, and C(expires_at) is null.
  type: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import lease_wait, permits, state_lease
from ansible.module_utils.runbook.drivers.keys.access_keys import Account, argument_spec
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight


def core(context: Context) -> dict[str, Any]:
    """Compare the account with the inventory, and write down what passed."""
    params, checks = context.params, preflight.Checks()
    context.require_bounds(lease_wait.BOUNDS)
    approval = permits.require_approval(context.run)
    with checks.named("identity") as check:
        account, pinned = Account(params), params["account_id"] or ""
        found = account.account_id()
        if found != pinned:
            raise RunbookError(
                f"account_id: the credentials belong to account {found}, and the inventory "
                f"{'means ' + pinned if pinned else 'pins none'}; check whose credentials these are."
            )
        check["msg"] = f"Account {found}, as pinned."
    admitted = state_lease.admit(params, context.run, account.target, approval, checks, context.progress.update)
    return context.conclude(checks.done, msg=checks.done[0].msg, **admitted)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="aws_preflight", argument_spec=argument_spec() | state_lease.argument_spec())


if __name__ == "__main__":
    main()
