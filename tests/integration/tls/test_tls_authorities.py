"""What others say of a certificate: a real revocation list over HTTP, and CAA records of a real zone."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest
from ansible.module_utils.runbook.drivers.tls import authorities
from ansible.module_utils.runbook.drivers.tls import endpoints as driver
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.tls import judge
from ansible.module_utils.runbook.rules.tls.certificates import Seen, Trouble
from ansible.module_utils.runbook.rules.tls.endpoints import Endpoint
from certificates import certificate, revocation_list, save
from conftest import free_port, run_module
from tls_servers import context, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from certificates import Signed

HOST = "app.example.test"


@contextmanager
def http(pages: dict[str, bytes]) -> Iterator[str]:
    """A web server of pages; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def zone(records: dict[str, list[str]]) -> Iterator[dns.asyncresolver.Resolver]:
    """A name server with CAA records; a resolver that asks it. A name without a list is refused."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))

    def answer() -> None:
        with suppress(OSError):
            while True:
                data, client = listening.recvfrom(4096)
                query = dns.message.from_wire(data)
                name = query.question[0].name.to_text(omit_final_dot=True)
                reply = dns.message.make_response(query)
                if name == "refused.test":
                    reply.set_rcode(dns.rcode.REFUSED)
                elif name not in records:
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                elif records[name]:
                    reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CAA", *records[name]))
                listening.sendto(reply.to_wire(), client)

    threading.Thread(target=answer, daemon=True).start()
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], listening.getsockname()[1]
    try:
        yield resolver
    finally:
        listening.close()


def test_a_revoked_certificate_is_named_and_a_list_that_does_not_count_is_unknown(tmp_path):
    root, other = certificate(None, days=(-400, 4000)), certificate(None, days=(-400, 4000))
    ca_cert = save(tmp_path, "root", root)
    pages: dict[str, bytes] = {}
    with http(pages) as url:
        made = {
            name: certificate(root, days=(-1, 80), names=[HOST], crl_url=f"{url}/{name}")
            for name in ("good", "revoked", "stale", "foreign", "nonsense", "missing")
        }
        gone = certificate(root, days=(-1, 80), names=[HOST], crl_url=f"http://127.0.0.1:{free_port()}/gone")
        serial = made["revoked"][1].serial_number
        pages |= {
            "/good": revocation_list(root, serial), "/revoked": revocation_list(root, serial),
            "/stale": revocation_list(root, days=-1), "/foreign": revocation_list(other), "/nonsense": b"hello",
        }  # fmt: skip
        result = look(tmp_path, made | {"gone": gone}, ca_cert)
        told = {each["subject"]: each for each in result["checks"] if each["name"] == "revocation"}
        nobody = look(tmp_path, {"revoked": made["revoked"]}, ca_cert, revocation=False)
    assert {name: each["status"] for name, each in told.items()} == {
        "good": "ok", "revoked": "breach", "stale": "unknown", "foreign": "unknown", "nonsense": "unknown",
        "missing": "unknown", "gone": "unknown",
    }  # fmt: skip
    assert told["revoked"]["msg"].startswith("It was revoked on ")
    assert "(keyCompromise); renew it now" in told["revoked"]["msg"]
    for name, words in {
        "stale": "ended on", "foreign": "is not signed by", "nonsense": "is no revocation list",
        "missing": "the answer was 404", "gone": "Connection refused",
    }.items():  # fmt: skip
        assert words in told[name]["msg"]
    assert nobody["status"] == "ok"


def look(folder: Path, made: Mapping[str, Signed], ca_cert: str, **options: object) -> dict[str, Any]:
    """What the module says of a server for each certificate."""
    with ExitStack() as stack:
        endpoints = [
            {
                "name": name, "host": "127.0.0.1", "server_name": HOST, "ca_cert": ca_cert,
                "port": stack.enter_context(serving(context(save(folder, name, each)))),
            }
            for name, each in made.items()
        ]  # fmt: skip
        return run_module("tls_certificate_info", {"endpoints": endpoints, "timeout_s": 60, **options}).result


def test_a_public_certificate_holds_timestamps_and_the_zone_permits_its_authority(tmp_path):
    root = certificate(None, days=(-400, 4000), organization="Let's Encrypt")
    ca_cert = save(tmp_path, "root", root)
    seen: dict[int, list[Seen]] = {}
    for timestamps in (1, 2):
        path = save(
            tmp_path, f"with{timestamps}", certificate(root, days=(-1, 80), names=[HOST], timestamps=timestamps)
        )
        with serving(context(path)) as port:
            wanted = Endpoint("127.0.0.1", port, "tls", HOST, ca_cert=ca_cert)
            (seen[timestamps],) = driver.look([wanted], timeout_s=60, deadline_s=60)
    records = {
        "example.test": ['0 issue "letsencrypt.org; validationmethods=http-01"', '0 iodef "mailto:x@example.test"'],
        "open.test": [], "app.other.test": ['0 issue "pki.goog"'], "none.test": ['0 issue ";"'],
    }  # fmt: skip
    names = [HOST, "open.test", "app.other.test", "none.test", "refused.test", "a.b.nowhere.test"]
    with zone(records) as resolver:
        permitted = authorities.caa(names, timeout_s=5, deadline_s=60, resolver=resolver)
    assert {name: each for name, each in permitted.items() if not isinstance(each, Trouble)} == {
        HOST: ("letsencrypt.org",), "open.test": (), "app.other.test": ("pki.goog",), "none.test": ("",),
        "a.b.nowhere.test": (),
    }  # fmt: skip
    assert isinstance(permitted["refused.test"], Trouble)

    def told(timestamps: int, caa: tuple[str, ...] | Trouble) -> dict[str, tuple[str, str]]:
        demand = judge.Demand("app", HOST, 0, ca_cert)
        checks = judge.judge(demand, seen[timestamps], datetime.now(UTC), judge.Beyond(caa={HOST: caa}))
        return {each.name: (each.status, each.msg) for each in checks if each.name in ("transparency", "caa")}

    good = told(2, permitted[HOST])
    assert [status for status, _ in good.values()] == [Status.OK, Status.OK]
    assert told(1, ())["transparency"] == (
        Status.BREACH, "It holds 1 timestamp of transparency logs, and browsers want 2; have it issued again.",
    )  # fmt: skip
    assert told(2, ())["caa"][0] is Status.OK
    status, msg = told(2, permitted["app.other.test"])["caa"]
    assert (status, "permit pki.goog, and not Let's Encrypt" in msg) == (Status.BREACH, True)
    assert "permit nobody" in told(2, permitted["none.test"])["caa"][1]
    assert told(2, permitted["refused.test"])["caa"][0] is Status.UNKNOWN


@pytest.mark.parametrize("silent", [True, False])
def test_a_name_server_that_says_nothing_is_unknown_within_its_time(silent):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], listening.getsockname()[1]
        if not silent:
            listening.close()
        found = authorities.caa([HOST], timeout_s=1, deadline_s=60, resolver=resolver)
    trouble = found[HOST]
    assert isinstance(trouble, Trouble)
    assert trouble.status is Status.UNKNOWN
