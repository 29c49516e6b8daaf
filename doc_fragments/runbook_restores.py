"""Options that the modules share which restore a backup of a database."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_restores)."""

    DOCUMENTATION = r"""
options:
  from_cluster:
    description:
      - Restore another cluster's backup on purpose, for this run, by its C(system_identifier). The backup must be of
        it, whatever O(source_cluster) says.
    type: str
  backup:
    description:
      - Name of the backup, as V(2026-11-23T03-00-00Z), or V(latest).
    type: str
    default: latest
  before:
    description:
      - With O(backup=latest), the latest backup whose contents are from before this time, in ISO 8601 with its
        time zone.
    type: str
  record_proof:
    description:
      - Whether to write the outcome of the proof beside the backup, as C(proof-<time>.json), a failure as well. Needs
        O(environment).
    type: bool
    default: false
  environment:
    description:
      - What the inventory is. The bucket must carry it in its tag C(runbook-environment) before anything is written to
        it.
    type: str
  identity_file:
    description:
      - File with the secret key of C(age), for a backup that is encrypted with it. C(gpg) looks into its own key ring.
    type: path
  bindir:
    description:
      - Folder with PostgreSQL's client programs. The installed ones that fit best are used if unset.
    type: path
  deadline_s:
    description:
      - When the restore gives up, in seconds.
    type: int
    default: 14400
"""
