"""Emergency contacts: options that name them, the proofs of their channels, and what reaches one of them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change import notices
from ansible.module_utils.runbook.rules.change.contacts import OPTIONS, ROLES, Proofs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.drivers.state_store import Reading


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that name the contacts and the store; ``doc_fragments/runbook_contacts.py`` tells them."""
    # What is given here is judged by the rules, contact by contact, so that one of them hides no other.
    free = {name: {key: option[key] for key in ("type", "no_log", "elements") if key in option}
            for name, option in notices.argument_spec().items()}  # fmt: skip
    contact = {"type": "dict", "options": {"name": {"type": "str"}, "backend": {"type": "str"}} | free}
    return state_store.argument_spec() | {
        "contacts": {"type": "dict", "default": {}, "options": dict.fromkeys(ROLES, contact)}
    }


def proofs_of(reading: Reading) -> Proofs:
    """What the store holds of a role; nothing proven where it holds nothing yet.

    :raises RunbookError: it is no proof
    """
    return Proofs(secrets.token_hex(16)) if reading.document is None else Proofs.of(reading.document)


def channel_of(contact: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a contact's channel.

    :param params: ``ca_cert`` and ``timeout_s``, which are the same for all
    """
    return dict.fromkeys(OPTIONS) | dict(contact) | {name: params[name] for name in ("ca_cert", "timeout_s")}
