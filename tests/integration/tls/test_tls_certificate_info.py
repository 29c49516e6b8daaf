"""tls_certificate_info on real TLS servers: each bad certificate is named, beside what OpenSSL's own client says."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import bindirs
from ansible.module_utils.runbook.drivers.tls import endpoints as driver
from ansible.module_utils.runbook.rules.tls import judge
from ansible.module_utils.runbook.rules.tls.endpoints import Endpoint
from certificates import certificate, save
from conftest import ROOT, disposable, free_port, run_module
from cryptography.hazmat.primitives.asymmetric import rsa
from tls_servers import context, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = "tls_certificate_info"
HOST = "app.example.test"


@dataclass
class Case:
    """A server, what is asked of it, and what has to be said."""

    path: str = ""
    server: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    #: Questions that are not ok, each with its status and words of its sentence.
    says: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: The number of OpenSSL's verdict (X509_V_ERR_*); None where it is not asked.
    openssl: int | None = 0
    port: int = 0


def forged(folder: Path, root: str) -> str:
    """A certificate with a signature by SHA-1, which the library does not make any more."""
    path = save(folder, "sha1", certificate(None, names=[HOST], common_name="server", authority=False))
    signed = ["-CA", root, "-CAkey", root.removesuffix(".crt") + ".key", "-sha1", "-set_serial", "7", "-days", "90"]
    subprocess.run(["openssl", "x509", "-in", path, "-out", path, *signed], check=True, capture_output=True)
    return path


def cases(folder: Path) -> dict[str, Case]:
    root, other = certificate(None, days=(-400, 4000)), certificate(None, days=(-400, 4000))
    middle = certificate(root, days=(-10, 1000), authority=True, names=(), common_name="middle")
    ended = certificate(root, days=(-90, -1), authority=True, names=(), common_name="ended")
    save(folder, "root", root)

    def made(name: str, by: Any = root, *more: Any, **how: Any) -> str:
        made = certificate(by, **({"names": [HOST], "days": (-1, 80)} | how))
        return save(folder, name, made, *more)

    good = made("good")
    return {
        "good": Case(good, asked={"path": good}),
        "slow": Case(good, server={"pause_s": 0.3}),
        "with its chain": Case(made("chained", middle, middle)),
        "expired": Case(made("expired", days=(-90, -1)), says={"lifetime": ("breach", "expired on")}, openssl=10),
        "not yet valid": Case(
            made("early", days=(1, 90)), says={"lifetime": ("breach", "by this machine's clock")}, openssl=9
        ),
        "due": Case(made("due", days=(-60, 25)), says={"lifetime": ("breach", "Due: ")}),
        "critical": Case(made("critical", days=(-40, 7)), says={"lifetime": ("breach", "Critical: ")}),
        "wrong name": Case(
            made("wrong", names=["other.example.test"]),
            says={"name": ("breach", "not for app.example.test")},
            openssl=62,
        ),
        "name not asked": Case(str(folder / "wrong.crt"), asked={"check_name": False}, openssl=None),
        "wildcard": Case(made("wild", names=["*.example.test"])),
        "wildcard too deep": Case(
            str(folder / "wild.crt"),
            asked={"server_name": "a.app.example.test"},
            says={"name": ("breach", "for *.example.test, and not for a.app")},
            openssl=62,
        ),
        "international": Case(
            made("idn", names=["xn--bcher-kva.example"]), asked={"server_name": "Bücher.example"}, openssl=None
        ),
        "address": Case(made("address", names=["127.0.0.1"]), asked={"server_name": "127.0.0.1"}),
        "address as a name": Case(
            good, asked={"server_name": "127.0.0.1"}, says={"name": ("breach", "not for 127.0.0.1")}, openssl=64
        ),
        # OpenSSL's client still reads it.
        "common name only": Case(
            made("cn", names=(), common_name=HOST), says={"name": ("breach", "no subject alternative name")}
        ),
        "self-signed": Case(
            made("self", None, common_name="lonely", authority=False),
            says={"chain": ("breach", "signed by itself")},
            openssl=18,
        ),
        "wrong root": Case(
            made("stranger", other, other), says={"chain": ("breach", "which")}, openssl=19
        ),
        "missing intermediate": Case(
            made("gap", middle), says={"chain": ("breach", "serve the full chain")}, openssl=20
        ),
        "expired intermediate": Case(
            made("ended", ended, ended), says={"chain": ("breach", "authority ended expired")}, openssl=10
        ),
        "for a client": Case(
            made("client", purpose="client"), says={"purpose": ("breach", "serverAuth")}, openssl=26
        ),
        "weak key": Case(
            made("weak", key=rsa.generate_private_key(65537, 1024)),  # noqa: S505 - it has to be
            says={"key": ("breach", "1024 bits")},
            openssl=66,
        ),
        "SHA-1": Case(
            forged(folder, str(folder / "root.crt")), says={"signature": ("breach", "(sha1)")}, openssl=68
        ),
        "nothing new": Case(
            good, versions={"oldest": "TLSv1", "newest": "TLSv1_1"}, says={"version": ("breach", "newer than TLSv1.1")},
            openssl=None,
        ),
        "still old": Case(
            good, versions={"oldest": "TLSv1_1"}, says={"version": ("breach", "still answers TLSv1.1")}
        ),
        "another on disk": Case(
            good, asked={"path": str(folder / "chained.crt")}, says={"disk": ("breach", "reload")}
        ),
        "nothing on disk": Case(
            good, asked={"path": str(folder / "gone")}, says={"disk": ("unknown", "cannot be read")}
        ),
        "postgresql": Case(good, server={"habit": "postgresql"}, asked={"protocol": "postgresql"}),
        "postgresql without": Case(
            good, server={"habit": "no postgresql"}, asked={"protocol": "postgresql"},
            says={"reach": ("breach", "ssl = on")}, openssl=None,
        ),
        "smtp": Case(good, server={"habit": "smtp"}, asked={"protocol": "smtp"}),
        "smtp without": Case(
            good, server={"habit": "no smtp"}, asked={"protocol": "smtp"},
            says={"reach": ("breach", "STARTTLS")}, openssl=None,
        ),
        "imap": Case(good, server={"habit": "imap"}, asked={"protocol": "imap"}),
        "imap without": Case(
            good, server={"habit": "no imap"}, asked={"protocol": "imap"},
            says={"reach": ("breach", "refuses STARTTLS")}, openssl=None,
        ),
        "plain text": Case(says={"reach": ("breach", "is no TLS")}, openssl=None),
        "hangs up": Case(good, server={"habit": "hangs up"}, says={"reach": ("unknown", "hung up")}, openssl=None),
        "closed": Case(says={"reach": ("unknown", "Nothing listens")}, openssl=None, port=free_port()),
        "no address": Case(
            says={"reach": ("unknown", "has no address over ipv4")}, asked={"host": "::1", "family": "ipv4"},
            openssl=None, port=1,
        ),
    }  # fmt: skip


@dataclass
class Asked:
    """One call of the module for all servers."""

    cases: dict[str, Case]
    root: str
    result: dict[str, Any]

    def told(self, name: str) -> dict[str, dict[str, str]]:
        """The checks of an endpoint."""
        return {each["name"]: each for each in self.result["checks"] if each["subject"] == name}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("tls")
    made, root = cases(folder), str(folder / "root.crt")
    with ExitStack() as stack:
        for case in made.values():
            if not case.port:
                settings = context(case.path, **case.versions) if case.path else None
                case.port = stack.enter_context(serving(settings, **case.server))
        endpoints = [
            {"name": name, "host": "127.0.0.1", "port": case.port, "server_name": HOST, "ca_cert": root} | case.asked
            for name, case in made.items()
        ]
        done = run_module(MODULE, {"endpoints": endpoints, "timeout_s": 60, "floor_days": 0})
        assert done.failed
        yield Asked(made, root, done.result)


NAMES = [
    "good", "slow", "with its chain", "expired", "not yet valid", "due", "critical", "wrong name", "name not asked",
    "wildcard", "wildcard too deep", "international", "address", "address as a name", "common name only", "self-signed",
    "wrong root", "missing intermediate", "expired intermediate", "for a client", "weak key", "SHA-1", "nothing new",
    "still old", "another on disk", "nothing on disk", "postgresql", "postgresql without", "smtp", "smtp without",
    "imap", "imap without",
    "plain text", "hangs up", "closed", "no address",
]  # fmt: skip


def verdict(case: Case, root: str) -> int:
    """The number of the first objection of OpenSSL's client; 0 if it has none."""
    name = case.asked.get("server_name", HOST)
    protocol = {"postgresql": "postgres"}.get(case.asked.get("protocol", ""), case.asked.get("protocol"))
    done = subprocess.run(
        [
            "openssl", "s_client", "-connect", f"127.0.0.1:{case.port}", "-CAfile", root, "-verify_return_error",
            "-cipher", "DEFAULT:@SECLEVEL=2",  # what Debian sets; elsewhere 1024 bits may be enough
            "-verify_ip" if name[0].isdigit() else "-verify_hostname", name,
            *(["-starttls", protocol] if protocol else []),
        ],
        input="", capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "verify error:num=" in line]
    assert said or done.returncode == 0, done.stderr
    return int(said[0].split("num=")[1].split(":")[0]) if said else 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_bad_is_named_and_nothing_else(asked, name):
    case, told = asked.cases[name], asked.told(name)
    bad = {question: each for question, each in told.items() if each["status"] != "ok"}
    assert {question: each["status"] for question, each in bad.items()} == {
        question: status for question, (status, _) in case.says.items()
    }
    for question, (_, words) in case.says.items():
        assert words in bad[question]["msg"]
    if "reach" not in case.says:
        assert set(told) >= {"reach", "lifetime", "purpose", "key", "signature", "version"}
    if case.openssl is not None and shutil.which("openssl"):
        assert verdict(case, asked.root) == case.openssl


