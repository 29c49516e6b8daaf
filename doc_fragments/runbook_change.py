"""Options that every module shares that does an item of a change's checklists at a service."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_change), together with C(runbook_state)."""

    DOCUMENTATION = r"""
options:
  item:
    description:
      - Name of the item of the checklists that this answers, at most 64 letters, digits, dots, colons, dashes
        and underscores.
        The answer is kept in the change.
    type: str
    required: true
  change_id:
    description:
      - The change of a run that is gone, which is ended for it. Left out, it is this run's own. Nothing is opened for
        another run's change.
    type: str
  blocks:
    description:
      - Whether the playbook stops where this fails. With V(false) the item is V(unknown), the playbook goes on, and the
        run is not green.
    type: bool
    default: true
  ca_cert:
    description:
      - File with the certificate authorities that are trusted instead of the system's.
    type: path
  timeout_s:
    description:
      - Longest wait for one answer of the service, in seconds, 1 to 600.
    type: int
    default: 30
"""
