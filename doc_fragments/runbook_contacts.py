"""Options that name the emergency contacts."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_contacts), together with C(runbook_state)."""

    DOCUMENTATION = r"""
options:
  contacts:
    description:
      - The four roles of the runbook's contact list, as C(emergency_contacts) in the inventory. Each has a name, a
        backend, and the options of that backend as in M(change_notice).
    type: dict
    default: {}
    suboptions:
      engineering_lead:
        description: [Who leads engineering.]
        type: dict
        suboptions: &contact
          name: {description: [The person or the team.], type: str}
          backend: {description: ["V(slack), V(teams), V(email) or V(webhook)."], type: str}
          slack_url: {description: [Address of the webhook. It is kept secret.], type: str}
          teams_url: {description: [Address of the flow. It is kept secret.], type: str}
          email_host: {description: [Server that takes mail for others.], type: str}
          email_port: {description: [Its port.], type: int}
          email_security: {description: ["V(starttls), V(tls) or V(none)."], type: str}
          email_user: {description: [User of the server.], type: str}
          email_password: {description: [Its password.], type: str}
          email_from: {description: [Address of the sender.], type: str}
          email_to: {description: [Addresses of all receivers.], type: list, elements: str}
          webhook_url: {description: [Address of a receiver of your own. It is kept secret.], type: str}
          webhook_token: {description: [Sent as a bearer token.], type: str}
      database_admin: {description: [Who administers the databases.], type: dict, suboptions: *contact}
      security_team: {description: [Who answers for security.], type: dict, suboptions: *contact}
      devops_sre: {description: [Who runs the systems.], type: dict, suboptions: *contact}
"""