def test_no_case_is_left_out(asked):
    assert list(asked.cases) == NAMES


def test_the_figures_of_an_address(asked):
    by_name = {each["endpoint"]: each for each in asked.result["addresses"]}
    good, closed = by_name["good"], by_name["closed"]
    assert closed == {"endpoint": "closed", "address": "127.0.0.1", "port": closed["port"], "status": "unknown"}
    assert (good["status"], good["renewal"], good["names"], good["key"], good["sent"]) == (
        "ok", "current", [HOST], "EC 256", 1,
    )  # fmt: skip
    assert 79 < good["days_left"] < 80.1
    assert 0.97 < good["fraction_left"] < 0.99
    assert (good["version"], good["old_version"]) == ("TLSv1.3", "")
    assert by_name["with its chain"]["sent"] == 2
    assert (by_name["due"]["renewal"], by_name["expired"]["renewal"]) == ("due", "expired")
    assert asked.result["endpoints"] == len(NAMES)


def test_servers_that_say_nothing_hold_up_nobody(tmp_path):
    """One after the other they would take twice the deadline."""
    path = save(tmp_path, "good", certificate(None, days=(-1, 80)))
    with serving(None, habit="silent") as silent, serving(context(path)) as good:
        endpoints = [{"name": f"silent {number}", "host": "127.0.0.1", "port": silent} for number in range(100)]
        done = run_module(
            MODULE,
            {
                "endpoints": [*endpoints, {"name": "good", "host": "127.0.0.1", "port": good, "ca_cert": path}],
                "timeout_s": 1,
                "deadline_s": 50,
            },
        )
    checks = [each for each in done.result["checks"] if each["subject"] != "good"]
    assert [each["status"] for each in checks] == ["unknown"] * 100
    assert all("gave no handshake within 1 s" in each["msg"] for each in checks)


