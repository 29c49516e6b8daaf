"""By what one tells whether two secret values are the same, without either of them.

A fingerprint is shown, kept and compared by people, so two things must not follow from it. *Where else the value is
used*: the variable's name goes into it, so that one value under two names has two fingerprints. *What the value is*:
nobody can turn an HMAC round, but whoever can guess the value can see that he was right. A key of 32 random characters
is beyond guessing; a password, a number or a host name is not, and no salt that a reader of the fingerprint knows
changes that. So a short value has no fingerprint at all.

HMAC: RFC 2104; SHA-256 cut to 64 bits is enough to tell values apart that nobody chose to collide.
"""

from __future__ import annotations

import hashlib
import hmac

#: A value below this length may be guessed: it has no fingerprint. Keys of Supabase, AWS and Vercel are longer, and so
#: is what ``openssl rand -base64 24`` gives.
MIN_LENGTH = 24
#: Characters of a fingerprint.
LENGTH = 16
_CONTEXT = "runbook-fingerprint/"


def fingerprint(name: str, value: str) -> str:
    """The fingerprint of a secret value, sixteen hexadecimal digits; empty for one that is short enough to be guessed.

    In the application's own language it is HMAC-SHA256 with the value as the key and ``runbook-fingerprint/<name>`` as
    the message, cut to sixteen digits.

    :param name: the environment variable that has it

    >>> fingerprint("API_KEY", "k" * 32), fingerprint("API_KEY", "hunter2")
    ('ac55266fca7fa4f6', '')
    """
    if len(value) < MIN_LENGTH:
        return ""
    return hmac.new(value.encode(), f"{_CONTEXT}{name}".encode(), hashlib.sha256).hexdigest()[:LENGTH]
