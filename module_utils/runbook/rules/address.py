"""Addresses of pages and services, as people type them into an inventory."""

from __future__ import annotations

from urllib.parse import urlsplit

from ansible.module_utils.runbook.errors import RunbookError


def check_address(option: str, url: str, *, secret: bool = False) -> str:
    """An address over HTTP.

    :param secret: it is not repeated in the sentence
    :raises RunbookError: it is none

    >>> check_address("probe_url", "https://app.example.com/")
    'https://app.example.com/'
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        said = "its value (not repeated here)" if secret else repr(url)
        raise RunbookError(f"{option}: {said} is no address; give one like https://app.example.com/path.")
    return url