def test_what_the_deadline_cuts_off_is_unknown():
    with serving(None, habit="silent") as silent:
        endpoint = {"name": "silent", "host": "127.0.0.1", "port": silent}
        done = run_module(MODULE, {"endpoints": [endpoint], "timeout_s": 60, "deadline_s": 1})
    assert done.result["status"] == "unknown"
    assert "deadline_s" in done.result["msg"]


def test_one_stale_address_of_two_is_named(tmp_path, monkeypatch):
    root = certificate(None, days=(-400, 4000))
    ca_cert = save(tmp_path, "root", root)
    stale, fresh = (
        save(tmp_path, name, certificate(root, days=days, names=[HOST]))
        for name, days in (("stale", (-89, 1)), ("fresh", (-1, 89)))
    )
    with serving(context(fresh)) as port, serving(context(stale), host="127.0.0.2", port=port):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2)]
        with monkeypatch.context() as patched:
            patched.setattr(
                socket,
                "getaddrinfo",
                lambda host, *rest, real=socket.getaddrinfo: found if host == HOST else real(host, *rest),
            )
            wanted = Endpoint(HOST, port, "tls", HOST, ca_cert=ca_cert)
            (seen,) = driver.look([wanted], timeout_s=60, deadline_s=60)
    demand = judge.Demand(HOST, HOST, 30, ca_cert)
    told = {each.name: each for each in judge.judge(demand, seen, datetime.now(UTC)) if each.status != "ok"}
    assert set(told) == {"lifetime", "same"}
    assert told["lifetime"].msg.startswith("At 127.0.0.2: Critical: ")
    assert told["same"].msg.startswith("127.0.0.2 (until ")


