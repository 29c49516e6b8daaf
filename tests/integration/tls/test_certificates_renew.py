"""playbooks/certificates_renew.yml: a real ACME authority, a real nginx, and what is served afterwards."""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import acme
import pytest
from certificates import certificate, save
from conftest import free_port, run_module
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "app.example.test"
PLAYBOOK = "certificates_renew.yml"


@dataclass
class World:
    """A server whose certificate is due, and the authority that renews it."""

    project: Project
    server: acme.Server
    authority: acme.Authority
    first: Path

    @property
    def host(self) -> dict[str, Any]:
        """The server's variables."""
        return self.project.servers["web1"]

    @property
    def entry(self) -> dict[str, Any]:
        """Its one certificate, in the inventory."""
        entry: dict[str, Any] = self.host["certificate_renewal_certificates"][0]
        return entry

    def in_use(self) -> str:
        """The generation that the link names."""
        return (self.server.directory / "current").readlink().name

    def served(self) -> x509.Certificate:
        """What the server shows."""
        return x509.load_pem_x509_certificate(self.server.served().encode())

    def reset(self) -> None:
        """The certificate that is due is in use again, and loaded."""
        for each in self.server.directory.iterdir():
            if each.is_symlink():
                each.unlink()
            else:
                shutil.rmtree(each)
        shutil.copytree(self.first, self.server.directory / self.first.name)
        (self.server.directory / "current").symlink_to(self.first.name)
        self.server.reload()
        self.see_that_the_first_is_served()

    def see_that_the_first_is_served(self) -> None:
        """Workers from before a reload may answer once more."""
        wanted = x509.load_pem_x509_certificate((self.first / "fullchain.pem").read_bytes())
        acme.wait_until(lambda: self.served() == wanted, self.server.folder / "nginx.log")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if not Path("/etc/machine-id").exists():
        pytest.skip("this machine has no /etc/machine-id, so that no certificate was renewed on it")
    folder = tmp_path_factory.mktemp("renew")
    root = certificate(None, days=(-400, 4000))
    first = folder / "first" / "20250101T000000Z"
    first.mkdir(parents=True)
    save(first, "due", certificate(root, days=(-80, 10), names=[HOST]), root)
    (first / "due.crt").rename(first / "fullchain.pem")
    (first / "due.key").rename(first / "privkey.pem")
    shutil.copytree(first, folder / "tls" / first.name)
    (folder / "tls/current").symlink_to(first.name)
    port = free_port()
    with ExitStack() as stack:
        server = stack.enter_context(acme.server(folder, port))
        authority = stack.enter_context(acme.authority(folder, port))
        trusted = folder / "trusted.pem"
        trusted.write_bytes(authority.root() + (folder / "acme-root.crt").read_bytes())
        account = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        variables = {
            "runbook_environment": "sandbox",
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "server_machine_id": Path("/etc/machine-id").read_text().strip(),
            "server_hostname": socket.gethostname(),
            "certificate_renewal_acme_directory": authority.directory,
            "certificate_renewal_account_key": account.decode(),
            "certificate_renewal_environment": {"SSL_CERT_FILE": str(authority.ca_cert)},
            "certificate_renewal_served_within_s": 60,
            "certificate_renewal_certificates": [
                {
                    "name": "application", "names": [HOST], "directory": str(server.directory),
                    "webroot": str(folder / "webroot"), "test_command": server.command("-t"),
                    "reload_command": server.command("-s", "reload"),
                    "endpoints": [{
                        "host": "127.0.0.1", "port": server.https_port, "server_name": HOST,
                        "ca_cert": str(trusted),
                    }],
                }
            ],
        }  # fmt: skip
        yield World(Project(folder, servers={"web1": variables}), server, authority, first)


@pytest.fixture
def due(world: World) -> World:
    world.reset()
    return world


