"""Where messages to the team go. No such service can be asked what it got, so each message is sent once.

What each ``send`` raises says whether it may have arrived: ``breach`` where it certainly did not, else ``unknown``.
"""

from __future__ import annotations

import smtplib
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from ansible.module_utils.runbook.drivers.change.changes import Done
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError
from ansible.module_utils.runbook.drivers.http.webhook import Webhook
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.notice import FORMS
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from email.message import EmailMessage

    from ansible.module_utils.runbook.drivers.change.changes import Changes
    from ansible.module_utils.runbook.rules.change.change import Change
    from ansible.module_utils.runbook.rules.change.notice import Notice

_NAMES = {"slack": "Slack", "teams": "Teams", "webhook": "The webhook of the team"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
#: A mail takes some answers of the server's, each of which may take as long as the options say.
_ANSWERS = 4


class Channel(Protocol):
    """Somewhere people read."""

    def send(self, notice: Notice) -> str:
        """Send a message once; what the service said of it.

        :raises RunbookError: ``breach`` where it was certainly not sent, ``unknown`` where it may have been
        """


class Hook:
    """An address that takes a message as JSON, as Slack and Teams have it."""

    def __init__(self, api: ApiClient, message: Callable[[Notice], dict[str, Any]]) -> None:
        self._api = api
        self._message = message

    def send(self, notice: Notice) -> str:
        """As :class:`Channel` says."""
        said = _once(lambda: self._api.post("", self._message(notice)))
        # Some say no with a status that says yes.
        if isinstance(said, Mapping) and said.get("ok") is False:
            raise RunbookError(f"The message was refused: {str(said.get('error', 'no reason given'))[:100]}.")
        if isinstance(said, str) and "fail" in said.lower():
            raise RunbookError("The service accepted the message and said that its delivery failed; look there.")
        return "accepted"


class Receiver:
    """A webhook of somebody's own."""

    def __init__(self, hook: Webhook) -> None:
        self._hook = hook

    def send(self, notice: Notice) -> str:
        """As :class:`Channel` says. The receiver knows a second sending by its key."""
        _once(lambda: self._hook.send(notice.key, notice.event()))
        return "accepted"


class Mail:
    """A server that takes mail for others."""

    def __init__(
        self, *, host: str, port: int, security: str, user: str, password: str, sender: str, receivers: Sequence[str],
        ca_cert: str | None, timeout_s: float,
    ) -> None:  # fmt: skip
        self._where = (host, port or _PORTS[security])
        self._security = security
        self._user, self._password = user, password
        self._sender, self._receivers = sender, list(receivers)
        self._timeout_s = timeout_s
        try:
            self._tls = ssl.create_default_context(cafile=ca_cert)
        except OSError as error:
            raise RunbookError(f"ca_cert: {ca_cert} cannot be read ({error.strerror}); give a file in PEM.") from None

    def send(self, notice: Notice) -> str:
        """As :class:`Channel` says. It goes to all receivers or to none."""
        mail = notice.email(self._sender, self._receivers, formatdate())
        said: list[str | Exception] = []
        #: Set when the mail itself goes out: from then on it may arrive.
        begun = threading.Event()
        # Once set, nothing is begun any more.
        given_up = threading.Event()

        def work() -> None:
            try:
                said.append(self._deliver(mail, begun, given_up))
            except Exception as error:
                said.append(error)

        worker = threading.Thread(target=work, name="mail", daemon=True)
        worker.start()
        worker.join(_ANSWERS * self._timeout_s)
        if not said:
            given_up.set()
            raise self._failed("no answer in time", may_arrive=begun.is_set())
        if not isinstance(said[0], Exception):
            return said[0]
        raise self._explained(said[0], may_arrive=begun.is_set()) from None

    def _deliver(self, mail: EmailMessage, begun: threading.Event, given_up: threading.Event) -> str:
        host, port = self._where
        server = (
            smtplib.SMTP_SSL(host, port, timeout=self._timeout_s, context=self._tls)
            if self._security == "tls"
            else smtplib.SMTP(host, port, timeout=self._timeout_s)
        )
        try:
            if self._security == "starttls":
                server.starttls(context=self._tls)
            if self._user:
                server.login(self._user, self._password)
            server.ehlo_or_helo_if_needed()
            _agreed("MAIL FROM", server.mail(self._sender))
            for receiver in self._receivers:
                _agreed(f"RCPT TO {receiver}", server.rcpt(receiver))
            if given_up.is_set():
                return ""
            begun.set()
            code, answer = server.data(mail.as_bytes())
            if code != 250:
                # It said that it did not take it.
                begun.clear()
                raise smtplib.SMTPResponseException(code, answer)
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
            return f"accepted for {len(self._receivers)}"
        finally:
            server.close()

    def _explained(self, error: Exception, *, may_arrive: bool) -> RunbookError:
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return self._failed(
                f"refused the login with {error.smtp_code}; check email_user, email_password", may_arrive
            )
        if isinstance(error, smtplib.SMTPResponseException):
            # The server's own words may repeat what it was given.
            said = (
                error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            )
            return self._failed(
                f"answered {error.smtp_code}: {self._redacted(' '.join(str(said).split())[:200])}", may_arrive
            )
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return self._failed("has no STARTTLS, or no login; set email_security to tls, or ask its owner", may_arrive)
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._failed(
                f"has a certificate that is not trusted ({error.verify_message}); set ca_cert", may_arrive
            )
        said = self._redacted(str(error)) or type(error).__name__
        return self._failed(f"broke off: {said}", may_arrive)

    def _failed(self, why: str, may_arrive: bool) -> RunbookError:
        host, port = self._where
        left = "Whether the mail arrives is unknown" if may_arrive else "Nothing was sent"
        return RunbookError(
            f"Mail server {host}:{port} {why}. {left}.", status=Status.of(breach=not may_arrive, unknown=True)
        )

    def _redacted(self, said: str) -> str:
        return said.replace(self._password, "***") if self._password else said


def _agreed(asked: str, answer: tuple[int, bytes]) -> None:
    if not 200 <= answer[0] < 300:
        raise smtplib.SMTPResponseException(answer[0], asked.encode() + b": " + answer[1])


def _once(send: Callable[[], Any]) -> Any:
    try:
        return send()
    except ApiError as error:
        if error.uncertain:
            raise
        raise RunbookError(f"{error.message} It was not sent.", status=Status.BREACH) from None


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of a channel beside ``backend``; ``doc_fragments/runbook_channel.py`` tells them."""
    return {
        "slack_url": {"type": "str", "no_log": True},
        "teams_url": {"type": "str", "no_log": True},
        "email_host": {"type": "str"},
        "email_port": {"type": "int"},
        "email_security": {"type": "str", "choices": ["starttls", "tls", "none"]},
        "email_user": {"type": "str"},
        "email_password": {"type": "str", "no_log": True},
        "email_from": {"type": "str"},
        "email_to": {"type": "list", "elements": "str"},
        "webhook_url": {"type": "str", "no_log": True},
        "webhook_token": {"type": "str", "no_log": True},
    }


def tell_once(
    changes: Changes, change: Change | None, item: str, notice: Notice, params: Mapping[str, Any], *, whom: str,
    read_only: bool, may_double: bool = False,
) -> Done:  # fmt: skip
    """Send the message of an item of a change, unless it may have been sent before.

    :param change: as it was before; None in a check mode
    :param params: the options of the channel, which are checked
    :param may_double: it is rather sent twice than not at all
    :raises RunbookError: as :meth:`Channel.send`; or it may have been sent before
    """
    backend = params["backend"]
    channel = from_params(params, read_only=read_only)
    if read_only:
        return Done(f"Would tell {whom} by {backend}: {notice.title}", facts={"changed": True})
    answered = change.items.get(item) if change else None
    may_double = may_double or backend == "webhook"
    if answered is not None and answered.status is Status.UNKNOWN and not may_double:
        raise RunbookError(
            f"The message {notice.title!r} to {whom} may have been sent by {backend} already, and is not sent again; "
            "look there whether it arrived.",
            status=Status.UNKNOWN,
        )
    changes.answer(item, Status.UNKNOWN, f"Is being sent by {backend}; whether it arrived is unknown.")
    said = channel.send(notice)
    return Done(f"Told {whom} by {backend}: {notice.title}", proof=f"{backend}: {said}", facts={"changed": True})


def from_params(params: Mapping[str, Any], *, read_only: bool) -> Channel:
    """The channel that a module's options name, which are checked.

    :raises RunbookError: a password would travel unencrypted
    """
    backend = params["backend"]
    if backend == "email":
        security = params["email_security"] or "starttls"
        if params["email_password"] and security == "none" and params["email_host"] not in _LOOPBACK:
            raise RunbookError("email_security: none would send email_password unencrypted; set it to starttls or tls.")
        return Mail(
            host=params["email_host"], port=params["email_port"] or 0, security=security,
            user=params["email_user"] or "", password=params["email_password"] or "", sender=params["email_from"],
            receivers=params["email_to"], ca_cert=params["ca_cert"], timeout_s=params["timeout_s"],
        )  # fmt: skip
    if backend == "webhook":
        return Receiver(
            Webhook(
                service=_NAMES[backend], url=params["webhook_url"], token=params["webhook_token"] or "",
                ca_cert=params["ca_cert"], timeout_s=params["timeout_s"], read_only=read_only,
            )
        )  # fmt: skip
    api = ApiClient(
        service=_NAMES[backend],
        base_url=params[f"{backend}_url"],
        headers={},
        secrets={f"{backend}_url": params[f"{backend}_url"]},
        read_only=read_only,
        timeout_s=params["timeout_s"],
        fixes=dict.fromkeys((401, 403, 404, 410), f"check {backend}_url"),
        ca_cert=params["ca_cert"],
        options=(f"{backend}_url", "ca_cert"),
    )
    return Hook(api, FORMS[backend])
