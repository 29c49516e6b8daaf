#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_preflight
short_description: Lets a bucket prove to which environment it belongs
description:
  - The proof of a bucket, once M(runbook_preflight) has passed in the same run. The bucket's tag C(runbook-environment)
    must name the environment of that inventory. No database is asked.
  - What passed is written down in the run's folder. Modules that write to a bucket look for it, and refuse one that has
    not passed in this very run, though it may bear the same tag.
extends_documentation_fragment: runbook_s3
attributes:
  check_mode:
    support: full
    description: The check runs. What passed permits other modules of this run nothing but a look.
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
  description: The one check, C(tag), with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: when this run passed M(runbook_preflight)
target:
  description:
    - What was proven, C(kind) (V(bucket)), C(place) (V(AWS), or the server's address), C(name), and the C(environment)
      of its tag.
  type: dict
  returned: success
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight as rules


def core(context: Context) -> dict[str, Any]:
    """Read the tag, and write down what passed."""
    checks = rules.Checks()
    environment = permits.require_approval(context.run).environment
    store = s3.Store.from_params(context.params)
    with checks.named("tag") as check:
        store.require_environment(environment)
        check["msg"] = f"Bucket {store.bucket} belongs to {environment} by its tag {s3.ENVIRONMENT_TAG}."
    permits.grant(context.run, store.target)
    return {
        "changed": False,
        "msg": checks.done[-1]["msg"],
        "status": "ok",
        "target": asdict(store.target) | {"environment": environment},
        "checks": checks.done,
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="s3_preflight", argument_spec=s3.argument_spec())


if __name__ == "__main__":
    main()
