"""The outside services of the sandbox: a program that serves fakes on loopback until it is told to end.

``python -P -m fakes.serve FOLDER`` with ``tests`` on ``PYTHONPATH``. What each of them holds lies in FOLDER as JSON,
from where it is read again at the next start, and is shown as a page at its address. ``FOLDER/services.json`` says who
serves what and how it is reached; it is written when all of them listen.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import json
import os
import re
import signal
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from certificates import certificate, save
from fakes import github, pagerduty, statuspage
from fakes.chat import PATHS, FakeChat
from fakes.github import FakeGitHub
from fakes.http import Asked, FakeService, Reply
from fakes.pagerduty import FakePagerDuty
from fakes.statuspage import COMPONENTS, FakeStatuspage
from markdown_it import MarkdownIt
from tls_servers import context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aiosmtpd.smtp import SMTP, Envelope, Session

_HEAD = """\
<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
body { font: 1rem/1.4 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
body { color-scheme: light dark }
div { border-left: 3px solid #8888; padding-left: .8rem; margin: 1rem 0 }
p { white-space: pre-line; margin: .4rem 0 }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0 }
td, th { border: 1px solid #8886; padding: .1rem .4rem; text-align: left }
</style>
<p>A fake, for the sandbox.</p>
"""

#: What may be looked at: a heading, and texts below it.
Entry = tuple[str, list[str]]


class Shown(FakeService):
    """A fake that keeps what it holds, and shows it to people."""

    #: Name of its file, and title of its page.
    name: ClassVar[str]
    title: ClassVar[str]
    #: The attributes that it keeps.
    keeps: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        super().__init__()
        self._file = folder / f"{self.name}.json"
        for key, value in read(self._file).items():
            setattr(self, key, value)

    def answer(self, asked: Asked) -> Reply:
        """A page for people, or what the service answers."""
        if asked.method == "GET" and asked.path in self.pages():
            return Reply(200, self._page().encode(), {"Content-Type": "text/html; charset=utf-8"})
        reply = super().answer(asked)
        if asked.method != "GET":
            self.save()
        return reply

    def save(self) -> None:
        """Keep it."""
        with self._lock:
            write(self._file, {key: getattr(self, key) for key in self.keeps})

    def settings(self) -> dict[str, Any]:
        """What who uses it has to be told."""
        raise NotImplementedError

    def entries(self) -> Iterator[Entry]:
        """What it holds."""
        raise NotImplementedError

    def shown(self, text: str) -> str:
        """A text as HTML."""
        return f"<p>{html.escape(text)}</p>"

    def pages(self) -> set[str]:
        """Paths at which people find its page."""
        return {"/"}

    def _page(self) -> str:
        shown = [
            f"<h2>{html.escape(heading)}</h2>{''.join(f'<div>{self.shown(text)}</div>' for text in texts)}"
            for heading, texts in self.entries()
        ]
        nothing = "<p>There is nothing yet.</p>"
        return f"{_HEAD}<title>{self.title}</title><h1>{self.title}</h1>{''.join(shown) or nothing}"


class Tickets(Shown, FakeGitHub):
    """Issues of a repository."""

    name, title, keeps = "ticket", "Tickets", ("issues", "comments")

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self.site = self.url
        # JSON has no numbers as keys.
        self.comments = {int(number): found for number, found in self.comments.items()}

    def settings(self) -> dict[str, Any]:
        """As the module's options."""
        return {"github_api_url": self.url, "github_repository": github.REPOSITORY, "github_token": github.TOKEN}

    def pages(self) -> set[str]:
        """Each ticket has the address that GitHub would give it."""
        return {"/", *(each["html_url"].removeprefix(self.url) for each in self.issues)}

    def shown(self, text: str) -> str:
        """Markdown, as GitHub shows it."""
        return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))

    def entries(self) -> Iterator[Entry]:
        """The newest first, without what GitHub does not show."""
        for issue in reversed(self.issues):
            texts = [issue["body"], *(each["body"] for each in self.comments.get(issue["number"], []))]
            shown = [re.sub(r"<!--.*?-->", "", text or "", flags=re.DOTALL).strip() for text in texts]
            yield f"#{issue['number']} {issue['title']} ({issue['state']})", shown


class StatusPage(Shown, FakeStatuspage):
    """A public page."""

    name, title, keeps = "status_page", "Status page", ("incidents", "components")

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self.site = self.url

    def settings(self) -> dict[str, Any]:
        """As the module's options."""
        return {
            "statuspage_api_url": self.base, "statuspage_page": statuspage.PAGE, "statuspage_token": statuspage.TOKEN,
            "components": [COMPONENTS[0]],
        }  # fmt: skip

    def pages(self) -> set[str]:
        """Each notice has an address."""
        return {"/", *(each["shortlink"].removeprefix(self.url) for each in self.incidents)}

    def entries(self) -> Iterator[Entry]:
        """How the components do, then the newest notice first."""
        yield "Components", [f"{each['name']}: {each['status']}" for each in self.components.values()]
        for incident in reversed(self.incidents):
            self._move_on(incident)
            times = f"{incident.get('scheduled_for', '')} – {incident.get('scheduled_until', '')}"
            updates = [f"{each['status']}: {each['body']}" for each in incident["incident_updates"]]
            yield f"{incident['name']} ({incident['status']})", [times.strip(" –"), *updates]


class Chat(Shown, FakeChat):
    """A channel of the team."""

    name, title, keeps = "chat", "Messages to the team", ("got",)

    def settings(self) -> dict[str, Any]:
        """As the module's options."""
        return {"slack_url": self.url + PATHS["slack"]}

    def entries(self) -> Iterator[Entry]:
        """The newest first."""
        for number, message in sorted(enumerate(self.got, 1), reverse=True):
            yield f"Message {number}", [html.unescape(str(message["text"]))]


