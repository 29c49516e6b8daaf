"""A service that is asked with a token, or with a user and a password: Prometheus, Alertmanager, Loki, Grafana."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, basic
from ansible.module_utils.runbook.rules.observe.access import Access

if TYPE_CHECKING:
    from collections.abc import Mapping


def argument_spec(service: str) -> dict[str, dict[str, Any]]:
    """Options that say who asks, each beginning with the service's name."""
    token, user, password = Access.options(service)
    return {
        token: {"type": "str", "no_log": True},
        user: {"type": "str"},
        password: {"type": "str", "no_log": True},
    }


def client(
    service: str, params: Mapping[str, Any], url: str | None = None, *, timeout_s: float, read_only: bool = True,
    headers: Mapping[str, str] | None = None, fixes: Mapping[int, str] | None = None,
) -> ApiClient:  # fmt: skip
    """What asks a service that a module's options name, each of them by the service's name.

    The file with the authorities is ``ca_cert`` of a module whose other services have it too.

    :param url: one of the option ``<service>_urls``; that of ``<service>_url`` where it is not given
    :param headers: sent beside those that say who asks
    :param fixes: what to do about a refusal, where the service's own words for it are others
    :raises RunbookError: as ``Access.of``; the file cannot be read
    """
    option = f"{service}_url" if url is None else f"{service}_urls"
    ca_option = f"{service}_ca_cert" if f"{service}_ca_cert" in params else "ca_cert"
    said = Access.of(service, params, params[option] if url is None else url, option=option)
    token, user, password = Access.options(service)
    who: dict[str, str] = {}
    secrets: dict[str, str] = {}
    if said.token:
        who, secrets = {"Authorization": f"Bearer {said.token}"}, {token: said.token}
    elif said.user:
        both = basic(said.user, said.password)
        # Some servers repeat what they were sent; in this form it is the password still.
        who, secrets = {"Authorization": f"Basic {both}"}, {password: said.password, user: both}
    has_user, owner = user in params, f"the owner of {token}"
    return ApiClient(
        service=service.capitalize(),
        base_url=said.url,
        headers=who | dict(headers or {}),
        secrets=secrets,
        read_only=read_only,
        timeout_s=timeout_s,
        fixes={
            401: f"check {token}{f', or {user} and {password}' if has_user else ''}",
            403: f"{f'{user}, or {owner},' if has_user else owner} lacks the right for it",
            404: f"check {option}",
        }
        | dict(fixes or {}),
        ca_cert=params.get(ca_option),
        options=(option, ca_option),
    )
