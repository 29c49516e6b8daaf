"""Options that name an account at PagerDuty."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_pagerduty)."""

    DOCUMENTATION = r"""
options:
  pagerduty_api_token:
    description: Key of the REST API; one that may only read, unless the module writes. Keep it in Ansible Vault.
    type: str
  pagerduty_api_url:
    description: Address of the API; C(https://api.eu.pagerduty.com) for accounts in the EU.
    type: str
    default: https://api.pagerduty.com
"""
