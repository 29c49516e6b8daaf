"""A service that speaks JSON over real HTTP on loopback; a fake of a vendor's is a class on top of it.

What goes wrong is set by the test, see :class:`Fault`. Each exchange that the fake answered as the service would is
added as a line of JSON to the file that ``RUNBOOK_TEST_EXCHANGES`` names, so that it can be held against the vendor's
own description of the API::

    {"service": "supabase", "method": "GET", "path": "/v1/projects/…?a=b",
     "request": {"body": null}, "status": 200, "response": {"body": {…}}}
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

EXCHANGES = "RUNBOOK_TEST_EXCHANGES"


@dataclass
class Fault:
    """What the next request whose line matches gets instead of its answer.

    :param on: regular expression for ``METHOD path``
    :param kind: ``status`` answers with ``status``, ``headers``, ``body``; ``reset`` breaks the connection; ``early``
        sends half a body; ``slow`` waits ``wait_s`` first; ``trickle`` sends headers that do not end; ``lost`` does
        what was asked and breaks the connection
    """

    on: str
    kind: Literal["status", "reset", "early", "slow", "trickle", "lost"]
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    wait_s: float = 0
    times: int = 1


@dataclass(frozen=True)
class Asked:
    """A request; ``query`` as it was sent, ``body`` parsed."""

    method: str
    path: str
    query: str
    headers: Message
    body: Any

    @property
    def line(self) -> str:
        """``METHOD path``."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """An answer; a ``body`` of bytes is sent as it is, any other as JSON, None as nothing."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeService:
    """A context manager; requests are served by a thread each."""

    #: Name of the vendor's description, for the log of exchanges.
    service: ClassVar[str]
    #: Headers that stand on every answer.
    headers: ClassVar[dict[str, str]] = {}
    #: The port to listen on; 0 for any.
    port: int = 0

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        #: ``METHOD path`` of each request that came.
        self.requests: list[str] = []
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, asked: Asked) -> Reply:
        """What the service answers."""
        raise NotImplementedError

    def description(self, asked: Asked) -> str:
        """The description of the vendor's that knows this request."""
        del asked
        return self.service

    def take_fault(self, line: str) -> Fault | None:
        """The fault that this request gets, if any."""
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.on, line):
                    fault.times -= 1
                    return fault
        return None

    def log(self, asked: Asked, reply: Reply) -> None:
        """Write an exchange down where somebody wants to see it."""
        name = os.environ.get(EXCHANGES)
        if not name:
            return
        line = json.dumps(
            {
                "service": self.description(asked),
                "method": asked.method,
                "path": f"{asked.path}?{asked.query}" if asked.query else asked.path,
                "request": {"body": asked.body},
                "status": reply.status,
                "response": {"body": None if isinstance(reply.body, bytes) else reply.body},
            }
        )
        # Tests in several processes share the file: one line is one write.
        with self._lock, Path(name).open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A client that waits on an open connection must not keep the fake from ending.
    block_on_close = False
    fake: FakeService

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what faults are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass

    def _serve(self) -> None:
        fake = self.server.fake
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        asked = Asked(self.command, path, query, self.headers, json.loads(body or b"null"))
        fake.requests.append(asked.line)
        fault = fake.take_fault(asked.line)
        kind = fault.kind if fault else None
        if fault and kind == "status":
            # Not the service's own answer, so it is not in the log.
            self._send(Reply(fault.status, fault.body, fault.headers))
            return
        if kind == "reset":
            self._break()
            return
        if kind == "trickle":
            self._trickle()
            return
        if fault and kind == "slow":
            time.sleep(fault.wait_s)
        reply = fake.answer(asked)
        fake.log(asked, reply)
        if kind == "lost":
            self._break()
        else:
            self._send(reply, early=kind == "early")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names are http.server's

    def _send(self, reply: Reply, *, early: bool = False) -> None:
        body = reply.body
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json; charset=utf-8"} | self.server.fake.headers | dict(reply.headers)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if early else content)
        if early:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _break(self) -> None:
        # With no time to linger the kernel sends a reset in the place of a polite end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _trickle(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.server.fake.ended.wait(0.05):
            self.wfile.write(b".")
        self.close_connection = True
