"""Options that name the Alertmanagers."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_alertmanager); as C(runbook_alertmanager.access) by a module that has the rest itself."""

    #: Who asks it.
    ACCESS = r"""
options:
  alertmanager_token:
    description: Bearer token of the proxy before it. Keep it in Ansible Vault.
    type: str
  alertmanager_user:
    description: User that Alertmanager itself asks for (C(basic_auth_users)).
    type: str
  alertmanager_password:
    description: Password of O(alertmanager_user). Keep it in Ansible Vault.
    type: str
"""
    DOCUMENTATION = (
        ACCESS
        + r"""
  alertmanager_urls:
    description: Address of Alertmanager; of a cluster that of each.
    type: list
    elements: str
    default: []
  alertmanager_ca_cert:
    description: File with the certificate authorities that are trusted for it instead of the system's.
    type: path
"""
    )
