"""Options that name an account of AWS."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_aws)."""

    DOCUMENTATION = r"""
options:
  account_id:
    description:
      - Number of the account that is meant, twelve digits. Another account is refused, and an empty number with the one
        that was found.
    type: str
  region:
    description:
      - Region that is asked. IAM is the same in all.
    type: str
  endpoint_url:
    description:
      - Address of the IAM API, for servers other than AWS.
    type: str
  profile:
    description:
      - Profile of the AWS configuration files to take credentials from. It excludes O(access_key).
    type: str
  access_key:
    description:
      - Access key ID of who rotates the keys of others. Needs O(secret_key). Without both, credentials are looked for
        as boto3 does.
    type: str
  secret_key:
    description:
      - Secret access key. Keep it in Ansible Vault.
    type: str
  session_token:
    description:
      - Session token of temporary credentials.
    type: str
  aws_ca_bundle:
    description:
      - File with the certificate authorities that the TLS connection trusts.
    type: path
requirements:
  - boto3
"""
