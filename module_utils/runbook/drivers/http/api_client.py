"""JSON over HTTPS to the services around the database; the only code that touches ``ansible.module_utils.urls``.

One call is bounded as a whole, waiting and repeating included. It waits as long as the service says (``Retry-After``,
or the vendor's own header), else twice as long each time. What is repeated depends on what a second sending would do,
see :class:`Repeat`: nobody knows whether a request without an answer took effect, so a ``POST`` is never sent twice
blindly. :meth:`ApiClient.ensure` finds out by looking.

A client that is made ``read_only``, as in check mode, refuses every write in the one place that opens a connection.
docs/adr/0026 has the reasons.
"""

from __future__ import annotations

import enum
import http.client
import ipaddress
import json
import math
import random
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlencode, urlsplit

from ansible.module_utils.runbook.drivers.http.api_pages import MAX_PAGES, Page
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.urls import ConnectionError as AnsibleConnectionError
from ansible.module_utils.urls import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ansible.module_utils.runbook.drivers.http.api_pages import Follow, Query

Found = TypeVar("Found")

#: "Come back later": the service says itself that it did nothing. 420 is Statuspage's.
_LATER = frozenset({420, 429})
#: Nobody knows what the service did.
_SILENT = frozenset({502, 503, 504})
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
#: A number of seconds above the first is a moment: some services say when, others how long. Above the second: nothing.
_EPOCH_S = 1_000_000_000
_NEVER_S = 100 * _EPOCH_S
#: How long a thing that was made may take to be found, in seconds: looks after these pauses.
_LOOKS_S = (1.0, 2.0, 4.0, 8.0)
#: Code of the error where the answer is larger than that: less has to be asked for.
TOO_LARGE = "too_large"
#: What a refusal of this kind means with every service.
_FIXES = {
    401: "check the access token",
    403: "the access token lacks the right for it",
}


class ApiError(RunbookError):
    """A service refused, or did not answer.

    ``http_status`` is None where there was no answer. ``uncertain`` says that the request may have taken effect;
    one that only reads has none. ``fix`` is what to do about a refusal, in words of ours only, where that is known.
    """

    def __init__(
        self, message: str, *, http_status: int | None, uncertain: bool, fix: str = "", **context: object
    ) -> None:  # fmt: skip
        # A yes that says nothing else is no answer either.
        silent = uncertain or http_status is None or not 300 <= http_status < 500
        super().__init__(message, **({"status": Status.of(breach=not silent, unknown=True)} | context))
        self.http_status = http_status
        self.uncertain = uncertain
        self.fix = fix


class Repeat(enum.Enum):
    """When a request may be sent again."""

    #: Whatever happens, it is sent once.
    NEVER = "never"
    #: Where it is certain that it did nothing: the service asks to come back later, or no connection came about.
    UNDONE = "undone"
    #: Also where nobody knows: it reads, or a second sending leaves what the first one left.
    ALWAYS = "always"


@dataclass(frozen=True)
class Ensured(Generic[Found]):
    """What :meth:`ApiClient.ensure` found or made; ``found`` is None where check mode would make it."""

    found: Found | None
    made: bool


@dataclass
class _NoAnswerError(Exception):
    reason: str
    #: The request may have reached the service.
    sent: bool = True
    #: The next attempt would end in the same way.
    lasting: bool = False
    fix: str = "See that this machine may reach it."
    code: str = ""


