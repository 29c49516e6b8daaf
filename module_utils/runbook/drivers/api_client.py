"""JSON over HTTPS to the services around the database; the only code that touches ``ansible.module_utils.urls``.

A request that may be repeated is repeated where the service asks for patience or does not answer: 429, 502, 503, 504
and broken connections. It waits as long as the service says (``Retry-After``, or the vendor's own header), else twice
as long each time, and never beyond its deadline. A ``POST`` is sent once, unless it only reads: nobody knows
whether a lost one took effect.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.urls import ConnectionError as AnsibleConnectionError
from ansible.module_utils.urls import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PATIENCE = frozenset({429, 502, 503, 504})
#: An answer larger than this is not one that this project asks for.
_MAX_BODY_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_FIRST_WAIT_S = 1.0
_MAX_WAIT_S = 60.0
#: Longest time for one call, waiting and repeating included, in seconds.
_CALL_S = 180.0
#: Longest time for a call that nobody answers, in seconds. A service that answers and asks for patience gets more.
_SILENCE_S = 60.0
#: What a service says of itself may be long, or a whole page.
_MAX_SAID = 300


class ApiError(RunbookError):
    """A service refused, or did not answer.

    ``http_status`` is None where there was no answer. ``uncertain`` says that the request may have taken effect.
    """

    def __init__(self, message: str, *, http_status: int | None, uncertain: bool, **context: object) -> None:
        super().__init__(message, **({"status": "unknown" if uncertain else "breach"} | context))
        self.http_status = http_status
        self.uncertain = uncertain


@dataclass
class _NoAnswerError(Exception):
    reason: str


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class ApiClient:
    """A service at ``base_url`` that speaks JSON.

    :param service: its name in sentences
    :param headers: sent with each request; secrets belong here, and are in no error
    :param timeout_s: longest wait for one answer
    :param reset_headers: the vendor's own headers that say in how many seconds to come back
    :param ca_cert: file with the certificate authorities that are trusted, instead of the system's
    """

    def __init__(
        self,
        *,
        service: str,
        base_url: str,
        headers: Mapping[str, str],
        timeout_s: float = 30,
        reset_headers: Sequence[str] = (),
        ca_cert: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = service
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._reset_headers = tuple(reset_headers)
        self._sleep = sleep
        loopback = urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")
        self._request = Request(
            headers={"Accept": "application/json", **headers},
            # A token goes to the address that was asked for and to no other; ~/.netrc has no say in it.
            follow_redirects="none",
            use_netrc=False,
            use_proxy=not loopback,
            decompress=False,
            http_agent="mental-scribe-runbook",
            ca_path=ca_cert,
        )

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """The JSON at ``path``.

        :raises ApiError: refused, or no answer in time
        """
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None, repeat=True)

    def post(self, path: str, body: Mapping[str, Any], *, repeat: bool = False) -> Any:
        """Send ``body`` to ``path``, once; the JSON of the answer, None if it is empty.

        :param repeat: it only reads, so it may be sent again as a GET is
        :raises ApiError: refused, or no answer in time; ``uncertain`` tells which
        """
        return self._call("POST", path, json.dumps(body).encode(), repeat=repeat)

    def _call(self, method: str, path: str, body: bytes | None, *, repeat: bool) -> Any:
        begun = time.monotonic()
        deadline = begun + _CALL_S
        silent_until = begun + _SILENCE_S
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                answer: _Answer | None = self._send(method, path, body, deadline)
                reason = ""
                # Silence is measured from the last answer.
                silent_until = time.monotonic() + _SILENCE_S
            except _NoAnswerError as error:
                answer, reason = None, error.reason
            if answer is not None and answer.status < 300:
                return self._json(method, path, answer)
            asked_s = self._asked_s(answer)
            # The jitter keeps a fleet from coming back all at once.
            pause_s = asked_s if asked_s is not None else wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            patient = answer is None or answer.status in _PATIENCE
            until = deadline if answer is not None else min(deadline, silent_until)
            if not (repeat and patient) or time.monotonic() + pause_s > until:
                raise self._error(method, path, answer, reason, asked_s, time.monotonic() - begun)
            self._sleep(pause_s)
            wait_s = min(wait_s * 2, _MAX_WAIT_S)

    def _send(self, method: str, path: str, body: bytes | None, deadline: float) -> _Answer:
        limit = min(self._timeout_s, max(deadline - time.monotonic(), 1.0))
        until = time.monotonic() + limit
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            try:
                response = self._request.open(method, self._base_url + path, data=body, headers=headers, timeout=limit)
            except HTTPError as error:
                response = error
            with response:
                read = bytearray()
                while chunk := response.read1(_CHUNK_BYTES):
                    read += chunk
                    if len(read) > _MAX_BODY_BYTES:
                        raise _NoAnswerError("its answer does not end")
                    if time.monotonic() > until:
                        raise _NoAnswerError(f"its answer was not whole within {limit:.0f} s")
                if response.length:  # closed before all was there
                    raise _NoAnswerError("its answer ended early")
                said = {name.lower(): value for name, value in response.headers.items()}
                return _Answer(int(response.status), said, bytes(read))
        except TimeoutError:
            raise _NoAnswerError(f"no answer within {limit:.0f} s") from None
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _NoAnswerError(f"no answer within {limit:.0f} s") from None
            raise _NoAnswerError(_plain(error.reason)) from None
        except (AnsibleConnectionError, http.client.HTTPException, OSError, ValueError) as error:
            raise _NoAnswerError(_plain(error)) from None

    def _asked_s(self, answer: _Answer | None) -> float | None:
        """How long the service asks us to wait, in seconds; None if it does not say."""
        if answer is None or answer.status not in _PATIENCE:
            return None
        # The vendor's header stands on every answer; only beside a 429 does it mean us.
        for name in ("retry-after", *(self._reset_headers if answer.status == 429 else ())):
            text = answer.headers.get(name)
            if text is None:
                continue
            try:
                return max(float(text), 0.1)
            except ValueError:
                pass
            try:
                return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.1)
            except (TypeError, ValueError):
                continue
        return None

    def _json(self, method: str, path: str, answer: _Answer) -> Any:
        if not answer.body.strip():
            return None
        try:
            return json.loads(answer.body)
        except ValueError:
            # The status said yes, so a POST took effect.
            if method == "POST":
                return None
            raise ApiError(
                f"{self._service} answered {method} {path} with {answer.status} and something that is no JSON; check "
                "api_url.",
                http_status=answer.status,
                uncertain=True,
            ) from None

    def _error(
        self, method: str, path: str, answer: _Answer | None, reason: str, asked_s: float | None, took_s: float
    ) -> ApiError:
        asked = f"{method} {path.partition('?')[0]}"
        if answer is None:
            return ApiError(
                f"{self._service} did not answer {asked}: {reason}; given up after {took_s:.0f} s. See that this "
                "machine may reach it.",
                http_status=None,
                uncertain=True,
            )
        said = f": {_vendor_message(answer.body)}" if _vendor_message(answer.body) else ""
        cure = {
            401: "; check the access token",
            403: "; the access token lacks the right for it",
            404: "; check the reference and api_url",
        }.get(answer.status, "; it moved: check api_url" if 300 <= answer.status < 400 else "")
        if answer.status == 429:
            cure = f"; too many requests, come back in {asked_s or _MAX_WAIT_S:.0f} s"
        return ApiError(
            f"{self._service} refused {asked} with {answer.status}{said}{cure}.",
            http_status=answer.status,
            uncertain=answer.status >= 500,
        )


def _vendor_message(body: bytes) -> str:
    """What the service says went wrong, on one line; empty if it says nothing that can be read."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    if isinstance(said, dict):
        said = said.get("message") or said.get("error")
    if isinstance(said, dict):
        said = said.get("message")
    return " ".join(said.split())[:_MAX_SAID].rstrip(".") if isinstance(said, str) else ""


def _plain(error: object) -> str:
    """An error's text, on one line."""
    return " ".join(str(error).split())[:_MAX_SAID].rstrip(".") or type(error).__name__
