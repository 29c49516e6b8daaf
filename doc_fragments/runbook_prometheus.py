"""Options that name a Prometheus."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_prometheus); as C(runbook_prometheus.access) by a module that has the rest itself."""

    #: Who asks it.
    ACCESS = r"""
options:
  prometheus_token:
    description: Bearer token of the proxy before it. Keep it in Ansible Vault.
    type: str
  prometheus_user:
    description: User that Prometheus itself asks for (C(basic_auth_users)).
    type: str
  prometheus_password:
    description: Password of O(prometheus_user). Keep it in Ansible Vault.
    type: str
"""
    DOCUMENTATION = (
        ACCESS
        + r"""
  prometheus_url:
    description: Address of Prometheus.
    type: str
  prometheus_ca_cert:
    description: File with the certificate authorities that are trusted for it instead of the system's.
    type: path
"""
    )