def test_what_is_due_is_renewed_served_and_not_due_again(due, monkeypatch):
    before, old_key = due.served(), (due.server.directory / "current/privkey.pem").read_text()
    planned = due.project.run(PLAYBOOK, "--check")
    assert planned.code == 0, planned.output
    (plan,) = planned.last("tls_certificate_renewal_plan")["due"]
    assert (plan["name"], plan["act"]) == ("application", "renew")
    assert (due.in_use(), len(list(due.server.directory.iterdir()))) == (due.first.name, 2)

    # As a change: it is opened before and closed after.
    monkeypatch.setitem(due.host, "change_needs", {PLAYBOOK: ["work"]})
    monkeypatch.setitem(due.host, "state_directory", str(due.server.folder / "state"))
    (due.server.folder / "state").mkdir(mode=0o700)
    done = due.project.run(PLAYBOOK)
    assert done.code == 0, done.output
    assert done.last("change_check")["status"] == "ok"
    generation = due.server.directory / due.in_use()
    after = x509.load_pem_x509_certificate((generation / "fullchain.pem").read_bytes())
    assert after.serial_number != before.serial_number
    assert "Pebble" in after.issuer.rfc4514_string()
    acme.wait_until(lambda: due.served() == after, due.server.folder / "nginx.log")
    assert generation.name > due.first.name
    assert (generation / "privkey.pem").read_text() not in ("", old_key)
    assert (generation / "privkey.pem").stat().st_mode & 0o777 == 0o600
    assert {each.name for each in due.server.directory.iterdir()} == {"current", due.first.name, generation.name}
    assert not list((due.server.folder / "webroot/.well-known/acme-challenge").iterdir())
    assert old_key not in done.output
    assert "PRIVATE KEY" not in done.output
    assert done.record is not None
    assert "PRIVATE KEY" not in (done.record / "journal.jsonl").read_text()

    again = due.project.run(PLAYBOOK)
    assert again.code == 0, again.output
    assert again.last("tls_certificate_renewal_plan")["msg"] == "No certificate is due."
    assert "tls_certificate_install" not in again.results


def test_what_a_renewal_needs_is_looked_at_before_anything_is_begun(tmp_path):
    entry = {"name": "app", "names": [HOST], "directory": str(tmp_path), "webroot": str(tmp_path),
             "reload_command": ["true"], "endpoints": [{"host": "127.0.0.1", "port": free_port()}]}  # fmt: skip
    given = {"certificates": [entry], "stored": [{"directory": str(tmp_path), "chain": ""}], "suggestions": [{}]}
    refused = run_module("tls_certificate_renewal_plan", given)
    assert (refused.failed, refused.result["msg"].partition(",")[0]) == (True, "account_key: it is not set")
    late = run_module("tls_certificate_renewal_plan", given | {"served_within_s": 0})
    assert "served_within_s: 0" in late.result["msg"]


@pytest.mark.long
def test_what_is_not_served_is_taken_back(due, monkeypatch):
    monkeypatch.setitem(due.entry, "reload_command", ["true"])
    monkeypatch.setitem(due.host, "certificate_renewal_served_within_s", 2)
    done = due.project.run(PLAYBOOK)
    assert done.code == 2, done.output
    assert "It is not the one in use on the server" in done.output
    assert due.in_use() == due.first.name
    due.see_that_the_first_is_served()
    assert {each.name for each in due.server.directory.iterdir()} == {"current", due.first.name}


@pytest.mark.long
def test_a_challenge_that_is_not_served_changes_nothing(due, monkeypatch, tmp_path):
    monkeypatch.setitem(due.entry, "webroot", str(tmp_path))
    done = due.project.run(PLAYBOOK)
    assert done.code == 2, done.output
    assert due.in_use() == due.first.name
    assert "The authority says: " in done.output
    assert "404" in done.output.partition("The authority says: ")[2]
    assert not list((tmp_path / ".well-known/acme-challenge").iterdir())


def test_an_authority_without_an_answer_and_a_run_that_was_stopped_before_it_loaded(due, monkeypatch):
    """The lifetime decides, and what lies on the server is loaded."""
    monkeypatch.setitem(due.host, "certificate_renewal_acme_directory", f"http://127.0.0.1:{due.server.http_port}/dir")
    later = due.server.directory / "20250301T000000Z"
    later.mkdir()
    root = certificate(None, days=(-400, 4000))
    save(later, "new", certificate(root, days=(-1, 90), names=[HOST]), root)
    (later / "new.crt").rename(later / "fullchain.pem")
    (later / "new.key").rename(later / "privkey.pem")
    (due.server.directory / "current").unlink()
    (due.server.directory / "current").symlink_to(later.name)
    planned = due.project.run(PLAYBOOK, "--check")
    plan = planned.last("tls_certificate_renewal_plan")
    assert [each["act"] for each in plan["due"]] == ["load"], planned.output
    assert plan["authority_silent"] == ["application"]