@dataclass(frozen=True)
class Answer:
    """What was answered; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def asks_for_patience(self) -> bool:
        """Whether the service did nothing, and says so."""
        # GitHub's secondary limits are a 403 that names a time.
        return self.status in _LATER or (self.status == 403 and "retry-after" in self.headers)

    @property
    def is_page(self) -> bool:
        """Whether it is a page for people: of a proxy, or of another server."""
        return "html" in self.headers.get("content-type", "").lower()


@dataclass(frozen=True)
class Form:
    """A body as a form sends it."""

    fields: Query


class ApiClient:
    """A service at ``base_url`` that speaks JSON.

    :param service: its name in sentences
    :param base_url: may hold a path; a webhook's secret path belongs in ``secrets`` too
    :param headers: sent with each request
    :param secrets: by the name of their option: they are in no error, whoever repeats them, and travel encrypted or on
        this machine only
    :param read_only: it refuses to write; a module gives its check mode here
    :param timeout_s: longest wait for one answer
    :param reset_headers: the vendor's own headers that say in how many seconds, or when, to come back
    :param fixes: what to do about a refusal, by its status, where the service has its own words for it
    :param ca_cert: file with the certificate authorities that are trusted, instead of the system's
    :param options: what the module calls its options with the address and with ``ca_cert``; empty where it has none
    :param validate_certs: False trusts whoever answers; only where the inventory says so of the service
    :raises RunbookError: a secret would travel unencrypted, or can be in no header; ``ca_cert`` cannot be read
    """

    def __init__(
        self,
        *,
        service: str,
        base_url: str,
        headers: Mapping[str, str],
        secrets: Mapping[str, str],
        read_only: bool,
        timeout_s: float = 30,
        reset_headers: Sequence[str] = (),
        fixes: Mapping[int, str] | None = None,
        ca_cert: str | None = None,
        options: tuple[str, str] = ("api_url", "ca_cert"),
        validate_certs: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = service
        self._base_url = base_url
        # Also as an address spells it; the longest first, as one may hold another.
        spelled = {form for each in secrets.values() for form in _spellings(each) if form}
        self._secrets = sorted(spelled, key=len, reverse=True)
        self._read_only = read_only
        self._timeout_s = timeout_s
        self._reset_headers = tuple(reset_headers)
        self._options = options
        self._fixes = _FIXES | {404: f"check the id and {self._options[0]}"} | dict(fixes or {})
        self._sleep = sleep
        address = urlsplit(base_url)
        loopback, encrypted = _is_loopback(address.hostname or ""), address.scheme == "https"
        if self._secrets and not encrypted and not loopback:
            where = self._redacted(repr(base_url))
            raise RunbookError(f"{where} would send {', '.join(secrets)} unencrypted; use https.")
        for name, value in (*secrets.items(), *headers.items()):
            if not (value.isascii() and value.isprintable()):
                raise RunbookError(
                    f"{name}: it holds a line feed, or a letter that no request to {service} may hold; give it without."
                )
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if encrypted or ca_cert:
            trust = _trust(options[1], ca_cert, validate_certs=validate_certs)
        self._request = Request(
            headers={"Accept": "application/json", **headers},
            # A token goes to the address that was asked for and to no other; ~/.netrc has no say in it.
            follow_redirects="none",
            use_netrc=False,
            # A proxy of the environment carries what it cannot read, and is not meant for this machine itself.
            use_proxy=encrypted and not loopback,
            decompress=False,
            http_agent="mental-scribe-runbook",
            context=trust,
        )

    # Reading ----------------------------------------------------------------------------------------------------------

    def get(self, path: str, query: Query = ()) -> Any:
        """The JSON at ``path``; None if the answer is empty.

        :raises ApiError: refused, no answer in time, or one that is no JSON
        """
        return self._json("GET", path, self._call("GET", path, query))

    def text(self, path: str, query: Query = ()) -> str:
        """The plain text at ``path``.

        :raises ApiError: refused, no answer in time, or a page for people
        """
        answer = self._call("GET", path, query, accept="text/plain, */*;q=0.5")
        if answer.is_page:
            raise self._no_data("GET", path, answer, "a page for people")
        return answer.body.decode(errors="replace")

    def look(self, path: str = "") -> Answer:
        """What stands at ``path`` just now, whatever its status; it is asked for once, and a redirect is not followed.

        :raises UnreachableError: no whole answer in time
        """
        try:
            return self._send("GET", path, None, {"Accept": "*/*"}, time.monotonic() + self._timeout_s, reads=True)
        except _NoAnswerError as failure:
            fix = f" {failure.fix}" if failure.lasting else ""
            said = self._redacted(f"{self._service} did not answer: {failure.reason}.{fix}")
            raise UnreachableError(said) from None

    def pages(self, path: str, follow: Follow, *, items: str | None, query: Query = ()) -> list[Any]:
        """All items of a list that comes in pages: all, or an error.

        The whole of it is one call, with one bound.

        :param follow: how the next page is asked for, see ``drivers/http/api_pages.py``
        :param items: field of the answer that holds the items; None where the answer is the list
        :raises ApiError: refused, no answer in time, a page without items, or a list without an end
        """
        deadline = time.monotonic() + _CALL_S
        found: list[Any] = []
        asked: Query = tuple(query)
        seen: set[Query] = set()
        for _ in range(MAX_PAGES):
            seen.add(asked)
            answer = self._call("GET", path, asked, deadline=deadline)
            body = self._json("GET", path, answer)
            some = body if items is None else body.get(items) if isinstance(body, Mapping) else None
            if not isinstance(some, list):
                raise self._no_data("GET", path, answer, f"no list{f' {items}' if items else ''}")
            found += some
            try:
                following = follow(Page(body, some, answer.headers, asked))
            except ValueError as error:
                raise self._no_data("GET", path, answer, str(error)) from None
            if following is None:
                return found
            if following in seen:
                raise self._no_data("GET", path, answer, "a next page that was there before")
            asked = following
        raise self._no_data("GET", path, answer, f"more than {MAX_PAGES} pages")

    def ask(self, path: str, body: Any, query: Query = ()) -> Any:
        """The JSON that a ``POST`` gives which only reads: a question too long for an address.

        :raises ApiError: as :meth:`get`
        """
        return self._json("POST", path, self._call("POST", path, query, body, reads=True))

    def ask_form(self, path: str, fields: Query) -> Any:
        """:meth:`ask`, with the question as a form sends it.

        :raises ApiError: as :meth:`get`
        """
        return self._json("POST", path, self._call("POST", path, (), Form(fields), reads=True))

    # Writing ----------------------------------------------------------------------------------------------------------

    def post(self, path: str, body: Any = None, query: Query = (), *, repeat: Repeat = Repeat.UNDONE) -> Any:
        """Send ``body`` to ``path``: the answer's JSON, its plain text, or None if it is empty.

        :param repeat: ALWAYS only with a natural key, by which the service knows a second sending
        :raises ApiError: refused, or no answer in time; ``uncertain`` tells which
        """
        return self._told(self._call("POST", path, query, body, repeat=repeat))

    def put(self, path: str, body: Any = None, query: Query = ()) -> Any:
        """Let what is at ``path`` be ``body``; the answer as :meth:`post` gives it.

        :raises ApiError: as :meth:`post`
        """
        return self._told(self._call("PUT", path, query, body))

    def patch(self, path: str, body: Any, query: Query = (), *, repeat: Repeat = Repeat.UNDONE) -> Any:
        """Change what is at ``path``; the answer as :meth:`post` gives it.

        :param repeat: ALWAYS only where a second sending adds nothing: an update of an incident is told to everybody
        :raises ApiError: as :meth:`post`
        """
        return self._told(self._call("PATCH", path, query, body, repeat=repeat))

    def delete(self, path: str, body: Any = None, query: Query = ()) -> Any:
        """Let there be nothing at ``path``; the answer as :meth:`post` gives it.

        :raises ApiError: as :meth:`post`; 404 where there was nothing before the first sending
        """
        return self._told(self._call("DELETE", path, query, body))

    def ensure(self, find: Callable[[], Found | None], create: Callable[[], Found | None]) -> Ensured[Found]:
        """Find a thing by its natural key, or make it; never a second one.

        Where the answer to ``create`` is lost or empty, or says that there is one already, it is looked for. What is
        not found then is not made again: it may still come.

        :param find: None if there is none; it has to see all there are
        :param create: the thing, None if the answer does not tell
        :raises ApiError: refused; ``uncertain`` where nobody knows whether it was made
        """
        found = find()
        if found is not None:
            return Ensured(found, made=False)
        if self._read_only:
            return Ensured(None, made=True)
        try:
            made = create()
            lost = ApiError(
                f"{self._service} said that it made it, and it is not there to be found.",
                http_status=None,
                uncertain=True,
            )
        except ApiError as error:
            if not error.uncertain and error.http_status != 409:
                raise
            made, lost = None, error
        if made is not None:
            return Ensured(made, made=True)
        looked = "could not be looked for"
        for pause_s in (0.0, *_LOOKS_S):
            if pause_s:
                self._sleep(pause_s)
            try:
                found = find()
            except ApiError:
                continue
            if found is not None:
                return Ensured(found, made=lost.http_status != 409)
            looked = "was looked for and not found"
        raise ApiError(
            f"{lost.message} It {looked}, and was not made again, as it may still come; run this again: it is looked "
            "for first.",
            http_status=lost.http_status,
            uncertain=True,
        )

    # One call ---------------------------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        query: Query,
        body: Any = None,
        *,
        reads: bool = False,
        repeat: Repeat = Repeat.ALWAYS,
        accept: str | None = None,
        deadline: float | None = None,
    ) -> Answer:
        reads = reads or method == "GET"
        headers = {"Accept": accept} if accept else {}
        data = None
        if isinstance(body, Form):
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(body.fields).encode()
        elif body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        target = f"{path}?{urlencode(query)}" if query else path
        begun = time.monotonic()
        deadline = deadline or begun + _CALL_S
        silent_until = begun + _SILENCE_S
        wait_s = _FIRST_WAIT_S
        lost = False
        while True:
            failure = answer = None
            try:
                answer = self._send(method, target, data, headers, deadline, reads=reads)
                # Silence is measured from the last answer.
                silent_until = time.monotonic() + _SILENCE_S
            except _NoAnswerError as error:
                failure = error
            if answer is not None and answer.status < 300:
                return answer
            if answer is not None and method == "DELETE" and lost and answer.status in (404, 410):
                # An earlier sending took effect, and its answer was lost.
                return Answer(204, answer.headers, b"")
            undone = answer.asks_for_patience if answer is not None else failure is not None and not failure.sent
            lost = lost or (not undone and (answer is None or answer.status >= 500))
            again = undone or answer is None or answer.status in _SILENT
            if failure is not None and failure.lasting:
                again = False
            asked_s = self._asked_s(answer)
            # The jitter keeps a fleet from coming back all at once.
            pause_s = asked_s if asked_s is not None else wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            until = deadline if answer is not None else min(deadline, silent_until)
            may = repeat is Repeat.ALWAYS or (repeat is Repeat.UNDONE and undone)
            if not (may and again) or time.monotonic() + pause_s > until:
                took_s = time.monotonic() - begun
                # A look makes nothing, whatever became of it.
                raise self._error(method, path, answer, failure, asked_s, took_s, uncertain=lost and not reads)
            self._sleep(pause_s)
            wait_s = min(wait_s * 2, _MAX_WAIT_S)

    def _send(
        self, method: str, target: str, data: bytes | None, headers: dict[str, str], deadline: float, *, reads: bool
    ) -> Answer:
        """Send once and read the answer, in a bounded time.

        A socket's own time limit starts over with each byte, each address of a name, each step of TLS. So the whole is
        done beside, and left alone when its time is over.
        """
        if self._read_only and not reads:
            raise RunbookError(f"{method} {target.partition('?')[0]} would write to {self._service} in check mode.")
        limit = min(self._timeout_s, max(deadline - time.monotonic(), 1.0))
        given_up = threading.Event()
        got: list[Answer | Exception] = []

        def work() -> None:
            try:
                got.append(self._exchange(method, target, data, headers, limit, given_up))
            except Exception as error:
                got.append(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(limit)
        if not got:
            given_up.set()
            raise _NoAnswerError(f"no complete answer within {limit:.0f} s")
        if isinstance(got[0], Exception):
            raise got[0]
        return got[0]

    def _exchange(
        self,
        method: str,
        target: str,
        data: bytes | None,
        headers: dict[str, str],
        limit: float,
        given_up: threading.Event,
    ) -> Answer:
        try:
            try:
                response = self._request.open(
                    method, self._base_url + target, data=data, headers=headers, timeout=limit
                )
            except HTTPError as error:
                response = error
            with response:
                read = bytearray()
                while chunk := response.read1(_CHUNK_BYTES):
                    read += chunk
                    if len(read) > _MAX_BODY_BYTES:
                        reason = f"its answer is larger than {_MAX_BODY_BYTES // 1024**2} MiB"
                        raise _NoAnswerError(reason, lasting=True, fix="Ask for less.", code=TOO_LARGE)
                    if given_up.is_set():
                        raise _NoAnswerError("its answer does not end")
                if response.length:  # closed before all was there
                    raise _NoAnswerError("its answer ended early")
                said = {name.lower(): value for name, value in response.headers.items()}
                return Answer(int(response.status), said, bytes(read))
        except TimeoutError:
            raise _NoAnswerError(f"no complete answer within {limit:.0f} s") from None
        except URLError as error:
            raise self._unreached(error.reason, limit) from None
        except (http.client.InvalidURL, ValueError) as error:
            reason = self._plain(error)
            raise _NoAnswerError(reason, sent=False, lasting=True, fix="Check the address.") from None
        except (AnsibleConnectionError, http.client.HTTPException, OSError) as error:
            raise _NoAnswerError(self._plain(error)) from None

    def _unreached(self, reason: object, limit: float) -> _NoAnswerError:
        """What it means that no connection came about, or that it broke before all was sent."""
        if isinstance(reason, TimeoutError):
            return _NoAnswerError(f"no complete answer within {limit:.0f} s")
        if isinstance(reason, ssl.SSLCertVerificationError):
            named = f"{', '.join(filter(None, self._options))} and " if any(self._options) else ""
            fix = f"Check {named}the clock of this machine."
            return _NoAnswerError(self._plain(reason), sent=False, lasting=True, fix=fix)
        return _NoAnswerError(
            self._plain(reason), sent=not isinstance(reason, (ConnectionRefusedError, socket.gaierror))
        )

    def _asked_s(self, answer: Answer | None) -> float | None:
        """How long the service asks us to wait, in seconds; None if it does not say."""
        if answer is None or not (answer.asks_for_patience or answer.status in _SILENT):
            return None
        # The vendor's header stands on every answer; only beside a 429 does it mean us.
        for name in ("retry-after", *(self._reset_headers if answer.status in _LATER else ())):
            text = answer.headers.get(name)
            if text is None:
                continue
            try:
                seconds = float(text)
            except ValueError:
                try:
                    seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
                except (TypeError, ValueError):
                    continue
            if math.isfinite(seconds) and seconds < _NEVER_S:
                return max(seconds - time.time() if seconds > _EPOCH_S else seconds, 0.1)
        return None

    # What was said ----------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, answer: Answer) -> Any:
        if not answer.body.strip():
            return None
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise self._no_data(method, path, answer, "something that is no JSON") from None

    def _told(self, answer: Answer) -> Any:
        """What a write was answered. Its status said yes, so that it took effect whatever the rest says."""
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            return None if answer.is_page else answer.body.decode(errors="replace").strip() or None

    def _no_data(self, method: str, path: str, answer: Answer, what: str) -> ApiError:
        asked = f"{method} {path}".rstrip()
        return ApiError(
            self._redacted(
                f"{self._service} answered {asked} with {answer.status} and {what}; check {self._options[0]}."
            ),
            http_status=answer.status,
            uncertain=False,
        )

    def _error(
        self,
        method: str,
        path: str,
        answer: Answer | None,
        failure: _NoAnswerError | None,
        asked_s: float | None,
        took_s: float,
        *,
        uncertain: bool,
    ) -> ApiError:
        asked = f"{method} {path.partition('?')[0]}".rstrip()
        if answer is None:
            reason, fix = (failure.reason, failure.fix) if failure else ("", "")
            return ApiError(
                self._redacted(
                    f"{self._service} did not answer {asked}: {reason}; given up after {took_s:.0f} s. {fix}"
                ),
                http_status=None,
                uncertain=uncertain,
                code=failure.code if failure else "",
            )
        said = self._plain("; ".join(dict.fromkeys(_vendor_words(answer))), otherwise="")
        fix = self.fix(answer.status)
        if answer.asks_for_patience:
            fix = f"too many requests, come back in {asked_s or _MAX_WAIT_S:.0f} s"
        return ApiError(
            self._redacted(
                f"{self._service} refused {asked} with {answer.status}"
                f"{f': {said}' if said else ''}{f'; {fix}' if fix else ''}."
            ),
            http_status=answer.status,
            uncertain=uncertain,
            fix=fix,
        )

    def fix(self, status: int) -> str:
        """What to do about an answer with this status; empty where that is not known."""
        moved = f"it moved: check {self._options[0]}" if 300 <= status < 400 else ""
        return self._fixes.get(status, moved)

    def _redacted(self, said: str) -> str:
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return said

    def _plain(self, said: object, *, otherwise: str | None = None) -> str:
        """Somebody else's text, on one line and not too long; a secret in it is gone before it can be cut in two."""
        text = " ".join(self._redacted(str(said)).split())[:_MAX_SAID].rstrip(". ")
        return text or (type(said).__name__ if otherwise is None else otherwise)


