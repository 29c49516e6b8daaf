"""Options that every S3 module of the project shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_s3)."""

    DOCUMENTATION = r"""
options:
  bucket:
    description:
      - Bucket to work on.
    type: str
    required: true
  region:
    description:
      - Region of the bucket.
      - Without it, that of O(profile) or of the environment is used.
    type: str
  endpoint_url:
    description:
      - Address of the S3 API, for servers other than AWS.
    type: str
  profile:
    description:
      - Profile of the AWS configuration files to take credentials from. It excludes O(access_key).
    type: str
  access_key:
    description:
      - Access key ID. Needs O(secret_key).
      - Without keys and O(profile), credentials are looked for as boto3 does, in the environment, the configuration
        files and the instance's role.
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
