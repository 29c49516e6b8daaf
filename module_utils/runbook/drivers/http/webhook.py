"""An address of somebody's own that takes JSON, for a service that has no driver here.

A user and a password of the address are sent as basic auth.

The receiver's part: each event is a ``POST`` with the header ``Idempotency-Key``. An event that comes again has the
same key, and is answered as the first one was, without doing anything. Any status below 300 is a yes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, Repeat, basic
from ansible.module_utils.runbook.errors import RunbookError

#: A shorter part of an address is no secret, and a word that sentences need.
_SECRET = 8


class Webhook:
    """One address; it is a secret as a whole, for many receivers know their callers by nothing else.

    :param url: with its path and query
    :param token: sent as a bearer, empty where the receiver wants none
    :raises RunbookError: the address has a user, and there is a token
    """

    def __init__(
        self, *, service: str, url: str, token: str, ca_cert: str | None, timeout_s: float, read_only: bool
    ) -> None:  # fmt: skip
        # A receiver repeats the path that it did not find, without the host.
        address = urlsplit(url)
        parts = {"path": address.path, "query": address.query, "target": f"{address.path}?{address.query}"}
        self._secrets = {"webhook_url": url}
        self._secrets |= {f"webhook_url's {name}": part for name, part in parts.items() if len(part) >= _SECRET}
        self._secrets |= {"webhook_token": token} if token else {}
        #: Which one it is, where its address must not stand; two of one host are told apart.
        self.where = f"{address.hostname} {hashlib.sha256(url.encode()).hexdigest()[:12]}"
        self._service = service
        self._url = url
        self._who = {"Authorization": f"Bearer {token}"} if token else {}
        if address.username:
            if token:
                raise RunbookError(
                    "webhook_url: it has a user, and webhook_token is given too; give what the receiver asks for."
                )
            password = unquote(address.password or "")
            both = basic(unquote(address.username), password)
            self._secrets |= {"webhook_url's user": both, "webhook_url's password": password}
            self._url = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
            self._who = {"Authorization": f"Basic {both}"}
        self._ca_cert = ca_cert
        self._timeout_s = timeout_s
        self.read_only = read_only

    def send(self, key: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send an event, as often as it takes; what the receiver says of it, where that is a JSON object.

        :raises ApiError: refused, or no answer in time
        """
        client = ApiClient(
            service=self._service,
            base_url=self._url,
            headers={"Idempotency-Key": key} | self._who,
            secrets=self._secrets,
            read_only=self.read_only,
            timeout_s=self._timeout_s,
            fixes={401: "check webhook_url and webhook_token", 404: "check webhook_url"},
            ca_cert=self._ca_cert,
            options=("webhook_url", "ca_cert"),
        )
        answer = client.post("", event, repeat=Repeat.ALWAYS)
        return answer if isinstance(answer, Mapping) else {}
