"""Options that every Vercel module of the project shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_vercel)."""

    DOCUMENTATION = r"""
options:
  project_id:
    description:
      - ID of the project, as C(prj_…), from the project's settings.
    type: str
    required: true
  project_name:
    description:
      - Name of the project that is meant. Another project that answers is refused, and an empty name with the name that
        was found. Left out, nobody looks which project it is.
    type: str
  team_id:
    description:
      - ID of the team that the project belongs to, as C(team_…). Empty for a project of a person.
    type: str
    default: ''
  access_token:
    description:
      - Access token of Vercel. Give it one team as its scope and an expiry, and keep it in Ansible Vault.
    type: str
    required: true
  api_url:
    description:
      - Address of the API. The token is sent over TLS, or to this machine.
    type: str
    default: https://api.vercel.com
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
