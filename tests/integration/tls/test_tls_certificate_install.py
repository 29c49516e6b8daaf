"""Key and certificate on a server: made, exchanged by one rename, and back again where the server refuses them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.rules.target import Target
from certificates import certificate
from conftest import ROOT, approve, run_module, this_run
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

NAMES = ["app.example.test", "www.example.test"]


@pytest.fixture(scope="module", autouse=True)
def _permitted() -> None:
    approve(this_run(), "sandbox")
    permits.grant(this_run(), Target("server", "0123", "web1"))


def request(folder: Path, **options: Any) -> dict[str, Any]:
    done = run_module("tls_certificate_request", {"directory": str(folder / "tls"), "names": NAMES} | options)
    assert not done.failed, done.result
    return done.result


def issue(folder: Path, days: int = 90) -> str:
    """What an authority would answer to the request."""
    root = certificate(None, days=(-400, 4000))
    key: Any = load_pem_private_key((folder / "tls/next/privkey.pem").read_bytes(), None)
    made = certificate(root, days=(-1, days), names=NAMES, key=key)
    return "".join(each[1].public_bytes(Encoding.PEM).decode() for each in (made, root))


def install(folder: Path, *, check: bool = False, **options: Any) -> Any:
    log = folder / "loaded"
    defaults = {
        "directory": str(folder / "tls"),
        "reload_command": ["sh", "-c", f"readlink {folder}/tls/current >> {log}"],
    }
    return run_module("tls_certificate_install", defaults | options, check=check)


def in_use(folder: Path) -> str:
    return (folder / "tls/current").readlink().name


def loaded(folder: Path) -> list[str]:
    """The generation that was in use at each reload."""
    return (folder / "loaded").read_text().split()


@pytest.fixture
def first(tmp_path: Path) -> str:
    """A first certificate is in use; its generation."""
    request(tmp_path)
    done = install(tmp_path, full_chain=issue(tmp_path))
    assert not done.failed, done.result
    return str(done.result["generation"])


def test_a_request_is_for_the_names_and_is_used_again(tmp_path):
    made = request(tmp_path)
    csr = x509.load_pem_x509_csr(made["csr"].encode())
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == NAMES
    key = tmp_path / "tls/next/privkey.pem"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    again = request(tmp_path)
    assert (again["changed"], again["csr"]) == (False, made["csr"])
    other = request(tmp_path, names=NAMES[:1], key_type="RSA")
    assert other["csr"] != made["csr"]


def test_check_mode_makes_nothing(tmp_path, first):
    planned = run_module("tls_certificate_request", {"directory": str(tmp_path / "tls"), "names": NAMES}, check=True)
    assert (planned.result["changed"], planned.result["csr"]) == (True, "")
    assert not (tmp_path / "tls/next").exists()
    request(tmp_path)
    planned = install(tmp_path, check=True, full_chain=issue(tmp_path))
    assert planned.result["msg"] == "A new generation would be used and loaded."
    assert (in_use(tmp_path), loaded(tmp_path)) == (first, [first])


def test_the_third_deletes_the_first_and_the_same_one_is_used_already(tmp_path, first):
    generations = [first]
    for _ in range(2):
        request(tmp_path)
        chain = issue(tmp_path)
        done = install(tmp_path, full_chain=chain)
        generations.append(done.result["generation"])
    assert generations == sorted(generations)
    assert done.result["deleted"] == [first]
    assert {each.name for each in (tmp_path / "tls").iterdir()} == {"current", *generations[1:]}
    assert loaded(tmp_path) == generations
    again = install(tmp_path, full_chain=chain)
    assert (again.result["changed"], again.result["is_new"], loaded(tmp_path)) == (False, False, generations)
    back = install(tmp_path, state="previous")
    assert (back.result["generation"], in_use(tmp_path)) == (generations[1], generations[1])
    assert not (tmp_path / "tls" / generations[2]).exists()
    assert install(tmp_path, state="previous").result["msg"].endswith("holds no earlier certificate; renew it.")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"test_command": ["false"]}, "The server refuses its configuration: false ended with 1 (it said nothing)."),
        ({"reload_command": ["sh", "-c", "echo broken >&2; exit 3"]}, "sh ended with 3 (broken)."),
        ({"reload_command": ["sleep", "60"], "timeout_s": 1}, "sleep did not end within 1 s"),
        ({"reload_command": ["gone-program"]}, "gone-program cannot be run (No such file or directory)"),
    ],
)
def test_a_server_that_refuses_has_its_old_files_back(tmp_path, first, options, says):
    request(tmp_path)
    done = install(tmp_path, full_chain=issue(tmp_path), **options)
    assert done.failed
    assert says in done.result["msg"]
    assert "The files of before are in use again" in done.result["msg"]
    assert in_use(tmp_path) == first
    assert {each.name for each in (tmp_path / "tls").iterdir()} == {"current", first}


def test_the_old_files_are_loaded_again(tmp_path, first):
    """The server reads them once more, since it may have read the new ones."""
    request(tmp_path)
    seen, was = tmp_path / "loaded", tmp_path / "was"
    once = f"readlink {tmp_path}/tls/current >> {seen}; test -e {was} || {{ touch {was}; exit 1; }}"
    done = install(tmp_path, full_chain=issue(tmp_path), reload_command=["sh", "-c", once])
    assert done.result["msg"].endswith("The files of before are in use again, and loaded.")
    assert (loaded(tmp_path)[0], loaded(tmp_path)[-1], len(loaded(tmp_path))) == (first, first, 3)


def test_a_certificate_for_another_key_is_refused(tmp_path, first):
    request(tmp_path)
    root = certificate(None, days=(-400, 4000))
    foreign = certificate(root, days=(-1, 90), names=NAMES)[1].public_bytes(Encoding.PEM).decode()
    done = install(tmp_path, full_chain=foreign)
    assert "does not belong to the key" in done.result["msg"]
    assert (in_use(tmp_path), loaded(tmp_path)) == (first, [first])


def test_what_a_stopped_run_left_is_neither_used_nor_taken_for_the_one_before(tmp_path, first):
    left = tmp_path / "tls" / "29990101T000000Z"
    shutil.copytree(tmp_path / "tls" / first, left)
    request(tmp_path)
    done = install(tmp_path, full_chain=issue(tmp_path))
    assert (done.result["previous"], left.exists()) == (first, False)
    assert in_use(tmp_path) == done.result["generation"] != left.name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"full_chain": "hello"}, "full_chain: it holds no certificate"),
        ({"state": "loaded", "reload_command": []}, "reload_command: it is empty"),
        ({"state": "loaded", "timeout_s": 0}, "timeout_s: 0"),
        ({"state": "loaded", "directory": "/proc/x"}, "directory: /proc/x cannot be made"),
    ],
)
def test_bad_input_has_its_sentence(tmp_path, options, says):
    done = install(tmp_path, **options)
    assert done.failed
    assert says in done.result["msg"]


def test_a_group_that_is_not_there_and_a_run_that_works_on_it(tmp_path, first):
    request(tmp_path)
    done = install(tmp_path, full_chain=issue(tmp_path), key_group="no-such-group")
    assert "there is no group no-such-group" in done.result["msg"]
    handle = os.open(tmp_path / "tls", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert "another run works on this certificate" in install(tmp_path, state="loaded").result["msg"]
    os.close(handle)
    assert in_use(tmp_path) == first


def test_a_plain_folder_is_left_alone(tmp_path):
    (tmp_path / "tls/current").mkdir(parents=True)
    assert "is no symbolic link" in install(tmp_path, state="loaded").result["msg"]


@pytest.fixture
def other_python() -> str:
    """A Python of this machine without any of our packages, as a server has it."""
    python = next((each for each in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(each).exists()), "")
    asked = (
        "import sys, importlib.util as u; sys.exit(sys.version_info < (3, 11) or u.find_spec('psycopg2') is not None)"
    )
    if not python or subprocess.run([python, "-c", asked], check=False).returncode:
        pytest.skip("this machine has no second Python of 3.11 or newer, so that no module was sent to a server")
    return python


@pytest.mark.long
def test_on_a_server_with_nothing_but_python_and_only_with_a_permit(tmp_path, other_python):
    """The permit lies on the bastion: the module is told of it, and nobody else may say so."""
    machine_id = Path("/etc/machine-id")
    if not machine_id.exists():
        pytest.skip("this machine has no /etc/machine-id, so that it is no server to anybody")
    host = {
        "ansible_connection": "local", "ansible_python_interpreter": other_python,
        "server_machine_id": machine_id.read_text().strip(), "server_hostname": socket.gethostname(),
    }  # fmt: skip
    inventory = tmp_path / "hosts.yml"
    every = {"vars": {"runbook_environment": "sandbox"}, "children": {"servers": {"hosts": {"web1": host}}}}
    inventory.write_text(json.dumps({"all": every}))
    options = {"directory": str(tmp_path / "tls"), "names": NAMES}
    preflight = {
        "vars": {"preflight_playbook": "certificates_renew.yml"},
        "ansible.builtin.import_role": {"name": "preflight", "tasks_from": "server.yml"},
    }  # fmt: skip
    play = {"hosts": "servers", "gather_facts": False, "environment": {"RUNBOOK_HOST": "{{ inventory_hostname }}"}}

    def run(*tasks: dict[str, Any]) -> str:
        path = ROOT / "playbooks" / f"own-{tmp_path.name}.yml"
        path.write_text(json.dumps([play | {"tasks": list(tasks)}]))
        try:
            done = subprocess.run(
                ["ansible-playbook", "-i", str(inventory), str(path)],
                cwd=ROOT, env=os.environ | {"RUNBOOK_RUNS_DIR": str(tmp_path / "runs"), "ANSIBLE_NOCOLOR": "1"},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        finally:
            path.unlink()
        return " ".join((done.stdout + done.stderr).split())

    write = {"tls_certificate_request": options}
    assert "has not passed preflight for web1" in run(write)
    assert "permitted: the action plugin alone sets it" in run(
        {"tls_certificate_request": options | {"permitted": True}}
    )
    assert not (tmp_path / "tls").exists()
    approved = {
        "delegate_to": "localhost", "vars": preflight["vars"],
        "ansible.builtin.import_role": {"name": "preflight", "tasks_from": "approval.yml"},
    }  # fmt: skip
    assert "has not passed preflight for the server web1" in run({"block": [approved]}, write)
    done = run(preflight, write)
    assert "failed=0" in done, done
    assert (tmp_path / "tls/next/request.pem").exists()
    # A module that is called by itself has no action plugin of ours.
    called = subprocess.run(
        ["ansible", "-i", str(inventory), "web1", "-m", "tls_certificate_request",
         "-a", json.dumps(options | {"directory": str(tmp_path / "other")})],
        cwd=ROOT, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "has not passed preflight" in called.stdout, called.stdout + called.stderr
    assert not (tmp_path / "other").exists()
