"""Connection options that every PostgreSQL module of the project shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_postgresql)."""

    DOCUMENTATION = r"""
options:
  dsn:
    description:
      - Connection string of libpq, as an alternative to the O(login_host) family of options.
      - Host, database and user must stand in it; libpq's silent defaults are not used.
    type: str
  login_host:
    description:
      - Host of the database, or the folder of its Unix socket.
    type: str
  login_port:
    description:
      - Port of the database.
    type: int
    default: 5432
  login_user:
    description:
      - Role to connect as.
    type: str
  login_password:
    description:
      - Password of O(login_user). Keep it in Ansible Vault.
    type: str
  login_db:
    description:
      - Database to connect to.
    type: str
  ssl_mode:
    description:
      - How the connection is encrypted and the server's certificate is checked, as libpq's C(sslmode).
    type: str
    default: prefer
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description:
      - File with the certificate authorities that O(ssl_mode=verify-ca) and O(ssl_mode=verify-full) trust.
    type: path
  system_identifier:
    description:
      - The cluster that is meant, as C(pg_control_system()) tells it. Another cluster or database that answers is
        refused by every session, before anything is read or written. Empty is refused, with the value that was found.
      - Left out, nobody looks which cluster it is.
    type: str
requirements:
  - psycopg2
"""
