"""An HTTP proxy before an S3 server that does to chosen requests what bad luck does to them.

Host and signature go through untouched, so a client is given the proxy's address and nothing else changes::

    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(status(503, "SlowDown", method="PUT", times=2))
        proxy.add(reset(upload=True, at_bytes=100_000, path="data-01"))
        …  # options | {"endpoint_url": proxy.endpoint_url}
        assert proxy.hits == 3

A fault waits for a request that it matches, lets ``after`` of those through, strikes ``times`` of them (0: all), and
rests then. Of several faults the first one that strikes is the request's fate.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

PIECE_BYTES = 64 * 1024
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection", "te", "upgrade"}

Kind = Literal["status", "reset", "truncate", "flip", "slow", "close", "lose_answer", "hang"]


@dataclass
class Fault:
    """What happens, and to which requests."""

    kind: Kind
    #: ``PUT``, ``GET`` …; empty for all.
    method: str = ""
    #: Part of the path with its query, percent-decoded; empty for all.
    path: str = ""
    after: int = 0
    times: int = 1
    #: The body of the request is meant, not that of the answer.
    upload: bool = False
    at_bytes: int = 0
    bytes_per_s: int = 0
    status: int = 500
    code: str = ""
    message: str = ""
    #: The header that announces the length fits what is sent, so that only a reader who knows better notices.
    fitting: bool = False
    seen: int = 0
    struck: int = 0

    def strikes(self, method: str, path: str) -> bool:
        """Whether it is this request's turn; counts it."""
        if (self.method and self.method != method) or self.path not in unquote(path):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times and self.struck >= self.times):
            return False
        self.struck += 1
        return True


def status(number: int, code: str, message: str = "Injected.", **where: Any) -> Fault:
    """An error of S3's own; the server never hears of the request."""
    return Fault("status", status=number, code=code, message=message, **where)


def expired_token(*, after: int, **where: Any) -> Fault:
    """Credentials that expire once ``after`` requests were answered, and stay expired."""
    text = "The provided token has expired."
    return Fault("status", status=403, code="ExpiredToken", message=text, after=after, times=0, **where)


def reset(*, at_bytes: int = 0, upload: bool = False, **where: Any) -> Fault:
    """The connection is reset when ``at_bytes`` of the body are through; the server has an upload's first part then."""
    return Fault("reset", at_bytes=at_bytes, upload=upload, **where)


def truncate(*, at_bytes: int, fitting: bool = False, **where: Any) -> Fault:
    """The answer's body ends early; with ``fitting`` its announced length does too."""
    return Fault("truncate", at_bytes=at_bytes, fitting=fitting, **where)


def flip(*, at_bytes: int, upload: bool = False, **where: Any) -> Fault:
    """One bit of the byte at ``at_bytes`` is the other way round."""
    return Fault("flip", at_bytes=at_bytes, upload=upload, **where)


def slow(*, bytes_per_s: int, upload: bool = False, **where: Any) -> Fault:
    """The body crawls."""
    return Fault("slow", bytes_per_s=bytes_per_s, upload=upload, **where)


def close(**where: Any) -> Fault:
    """The connection is closed in the place of an answer; the server never hears of the request."""
    return Fault("close", **where)


def lose_answer(**where: Any) -> Fault:
    """The server does what it was asked for, and its answer is lost."""
    return Fault("lose_answer", **where)


def hang(**where: Any) -> Fault:
    """No answer comes, and the connection stays open until the proxy ends."""
    return Fault("hang", **where)