@pytest.mark.parametrize(("shift", "says"), [("+200d", "It expired on"), ("-200d", "It is not valid before")])
def test_a_clock_that_is_wrong_is_named_and_hides_nothing(tmp_path, shift, says):
    """The chain is verified without the clock."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("faketime is not installed, so the clock was NOT tested; apt-get install faketime")
    root = certificate(None, days=(-400, 4000))
    ca_cert = save(tmp_path, "root", root)
    with ExitStack() as stack:
        endpoints = [
            {
                "name": name, "host": "127.0.0.1", "ca_cert": ca_cert,
                "port": stack.enter_context(serving(context(save(tmp_path, name, certificate(root, days=(-1, 80)))))),
            }
            for name in ("a", "b")
        ]  # fmt: skip
        code = (
            "import sys, json; sys.path.insert(0, sys.argv[1] + '/tests'); from conftest import run_module;"
            "print(json.dumps(run_module('tls_certificate_info', json.loads(sys.argv[2])).result))"
        )
        options = json.dumps({"endpoints": endpoints, "timeout_s": 60})
        done = subprocess.run(
            [faketime, "-f", shift, sys.executable, "-c", code, str(ROOT), options],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["msg"].startswith("None of 2 certificates is valid by this machine's clock, ")
    bad = {(each["name"], each["subject"]): each["msg"] for each in result["checks"] if each["status"] != "ok"}
    assert set(bad) == {("lifetime", "a"), ("lifetime", "b")}
    assert says in bad["lifetime", "a"]


def test_an_address_of_ipv6(tmp_path):
    path = save(tmp_path, "six", certificate(None, days=(-1, 80), host="::1"))
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6, so that no address of it was looked at")
    with serving(context(path), host="::1") as port:
        endpoint = {"host": "::1", "port": port, "ca_cert": path}
        done = run_module(MODULE, {"endpoints": [endpoint]})
        other = run_module(MODULE, {"endpoints": [endpoint | {"family": "ipv4"}]})
    assert (done.result["status"], done.result["addresses"][0]["address"]) == ("ok", "::1")
    assert (other.result["status"], other.result["addresses"][0]["address"]) == ("unknown", "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"endpoints": []}, "endpoints: it is empty"),
        ({"endpoints": [{"host": "a b"}]}, "is no host name"),
        ({"endpoints": [{"host": "straße.example"}]}, "xn-- form"),
        ({"endpoints": [{"host": "a", "port": 0}]}, "out of bounds"),
        ({"endpoints": [{"host": "127.0.0.1"}, {"host": "127.0.0.1"}]}, "127.0.0.1:443 is there twice"),
        ({"endpoints": [{"host": "127.0.0.1", "ca_cert": "/gone"}]}, "ca_cert: /gone cannot be read"),
        ({"endpoints": [{"host": "127.0.0.1"}], "floor_days": 366}, "floor_days: 366"),
    ],
)
def test_bad_input_has_its_sentence(options, says):
    done = run_module(MODULE, options)
    assert done.failed
    assert says in done.result["msg"]


def test_a_real_postgresql(tmp_path):
    bindir = next((each for each in bindirs() if b"libssl" in (each / "postgres").read_bytes()), None)
    if bindir is None:
        pytest.skip("no PostgreSQL server of this machine speaks TLS, so that one was not asked for its certificate")
    root = certificate(None, days=(-400, 4000))
    ca_cert = save(tmp_path, "root", root)
    path = save(tmp_path, "server", certificate(root, days=(-1, 80)))
    key = path.removesuffix(".crt") + ".key"
    with disposable(bindir, ssl="on", ssl_cert_file=path, ssl_key_file=key) as cluster:
        endpoint = {"name": "db", "host": "127.0.0.1", "port": cluster.port, "protocol": "postgresql"}
        good = run_module(MODULE, {"endpoints": [endpoint | {"ca_cert": ca_cert, "path": path}]})
        unknown = run_module(MODULE, {"endpoints": [endpoint | {"ca_cert": "system"}]})
    assert good.result["status"] == "ok", good.result["msg"]
    assert not good.failed
    assert [each["name"] for each in unknown.result["checks"] if each["status"] != "ok"] == ["chain"]
