"""Options that the acts of a drill share."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_drill), and as C(runbook_drill.target) and its like where an act needs more."""

    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - Folder on this machine for the drill, its history and its lessons. C(drill.json) in it says how far the drill
        is, so that the next one finds what a killed one left.
    type: path
    required: true
  environment:
    description:
      - What the inventory is. In V(sandbox) the outage is real; elsewhere nothing is broken.
    type: str
    required: true
"""

    OWN_LOGIN = r"""
options:
  login_user:
    description:
      - The superuser of the servers that the drill makes, in the sandbox and for M(pg_pitr_restore).
    type: str
  login_password:
    description:
      - Its password.
    type: str
"""

    TARGET = r"""
options:
  target:
    description:
      - The server that logical backups are restored to, elsewhere than in the sandbox.
    type: dict
    default: {}
    suboptions:
      login_host:
        description: Its host.
        type: str
      login_port:
        description: Its port.
        type: int
        default: 5432
      login_user:
        description: A superuser, or a role with CREATEDB.
        type: str
      login_password:
        description: Its password.
        type: str
      ssl_mode:
        description: How the connection is encrypted and the server's certificate is checked, as libpq's C(sslmode).
        type: str
        default: verify-full
      ca_cert:
        description: File with the certificate authorities that are trusted.
        type: path
      system_identifier:
        description: The cluster that is meant.
        type: str
        default: ''
"""

    BACKUPS = r"""
options:
  prefix:
    description:
      - Folder in the bucket below which the logical backups lie.
    type: str
    default: ''
  pitr_prefix:
    description:
      - Folder in the bucket in which archives of WAL lie.
    type: str
    default: pitr
  server:
    description:
      - Name of the archive of WAL.
    type: str
    required: true
  engine_bindir:
    description:
      - Folder of Barman's programs. Without it, that of the Python which runs this module.
    type: path
"""