#: Where services say what is wrong, and then how to mend it.
_WRONG = ("message", "error", "detail", "title")
_MORE = ("errors", "errorMessages", "hint", "link", "documentation_url")


def _vendor_words(answer: Answer) -> Iterator[str]:
    """What the service says went wrong and how to mend it, part by part; nothing if it is a page for people."""
    try:
        yield from _words(json.loads(answer.body))
    except (ValueError, RecursionError):
        if answer.headers.get("content-type", "").startswith("text/plain"):
            yield answer.body.decode(errors="replace").strip().rstrip(".")


def _words(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield said.strip().rstrip(".")
    elif isinstance(said, list):
        for each in said[:5]:
            yield from _words(each)
    elif isinstance(said, Mapping):
        wrong = next((said[name] for name in _WRONG if said.get(name)), None)
        more = [said[name] for name in _MORE if said.get(name)]
        if wrong is None and not more:
            # One line a field, as for a form.
            yield from (f"{name}: {what}" for name, what in list(said.items())[:5] if isinstance(what, str))
        for each in (wrong, *more):
            yield from _words(each)


def _spellings(secret: str) -> Iterator[str]:
    """How a service may repeat a secret. Of a secret address it may repeat the part that makes it one."""
    yield from (secret, secret.strip(), quote(secret, safe=""))
    if "://" in secret:
        for part in re.split(r"[/?&=]", secret.partition("://")[2])[1:]:
            # A plain word is no secret, and would be missing in other sentences.
            if len(part) >= 8 and (len(part) >= 20 or any(char.isdigit() for char in part)):
                yield from (part, unquote(part))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def basic(user: str, password: str) -> str:
    """What ``Authorization: Basic`` sends of a user and a password (RFC 7617); as secret as the password.

    >>> basic("Aladdin", "open sesame")
    'QWxhZGRpbjpvcGVuIHNlc2FtZQ=='
    """
    return b64encode(f"{user}:{password}".encode()).decode()


def _trust(option: str, ca_cert: str | None, *, validate_certs: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_cert)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RunbookError(f"{option}: {ca_cert} cannot be read ({why}); give a file of certificates in PEM.") from None
    if not validate_certs:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
