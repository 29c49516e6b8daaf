"""Options that the modules share which work on an archive of WAL and base backups."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_pitr), beside C(runbook_s3), which says where the bucket is."""

    DOCUMENTATION = r"""
options:
  environment:
    description:
      - The environment of this run. The bucket must carry the tag C(runbook-environment) with the same value before
        anything is written to it.
    type: str
    required: true
  server:
    description:
      - Name of the archive in the bucket. One cluster, one name.
    type: str
    required: true
  prefix:
    description:
      - Folder in the bucket in which archives lie.
    type: str
    default: pitr
  system_identifier:
    description:
      - The cluster that is meant, as C(pg_control_system()) tells it. An archive of another one is refused.
    type: str
  engine_bindir:
    description:
      - Folder of Barman's programs. Without it, that of the Python which runs this module.
    type: path
requirements:
  - barman >= 3.19
  - lz4
  - zstandard
notes:
  - Base backups and WAL are made, kept, found and brought back by Barman's cloud programs.
  - An archive is marked with the system identifier of its cluster. Another cluster is refused, because it would
    overwrite the WAL that is there.
"""
