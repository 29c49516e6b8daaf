"""Options that every proof of a target without a database shares; C(runbook_state) names the store."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_state_lease)."""

    DOCUMENTATION = r"""
options:
  take_lease:
    description:
      - Whether to take the lease in the state store; where none is named, none is taken. A playbook sets V(false) that
        holds the lease of a database meanwhile, or writes nothing.
    type: bool
    default: true
  lease_wait_s:
    description:
      - How long to wait for another run that holds the lease, in seconds, 0 to 86400. V(0) refuses at once.
    type: int
    default: 0
"""
