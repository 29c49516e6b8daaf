"""Values that only who has the key of the vault can read, for documents that hold no secret."""

from __future__ import annotations

import base64
import binascii
import os

from ansible.module_utils.runbook.errors import RunbookError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12


class Seal:
    """AES-256-GCM (NIST SP 800-38D) with a random nonce for each value.

    :param key: 32 bytes in base64, as ``openssl rand -base64 32`` prints them
    :raises RunbookError: it is none
    """

    def __init__(self, key: str) -> None:
        try:
            raw = base64.b64decode(key.strip(), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != _KEY_BYTES:
            raise RunbookError(
                f"snapshot_key: it is {'no key of 32 bytes in base64' if key else 'not set'}; make one with "
                "openssl rand -base64 32, and keep it in Ansible Vault."
            )
        self._cipher = AESGCM(raw)

    def close(self, value: str, label: str) -> str:
        """Seal a value; it is opened with the same label only."""
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, value.encode(), label.encode())).decode()

    def open(self, sealed: str, label: str) -> str:
        """The value.

        :raises RunbookError: it was sealed with another key or label, or is damaged
        """
        try:
            data = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], label.encode()).decode()
        except (binascii.Error, ValueError, InvalidTag):
            raise RunbookError(
                "snapshot_key: the snapshot was sealed with another key, or is damaged; give the key of that time.",
                code="seal_broken",
            ) from None
