"""How a request shows who asks: by the bearer token of a proxy, or by a user and a password.

The latter is all that Prometheus and Alertmanager ask for by themselves:
https://prometheus.io/docs/prometheus/latest/configuration/https/
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Mapping


def argument_spec(service: str) -> dict[str, dict[str, Any]]:
    """Options that name it, each beginning with the service's name."""
    return {
        f"{service}_token": {"type": "str", "no_log": True},
        f"{service}_user": {"type": "str"},
        f"{service}_password": {"type": "str", "no_log": True},
    }


def address(option: str, url: str) -> str:
    """An address without a slash at its end; it is printed and kept, so nothing that shows who asks is in it.

    :raises RunbookError: there is
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise RunbookError(
            f"{option}: its value (not repeated here) has a user or a query, and is printed and kept; give the address "
            "alone, and what shows who asks in options of its own."
        )
    return url.rstrip("/")


def of_params(service: str, params: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """``headers`` and ``secrets`` of an ``ApiClient``; both empty where a module's options name nothing.

    :raises RunbookError: both ways are named, or half of one
    """
    token, user, password = (params.get(f"{service}_{name}") for name in ("token", "user", "password"))
    if bool(user) != bool(password):
        given, lacking = ("user", "password") if user else ("password", "user")
        raise RunbookError(f"{service}_{lacking}: it is empty, and {service}_{given} is given; give both or none.")
    if token and user:
        raise RunbookError(f"{service}_user: {service}_token is given too; give the one that the server asks for.")
    if token:
        return {"Authorization": f"Bearer {token}"}, {f"{service}_token": str(token)}
    if user:
        both = b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {both}"}, {f"{service}_password": str(password)}
    return {}, {}
