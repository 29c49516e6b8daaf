"""Options that name the state store."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_state)."""

    DOCUMENTATION = r"""
options:
  state_bucket:
    description:
      - Bucket of the state store, which holds what has to outlive a run.
    type: str
  state_directory:
    description:
      - Folder of the state store, in the place of O(state_bucket), where there is one bastion only.
    type: path
  state_prefix:
    description:
      - Folder in O(state_bucket).
    type: str
  state_region:
    description:
      - Region of O(state_bucket).
    type: str
  state_endpoint_url:
    description:
      - Address of the S3 API, for servers other than AWS. The server has to keep C(If-Match).
    type: str
  state_profile:
    description:
      - Profile of the AWS configuration files to take credentials from. It excludes O(state_access_key).
    type: str
  state_access_key:
    description:
      - Access key ID. Needs O(state_secret_key).
    type: str
  state_secret_key:
    description:
      - Secret access key. Keep it in Ansible Vault.
    type: str
  state_session_token:
    description:
      - Session token of temporary credentials.
    type: str
  state_aws_ca_bundle:
    description:
      - File with the certificate authorities that the TLS connection trusts.
    type: path
"""
