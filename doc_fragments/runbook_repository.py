"""Options that every module with a git repository shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_repository)."""

    DOCUMENTATION = r"""
options:
  repository:
    description:
      - Address of the git repository, C(https://host/path), C(git@host:path), or the path of a folder. It holds no
        password.
    type: str
    required: true
  repository_root:
    description:
      - Id of the first commit of the repository that is meant. Another repository is refused, and an empty id with the
        id that was found.
    type: str
  repository_user:
    description:
      - User to log in as over HTTPS. GitHub takes any with a token.
    type: str
    default: x-access-token
  repository_token:
    description:
      - Token to log in with over HTTPS. Keep it in Ansible Vault.
    type: str
  repository_ssh_key_file:
    description:
      - File with the private key to log in with over SSH. Left out, the agent's keys are used.
    type: path
  repository_known_hosts_file:
    description:
      - File with the SSH key of the server. Left out, that of the user is read. A server whose key is not in it is
        refused.
    type: path
  repository_ca_cert:
    description:
      - File with the certificate authorities that are trusted over HTTPS instead of the system's.
    type: path
  committer_name:
    description:
      - Name on the commits that are made.
    type: str
    default: Runbook
  committer_email:
    description:
      - Mail address on the commits that are made, required where one is. Vercel deploys a commit only if it knows the
        address.
    type: str
  repository_timeout_s:
    description:
      - Longest time for one call of git, in seconds, 1 to 3600.
    type: int
    default: 300
"""
