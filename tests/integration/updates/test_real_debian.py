"""A real Debian, reached by real ssh: debootstrap's, in a chroot with an sshd of its own. It is made once, and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT, free_port
from debian import Debian

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TREE = ROOT / ".cache" / "debian-12"
ID = "fedcba9876543210fedcba9876543210"


def call(*words: str) -> None:
    """Run a program; it must be content."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tree() -> Path:
    """The Debian, with sshd and needrestart."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "ssh", "ssh-keygen"))):
        pytest.skip("not root, or debootstrap or ssh is not installed, so no real Debian was updated")
    if not (TREE / "usr/sbin/needrestart").exists():
        TREE.parent.mkdir(exist_ok=True)
        include = "--include=openssh-server,needrestart"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", include, "bookworm", str(TREE)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            shutil.rmtree(TREE, ignore_errors=True)
            pytest.skip(f"debootstrap failed, so no real Debian was updated: {made.stderr[-200:]}")
    return TREE


@contextmanager
def serving(tree: Path, key: Path) -> Iterator[int]:
    """Let its sshd answer on loopback; the port."""
    port = free_port()
    (tree / "run/sshd").mkdir(exist_ok=True)
    (tree / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (tree / "root/.ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())
    options = ["-D", "-e", "-p", str(port), "-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none", "-o", "UsePAM=no"]
    process = subprocess.Popen(["chroot", str(tree), "/usr/sbin/sshd", *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "listening" in line, line
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.mark.long
def test_a_debian_without_python_is_looked_at_and_updated_over_ssh(tree, tmp_path):
    archives = Debian(tmp_path / "archives")
    first = archives.package("main", "libfoo", "1.0-1")
    archives.package("security", "libfoo", "1.0-1+deb12u1")
    inside = tree / f"srv/{tmp_path.name}-{time.monotonic_ns()}"
    shutil.copytree(archives.folder, inside, ignore=shutil.ignore_patterns("root", "bin"))
    place = f"/srv/{inside.name}"
    (tree / "etc/apt/sources.list").write_text(
        "".join(f"deb [trusted=yes] file:{place}/{archive} ./\n" for archive in ("main", "security"))
    )
    (tree / "etc/machine-id").write_text(f"{ID}\n")
    call("chroot", str(tree), "dpkg", "-i", f"{place}/main/{first.name}")
    key = tmp_path / "key"
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    assert not (tree / "usr/bin/python3").exists()
    with serving(tree, key) as port:
        known = tmp_path / "known_hosts"
        host_key = (tree / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        known.write_text(f"[127.0.0.1]:{port} {host_key}")
        (tmp_path / "state").mkdir(mode=0o700)
        project = Project(
            tmp_path,
            {},
            {
                "runbook_environment": "sandbox",
                "state_directory": str(tmp_path / "state"),
                "change_needs": {"updates.yml servers": []},
                "maintenance_operations": {"updates.yml servers": "none"},
            },
            servers={
                "debian": {
                    "ansible_host": "127.0.0.1",
                    "ansible_port": port,
                    "ansible_user": "root",
                    "ansible_connection": "ssh",
                    "ansible_ssh_private_key_file": str(key),
                    "ansible_ssh_common_args": f"-o UserKnownHostsFile={known} -o ControlPath=none",
                    "server_hostname": os.uname().nodename,
                    "server_machine_id": ID,
                }
            },
        )
        looked = project.run("updates.yml", "--tags", "security")
        found = looked.last("apt_updates_check")
        assert [each["name"] for each in found["waiting"]] == ["libfoo 1.0-1+deb12u1"], looked.output
        # Its kernel is this machine's, which needrestart knows nothing of, and which no package of it changes.
        assert "needrestart" not in looked.output
        done = project.run("updates.yml", "--tags", "servers")
        assert [each["to"] for each in done.last("apt_upgrade")["upgraded"]] == ["1.0-1+deb12u1"], done.output
        assert done.code == 0, done.output
    # Nobody answers any more.
    gone = project.run("updates.yml", "--tags", "security")
    assert (gone.code, "The server gave no answer" in gone.output) == (2, True), gone.output
    call("chroot", str(tree), "dpkg", "--purge", "libfoo")
    shutil.rmtree(inside)