class Pager(Shown, FakePagerDuty):
    """An account at PagerDuty, with a past."""

    name, title, keeps = "pagerduty", "PagerDuty", ("history", "shifts", "incidents")

    def settings(self) -> dict[str, Any]:
        """As the modules' options."""
        return {
            "pagerduty_api_url": self.url, "pagerduty_api_token": pagerduty.TOKEN,
            "pagerduty_routing_key": pagerduty.ROUTING_KEY, "schedule": pagerduty.SCHEDULE,
            "service": pagerduty.SERVICE,
        }  # fmt: skip

    def entries(self) -> Iterator[Entry]:
        """The newest first."""
        for each in reversed(self.incidents):
            yield f"{each['title']} ({'resolved' if each['end'] else 'triggered'})", [pagerduty.stamp(each["begin"])]
        yield (
            "On call",
            [f"{self.people[each['person']]['name']} from {pagerduty.stamp(each['begin'])}" for each in self.shifts],
        )


class Webhook(Shown):
    """Takes what Alertmanager sends, and shows it."""

    service: ClassVar[str] = "webhook"
    name, title, keeps = "webhook", "Alerts to a webhook", ("got",)

    def __init__(self, folder: Path, port: int) -> None:
        self.got: list[Any] = []
        super().__init__(folder, port)

    def settings(self) -> dict[str, Any]:
        """Where it takes them."""
        return {"webhook_url": f"{self.url}/alerts"}

    def entries(self) -> Iterator[Entry]:
        """The newest first."""
        for message in reversed(self.got):
            yield (
                f"{message['status']}: {message['commonLabels'].get('alertname', '')}",
                [each["annotations"].get("summary", "") for each in message["alerts"]],
            )

    def answer(self, asked: Asked) -> Reply:
        """Keep what comes."""
        if (asked.method, asked.path) != ("POST", "/alerts"):
            return super().answer(asked) if asked.path in self.pages() else Reply(404, {})
        with self._lock:
            # An alert that fires for ever is told again and again.
            self.got = [*self.got[-99:], asked.body]
        self.save()
        return Reply(200)


class Mail(Shown):
    """A mail server that keeps what it gets, and its page."""

    service: ClassVar[str] = "mail"
    name, title, keeps = "mail", "Mail", ("messages", "smtp_port")

    def __init__(self, folder: Path, port: int) -> None:
        self.messages: list[dict[str, str]] = []
        self.smtp_port = 0
        super().__init__(folder, port)

    def __enter__(self) -> Mail:
        from aiosmtpd.controller import Controller  # noqa: PLC0415 - a package of the tests' alone

        super().__enter__()
        self.smtp_port = free(self.smtp_port)
        self._smtp = Controller(self, "127.0.0.1", self.smtp_port, ready_timeout=30)
        self._smtp.start()
        self.save()
        return self

    def __exit__(self, *error: object) -> None:
        self._smtp.stop()
        super().__exit__(*error)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Keep a message."""
        del server, session
        mail = message_from_bytes(envelope.original_content or b"", policy=default)
        body = mail.get_body(("plain", "html"))
        self.messages.append(
            {"to": ", ".join(envelope.rcpt_tos), "subject": str(mail["Subject"]),
             "text": str(body.get_content()) if body else ""}
        )  # fmt: skip
        self.save()
        return "250 OK"

    def settings(self) -> dict[str, Any]:
        """Where it takes mail."""
        return {"email_host": "127.0.0.1", "email_port": self.smtp_port}

    def entries(self) -> Iterator[Entry]:
        """The newest first."""
        for message in reversed(self.messages):
            yield message["subject"], [f"To {message['to']}", message["text"]]

    def answer(self, asked: Asked) -> Reply:
        """It has nothing but its page."""
        return super().answer(asked) if asked.path in self.pages() else Reply(404, {})


@contextmanager
def website(folder: Path, port: int) -> Iterator[dict[str, Any]]:
    """A page over TLS, whose certificate an authority of its own has just issued; how it is reached and checked."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(f"{_HEAD}<title>Mental Scribe</title><h1>Mental Scribe</h1>".encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    root = certificate(None, days=(-1, 400), common_name="Sandbox authority")
    path = save(folder, "website", certificate(root, days=(-1, 80)))
    server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    server.socket = context(path).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "page": f"https://127.0.0.1:{port}/",
            "endpoint": {
                "name": "website", "host": "127.0.0.1", "port": port, "path": path,
                "ca_cert": save(folder, "website-authority", root),
            },
        }  # fmt: skip
    finally:
        server.shutdown()


def free(port: int) -> int:
    """The port of the last time where it is free, else another one."""
    for wanted in (port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("no port is free")


def read(path: Path) -> dict[str, Any]:
    """What :func:`write` wrote; empty where there is none, or where it is damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """In one move, readable by the owner alone."""
    draft = path.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(path)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    kinds: list[type[Shown]] = [Tickets, StatusPage, Chat, Pager, Webhook]
    if importlib.util.find_spec("aiosmtpd"):
        kinds.append(Mail)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    before = read(folder / "services.json").get("ports", {})
    with ExitStack() as serving:
        services = {kind.name: serving.enter_context(kind(folder, free(before.get(kind.name, 0)))) for kind in kinds}
        told = {name: {"page": f"{each.url}/", **each.settings()} for name, each in services.items()}
        ports = {name: each.port for name, each in services.items()} | {"website": free(before.get("website", 0))}
        told["website"] = serving.enter_context(website(folder, ports["website"]))
        write(folder / "services.json", {"pid": os.getpid(), "ports": ports, "services": told})
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
