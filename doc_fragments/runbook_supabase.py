"""Options that every Supabase module of the project shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_supabase)."""

    DOCUMENTATION = r"""
options:
  project_ref:
    description:
      - Reference of the project, twenty lower-case letters.
    type: str
    required: true
  project_name:
    description:
      - Name of the project that is meant. Another project that answers is refused, and an empty name with the name that
        was found. Left out, nobody looks which project it is.
    type: str
  access_token:
    description:
      - Token of the Management API. Keep it in Ansible Vault.
    type: str
    required: true
  api_url:
    description:
      - Address of the Management API. The token is sent over TLS, or to this machine.
    type: str
    default: https://api.supabase.com
  ca_cert:
    description:
      - File with the certificate authorities that are trusted instead of the system's.
    type: path
  timeout_s:
    description:
      - Longest wait for one answer, in seconds.
    type: int
    default: 30
"""
