#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_bucket_check
short_description: Check that a backup bucket is protected as the inventory requires
description:
  - Reads how a bucket is set up, and compares it with what is wanted. Nothing is written. What changes a bucket is
    C(playbooks/backup_bucket.yml).
  - The checks are C(environment) (its tag C(runbook-environment)), C(versioning), C(encryption),
    C(public_access_block), C(policy_status) and C(acl) (nobody unknown can read it), C(object_lock), C(replication),
    C(lifecycle) (unfinished uploads are given up), C(expiration) (only where a rule of lifecycle expires backups) and
    C(tls_only). What is switched off is not checked.
  - The module fails when a check is not V(ok). What the server does not answer is V(unknown), and fails too. An S3
    server other than AWS may not know everything; switch off there what it cannot answer.
extends_documentation_fragment: runbook_s3
options:
  environment:
    description:
      - What the inventory is. The bucket's tag C(runbook-environment) must say the same.
    type: str
    required: true
  prefix:
    description:
      - Folder of the backups, which rules of lifecycle and replication must cover.
    type: str
    default: ''
  versioning:
    description:
      - Whether versions must be kept.
    type: bool
    default: true
  encryption:
    description:
      - How new objects must be encrypted by default. V(aws:kms) also does where V(AES256) is wanted.
    type: str
    choices: [AES256, 'aws:kms', none]
    default: AES256
  kms_key_id:
    description:
      - The KMS key that O(encryption=aws:kms) must use, as its id or ARN. Any, where it is empty.
    type: str
    default: ''
  block_public_access:
    description:
      - Whether all four blocks of public access must be on.
    type: bool
    default: true
  object_lock:
    description:
      - Which Object Lock must be on. V(COMPLIANCE) also does where V(GOVERNANCE) is wanted.
    type: str
    choices: [GOVERNANCE, COMPLIANCE, none]
    default: none
  object_lock_days:
    description:
      - For how many days new objects must be locked by default. 0 where each backup says it for itself.
    type: int
    default: 0
  replicate_to:
    description:
      - Name of the bucket that a replication rule must lead to. Not checked where it is empty.
    type: str
    default: ''
  abort_multipart_days:
    description:
      - After how many days unfinished uploads must be given up at the latest. Not checked where it is 0.
    type: int
    default: 7
  tls_only:
    description:
      - Whether the bucket's policy must refuse requests without TLS.
    type: bool
    default: true
  plan:
    description:
      - Tell what C(playbooks/backup_bucket.yml) would set, and do not fail on it. The result is changed if it would set
        something.
    type: bool
    default: false
  write_policy:
    description:
      - With O(plan), whether the bucket's policy would be replaced.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Nothing is written anyway.
  diff_mode:
    support: full
    description: With O(plan), shows what would be set.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: The bucket of the backups is protected
  s3_bucket_check:
    bucket: mental-scribe-backups
    region: us-east-1
    environment: production
    encryption: aws:kms
    object_lock: COMPLIANCE
    object_lock_days: 30
    replicate_to: mental-scribe-backups-replica
"""

RETURN = r"""
changed:
  description: False, but with O(plan) where something would be set.
  type: bool
  returned: always
msg:
  description: One sentence on all checks.
  type: str
  returned: always
status:
  description: The worst of all checks, V(ok), V(breach) or V(unknown).
  type: str
  returned: always
plan:
  description: With O(plan), what would be set, with C(setting), C(now) and C(wanted).
  type: list
  elements: dict
  returned: with O(plan)
foreign:
  description: Settings that this S3 server does not know, whether they are wanted or not.
  type: list
  elements: str
  returned: when the bucket could be read
checks:
  description:
    - Each check with C(name), C(status), C(msg) and C(subject). With O(plan), what would be set is V(ok).
  type: list
  elements: dict
  returned: when the bucket could be read
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.runbook.drivers.s3 import bucket as driver
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import bucket_check as rules
from ansible.module_utils.runbook.rules.status import Check, sentence


def core(context: Context) -> dict[str, Any]:
    """Read, judge, and fail where the judgement is not ok."""
    params = context.params
    demands = rules.Demands(
        versioning=params["versioning"],
        encryption=params["encryption"],
        kms_key_id=params["kms_key_id"],
        block_public_access=params["block_public_access"],
        object_lock=params["object_lock"],
        object_lock_days=params["object_lock_days"],
        replicate_to=params["replicate_to"],
        abort_multipart_days=params["abort_multipart_days"],
        tls_only=params["tls_only"],
        prefix=params["prefix"],
    )
    rules.check_demands(demands)
    store = s3.Store.from_params(params)
    found = driver.read_settings(store)
    checks = rules.judge(found, store.tags(), demands, params["environment"])
    foreign = [name for name, setting in found.items() if setting.is_foreign]
    if params["plan"]:
        changes = rules.plan(found, checks, demands, write_policy=params["write_policy"])
        shown = {"diff": rules.as_diff(changes)} if context.diff else {}
        named = ", ".join(each.setting for each in changes) or "nothing"
        # What it would set is no fault of a dry run; what it cannot set stays one.
        made = {each.setting: Check.ok(each.setting, f"Would be set: {each.wanted}.") for each in changes}
        rest = [check for check in checks if check.name not in made]
        return context.conclude(
            [made.get(check.name, check) for check in checks],
            msg=f"Would set {named}. {sentence('The rest of it', rest)}",
            fail_on_breach=False,
            fail_on_unknown=False,
            changed=bool(changes),
            foreign=foreign,
            plan=[asdict(each) for each in changes],
            **shown,
        )
    return context.conclude(checks, msg=sentence(f"Bucket {store.bucket}", checks), foreign=foreign)


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="s3_bucket_check",
        argument_spec={
            **s3.argument_spec(),
            "environment": {"type": "str", "required": True},
            "prefix": {"type": "str", "default": ""},
            "versioning": {"type": "bool", "default": True},
            "encryption": {"type": "str", "default": "AES256", "choices": ["AES256", "aws:kms", "none"]},
            "kms_key_id": {"type": "str", "default": ""},
            "block_public_access": {"type": "bool", "default": True},
            "object_lock": {"type": "str", "default": "none", "choices": ["GOVERNANCE", "COMPLIANCE", "none"]},
            "object_lock_days": {"type": "int", "default": 0},
            "replicate_to": {"type": "str", "default": ""},
            "abort_multipart_days": {"type": "int", "default": 7},
            "tls_only": {"type": "bool", "default": True},
            "plan": {"type": "bool", "default": False},
            "write_policy": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
