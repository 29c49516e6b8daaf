"""Options that every proof of a target shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_lease)."""

    DOCUMENTATION = r"""
options:
  take_lease:
    description:
      - Whether to take the lease after all checks. A playbook sets V(false) that writes nothing to the target, or holds
        another lease meanwhile. Modules that write under the lease of a
        database refuse without it.
    type: bool
    default: true
  lease_wait_s:
    description:
      - How long to wait for another run that holds the lease, in seconds, 0 to 86400. V(0) refuses at once.
    type: int
    default: 0
"""