@dataclass
class FaultyS3:
    """The proxy; a context manager. Requests are served by a thread each."""

    upstream_url: str
    faults: list[Fault] = field(default_factory=list)
    #: ``(method, path with query, status)`` of each request that was answered, 0 for one that got none.
    log: list[tuple[str, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def hits(self) -> int:
        """How many requests were struck so far."""
        return sum(fault.struck for fault in self.faults)

    def add(self, *faults: Fault) -> None:
        """Have these happen from now on, after those that are there."""
        with self._lock:
            self.faults.extend(faults)

    def clear(self) -> None:
        """Be an honest proxy again, with an empty log."""
        with self._lock:
            self.faults.clear()
            self.log.clear()

    def fate(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request."""
        with self._lock:
            return next((fault for fault in self.faults if fault.strikes(method, path)), None)

    def close(self) -> None:
        """End; requests that hang are let go."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> FaultyS3:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A client that waits on an open connection must not keep the proxy from ending.
    block_on_close = False
    request_queue_size = 64
    proxy: FaultyS3

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that one side broke is what this proxy is about."""


class _CutError(Exception):
    """The connection is to be reset here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Keep quiet."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        fault = proxy.fate(self.command, self.path)
        answered = 0
        try:
            answered = self._answer(fault)
        except (_CutError, OSError, http.client.HTTPException):
            # With no time to linger the kernel sends a reset in the place of a polite end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        finally:
            proxy.log.append((self.command, self.path, answered))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - the names are http.server's

    def _answer(self, fault: Fault | None) -> int:
        """Let the request through as far as ``fault`` has it; the status that the client saw."""
        kind = fault.kind if fault else None
        if fault is None or kind not in ("status", "close", "hang"):
            return self._forward(fault)
        for _ in self._request_body():
            pass
        if kind == "status":
            return self._refuse(fault)
        if kind == "hang":
            self.server.proxy.ended.wait()
        self.close_connection = True
        return 0

    def _refuse(self, fault: Fault) -> int:
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message><RequestId>0</RequestId></Error>"
        ).encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
        return fault.status

    def _forward(self, fault: Fault | None) -> int:
        upload = fault if fault and fault.upload else None
        upstream = http.client.HTTPConnection(
            urlsplit(self.server.proxy.upstream_url).netloc, timeout=60, blocksize=PIECE_BYTES
        )
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    upstream.putheader(name, value)
            chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
            if chunked:
                upstream.putheader("Transfer-Encoding", "chunked")
            upstream.endheaders()
            for piece in _spoiled(self._request_body(), upload):
                upstream.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                upstream.send(b"0\r\n\r\n")
            return self._hand_back(upstream.getresponse(), fault)
        finally:
            upstream.close()

    def _hand_back(self, answer: http.client.HTTPResponse, fault: Fault | None) -> int:
        download = fault if fault and not fault.upload else None
        if download and download.kind == "lose_answer":
            answer.read()
            raise _CutError
        length = answer.getheader("Content-Length")
        empty = self.command == "HEAD" or answer.status in (204, 304)
        if download and download.kind == "truncate" and download.fitting and length is not None:
            length = str(min(int(length), download.at_bytes))
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", length)
        elif not empty:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if not empty:
            pieces = iter(lambda: answer.read(PIECE_BYTES), b"")
            for piece in _spoiled(pieces, download):
                self.wfile.write(piece)
            if download and download.kind == "truncate" and not download.fitting:
                self.close_connection = True
        return answer.status

    def _request_body(self) -> Iterator[bytes]:
        """The body in pieces, out of its chunks where it has some."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self._exactly(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self._exactly(min(left, PIECE_BYTES))
            left -= len(piece)
            yield piece

    def _exactly(self, size: int) -> bytes:
        piece = self.rfile.read(size)
        if len(piece) < size:
            raise _CutError
        return piece


def _spoiled(pieces: Iterable[bytes], fault: Fault | None) -> Iterator[bytes]:
    """A body on its way, as ``fault`` would have it.

    :raises _CutError: the connection is to be reset here
    """
    offset = 0
    for whole in pieces:
        piece = whole
        if fault and fault.kind == "slow":
            time.sleep(len(piece) / fault.bytes_per_s)
        if fault and fault.kind in ("reset", "truncate") and offset + len(piece) >= fault.at_bytes:
            yield piece[: fault.at_bytes - offset]
            if fault.kind == "reset":
                raise _CutError
            return
        if fault and fault.kind == "flip" and offset <= fault.at_bytes < offset + len(piece):
            spoiled = bytearray(piece)
            spoiled[fault.at_bytes - offset] ^= 1
            piece = bytes(spoiled)
        offset += len(whole)
        yield piece
    if fault and fault.kind == "reset":
        raise _CutError
