"""Options of a channel on which people read messages."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_channel), by a module that has an option C(backend)."""

    DOCUMENTATION = r"""
options:
  slack_url:
    description:
      - Address of the webhook. It is kept secret.
    type: str
  teams_url:
    description:
      - Address of the flow. It is kept secret.
    type: str
  email_host:
    description:
      - Server that takes mail for others.
    type: str
  email_port:
    description:
      - Its port; 587, 465 or 25, as C(email_security) says, where it is not given.
    type: int
  email_security:
    description:
      - V(starttls) where it is not given. V(tls) from the first byte. With V(none) no password is sent, except to this
        machine.
    type: str
    choices: [starttls, tls, none]
  email_user:
    description:
      - User of the server.
    type: str
  email_password:
    description:
      - Its password. Keep it in Ansible Vault.
    type: str
  email_from:
    description:
      - Address of the sender.
    type: str
  email_to:
    description:
      - Addresses of all receivers. The mail goes to all or, where the server refuses one, to none.
    type: list
    elements: str
  webhook_url:
    description:
      - Address of a receiver of your own. It is kept secret.
      - A user and a password in it (C(https://user:password@host/path)) are sent as basic auth.
    type: str
  webhook_token:
    description:
      - Sent as a bearer token. Keep it in Ansible Vault.
    type: str
"""
