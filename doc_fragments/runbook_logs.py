"""Options of every module that works on the archive of logs."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_logs), together with C(runbook_s3) and C(runbook_state)."""

    DOCUMENTATION = r"""
options:
  prefix:
    description:
      - Folder of all archives in O(bucket).
    type: str
    default: logs
  archive_host:
    description:
      - The inventory host whose archive it is. Each has a folder and a chain of its own.
    type: str
    required: true
  environment:
    description:
      - Environment of this run. The tag C(runbook-environment) of the bucket must have this value.
    type: str
    required: true
  seal_keys:
    description:
      - Keys that seal the links of the chain, each of 32 characters or more. The first one seals; the others are those
        of older links. Keep them in Ansible Vault, away from the bucket, and never lose one.
    type: list
    elements: str
    required: true
"""
