"""Addresses of pages and services, as people type them into an inventory."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_loopback(host: str | None) -> bool:
    """Whether a host of an address is this machine itself.

    >>> is_loopback("127.0.1.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("127.example.com")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def check_address(option: str, url: str, *, secret: bool = False) -> str:
    """An address over HTTP; one that may be shown holds no user, query or fragment, where a secret would be.

    :param secret: it is a secret as a whole, which nobody prints or keeps
    :raises RunbookError: it is none, or holds what would be printed and kept with it

    >>> check_address("probe_url", "https://app.example.com/")
    'https://app.example.com/'
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        said = "its value (not repeated here)" if secret or any(sign in url for sign in "@?#") else repr(url)
        raise RunbookError(f"{option}: {said} is no address; give one like https://app.example.com/path.")
    if not secret and ("@" in parts.netloc or "?" in url or "#" in url):
        raise RunbookError(
            f"{option}: its value (not repeated here) has a user, a query or a fragment, which may hold a secret, and "
            "is printed and kept; give an address without them, and replace what was a secret."
        )
    return url


def require_encrypted(option: str, url: str, secrets: Sequence[str]) -> None:
    """Refuse an address to which secrets would travel unencrypted; within this machine they may.

    :param secrets: names of the options that hold them, itself among them where it is one
    :raises RunbookError: they would

    >>> require_encrypted("loki_url", "http://127.0.0.1:3100", ["loki_token"])
    """
    parts = urlsplit(url)
    if secrets and parts.scheme == "http" and not is_loopback(parts.hostname):
        said = "it is a secret, and would travel" if option in secrets else f"it would send {', '.join(secrets)}"
        raise RunbookError(f"{option}: {said} unencrypted; use https.")


def check_api_url(url: str, example: str) -> str:
    """The address of an API, without a slash at its end; a token is sent over TLS or to this machine only.

    :param example: what a sentence gives as one
    :raises RunbookError: it is no address, or the token would travel unencrypted
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise RunbookError(f"api_url: {url!r} is not an address of an API; give one like {example}.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise RunbookError(f"api_url: {url!r} would send the access token unencrypted; use https.")
    return url.rstrip("/")
