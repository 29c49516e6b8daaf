#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_preflight
short_description: Prove that a bucket belongs to this environment
description:
  - The proof of a bucket, once M(runbook_preflight) has passed in the same run. The bucket's tag C(runbook-environment)
    must name the environment of that inventory. No database is asked.
  - Then the lease is taken, where the inventory names a state store. C(ansible-playbook) renews it, and gives it back.
  - What passed is written down in the run's folder. Modules that write to a bucket look for it, and refuse one that has
    not passed in this very run, though it may bear the same tag.
extends_documentation_fragment:
  - runbook_s3
  - runbook_state
  - runbook_lease
attributes:
  check_mode:
    support: full
    description:
      - The checks run. The lease is read, not taken; one that is held is refused as in the real run. What passed
        permits other modules of this run nothing but a look.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Let the bucket prove itself
  s3_preflight:
    bucket: mental-scribe-backups-production
    region: eu-central-1
    profile: runbook
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where the bucket is another environment's, V(unknown) where it cannot be asked.
  type: str
  returned: always
checks:
  description: The checks, C(tag) and C(lease), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when this run passed M(runbook_preflight)
target:
  description:
    - What was proven, C(kind) (V(bucket)), C(place) (V(AWS), or the server's address), C(name), and the C(environment)
      of its tag.
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
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight as rules


def core(context: Context) -> dict[str, Any]:
    """Read the tag, and write down what passed."""
    params, checks = context.params, rules.Checks()
    context.require_bounds(lease_wait.BOUNDS)
    approval = permits.require_approval(context.run)
    with checks.named("tag") as check:
        rules.check_filled_in({name: params[name] for name in ("bucket", "endpoint_url")})
        store = s3.Store.from_params(params)
        store.require_environment(approval.environment)
        check["msg"] = f"Bucket {store.bucket} belongs to {approval.environment} by its tag {s3.ENVIRONMENT_TAG}."
    admitted = state_lease.admit(params, context.run, store.target, approval, checks, context.progress.update)
    return context.conclude(checks.done, msg=checks.done[0].msg, **admitted)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="s3_preflight", argument_spec=s3.argument_spec() | state_lease.argument_spec())


if __name__ == "__main__":
    main()
