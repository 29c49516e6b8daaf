"""Options of modules that read pages and files as a server sends them."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_site)."""

    DOCUMENTATION = r"""
options:
  ca_cert:
    description:
      - File with the certificate authorities that are trusted instead of the system's.
    type: path
  timeout_s:
    description:
      - Longest wait for one answer, in seconds, 1 to 600.
    type: int
    default: 30
  deadline_s:
    description:
      - Longest time for all of it, in seconds, 1 to 14400.
    type: int
    default: 600
"""
