"""Options that the modules share which work on the backups of a database in a bucket."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_backups), and with what follows a dot for each option that a module has beside it."""

    DOCUMENTATION = r"""
options:
  prefix:
    description:
      - Folder of the bucket in which the backups of all databases lie. The bucket itself if empty.
      - Two servers with a database of the same name need two prefixes.
    type: str
    default: ''
"""

    DATABASE = r"""
options:
  database:
    description:
      - Name of the database whose backups these are.
    type: str
    required: true
"""

    ENVIRONMENT = r"""
options:
  environment:
    description:
      - The environment of this run. The bucket must carry the tag C(runbook-environment) with the same value before
        anything is written to it or removed from it.
    type: str
    required: true
"""

    CLUSTERS = r"""
options:
  previous_clusters:
    description:
      - Clusters in whose place this one is, by their C(system_identifier). Their backups are this database's too.
    type: list
    elements: str
    default: []
"""
