"""Where a service is, and who asks it: by a bearer token, or by a user and a password (basic auth).

A user and a password are all that Prometheus and Alertmanager ask for by themselves
(https://prometheus.io/docs/prometheus/latest/configuration/https/), and what stands before a Loki, which asks for
nothing, does as a rule; a token is for the proxy before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import check_address, require_encrypted

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Access:
    """What a module's options say of a service; what they do not say is empty."""

    #: Without a slash at its end, and without a secret: it is printed and kept.
    url: str
    token: str = ""
    user: str = ""
    password: str = ""

    @staticmethod
    def options(service: str) -> tuple[str, str, str]:
        """Names of the options that say who asks, each beginning with the service's.

        >>> Access.options("loki")
        ('loki_token', 'loki_user', 'loki_password')
        """
        return f"{service}_token", f"{service}_user", f"{service}_password"

    @classmethod
    def of(cls, service: str, params: Mapping[str, Any], url: str, *, option: str = "") -> Self:
        """As a module's options say.

        :param params: they; what is not set is None or empty
        :param option: the one that has the address; ``<service>_url`` where it is not given
        :raises RunbookError: as :meth:`check`; it is no address, holds what may be a secret, or would carry one
            unencrypted
        """
        cls.check(service, params)
        option = option or f"{service}_url"
        check_address(option, url)
        token, user, password = cls.options(service)
        require_encrypted(option, url, [name for name in (token, password) if params.get(name)])
        return cls(url.rstrip("/"), *(str(params.get(name) or "") for name in (token, user, password)))

    @classmethod
    def check(cls, service: str, params: Mapping[str, Any]) -> None:
        """Refuse both ways to say who asks, half of one, and a user that there cannot be.

        :raises RunbookError: names the option and the fix
        """
        named = dict(zip(("token", "user", "password"), cls.options(service), strict=True))
        token, user, password = (params.get(name) for name in named.values())
        if bool(user) != bool(password):
            given, lacking = ("user", "password") if user else ("password", "user")
            raise RunbookError(f"{named[lacking]}: it is empty, and {named[given]} is given; give both or none.")
        if token and user:
            raise RunbookError(
                f"{named['user']}: {named['token']} is given too; give the one that the server asks for."
            )
        if user and ":" in user:
            raise RunbookError(f"{named['user']}: {user!r} has a colon, which ends a user; give it without.")
