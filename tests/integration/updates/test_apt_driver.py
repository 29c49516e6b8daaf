"""What goes wrong on a server, with the real apt-get and dpkg."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers import remote
from ansible.module_utils.runbook.drivers.updates import apt as driver
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.updates import apt
from debian import Debian

if TYPE_CHECKING:
    from collections.abc import Iterator


def shell(line: str) -> tuple[int | None, str, str]:
    """A connection to this machine, which appends to a line as Ansible does."""
    done = subprocess.run(["/bin/sh", "-c", f"{line} && sleep 0"], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def debian(tmp_path, monkeypatch) -> Iterator[Debian]:
    """A server with one package, reached by a shell."""
    made = Debian(tmp_path / "debian")
    made.install(made.package("main", "libfoo", "1.0-1", files={"etc/foo.conf": "old\n"}))
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(driver, "_LOOK_S", 0.1)
    remote.connect(shell)
    yield made
    remote.connect(lambda _line: (None, "", "no test is running"))


def upgrade(deadline_s: int = 60) -> tuple[int, str]:
    """Install what the security archive has."""
    with driver.refreshed() as lists:
        plan = apt.simulated(lists.simulate("upgrade", "--with-new-pkgs"))
        return lists.install(plan.security, deadline_s=deadline_s, tell=lambda _said: None)


def test_an_archive_that_is_gone_is_unknown_though_apt_ends_with_0(debian):
    for name in ("Release", "Packages"):
        (debian.folder / "security" / name).unlink()
    with pytest.raises(UnreachableError, match="nobody knows what is to be installed"), driver.refreshed():
        pass


@pytest.mark.usefixtures("debian")
def test_folders_of_killed_runs_go_and_one_of_an_upgrade_that_never_ended_stays():
    made = {name: Path(tempfile.mkdtemp(prefix="runbook-apt.", dir="/tmp")) for name in ("old", "new", "stuck")}
    # As mktemp names them there.
    made = {name: path.rename(path.with_name(path.name[:18])) for name, path in made.items()}
    (made["stuck"] / "log").touch()
    try:
        for name in ("old", "stuck"):
            os.utime(made[name], (time.time() - 3 * 86_400,) * 2)
        with driver.refreshed():
            assert {name for name, path in made.items() if path.exists()} == {"new", "stuck"}
    finally:
        for path in made.values():
            shutil.rmtree(path, ignore_errors=True)


def test_a_server_without_a_security_archive_is_known_from_one_without_updates(debian):
    with driver.refreshed() as lists:
        assert lists.has_security()
    sources = debian.root / "etc/apt/sources.list"
    sources.write_text("".join(sources.read_text().splitlines(keepends=True)[:1]))
    with driver.refreshed() as lists:
        assert not lists.has_security()


def test_a_package_on_hold_and_one_that_would_remove_another_wait_with_their_reason(debian):
    debian.install(debian.package("main", "other", "1"), debian.package("main", "held", "1"))
    debian.package("security", "held", "2")
    debian.hold("held")
    # It breaks what is installed.
    path = debian.package("security", "libfoo", "1.0-1+deb12u1")
    tree = debian.folder / "build/libfoo_1.0-1+deb12u1"
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("Description", "Conflicts: other\nDescription"))
    subprocess.run(["dpkg-deb", "-Zgzip", "-b", str(tree), str(path)], check=True, capture_output=True)
    debian.publish("security")
    with driver.refreshed() as lists:
        every = apt.simulated(lists.simulate("dist-upgrade", "--ignore-hold"))
        possible = apt.simulated(lists.simulate("upgrade", "--with-new-pkgs"))
        with pytest.raises(RunbookError, match=r"is not possible: .*remove"):
            lists.simulate("install", "--only-upgrade", "--no-remove", "-y", "libfoo=1.0-1+deb12u1")
    found = apt.waiting(every, possible, driver.on_hold(), apt.Restarts((), ""))
    assert [each.msg for each in found] == [
        "held 1 to 2; it is on hold: apt-mark unhold",
        "libfoo 1.0-1 to 1.0-1+deb12u1; it would remove a package: install it by hand",
    ]
    assert possible.security == ()


def test_a_configuration_file_that_somebody_changed_stays_and_is_named(debian):
    (debian.root / "etc/foo.conf").write_text("ours\n")
    debian.package("security", "libfoo", "1.0-1+deb12u1", files={"etc/foo.conf": "new\n"})
    code, log = upgrade()
    assert (code, apt.kept_files(log)) == (0, ("/etc/foo.conf",)), log
    assert (debian.root / "etc/foo.conf").read_text() == "ours\n"


def test_a_package_that_cannot_be_configured_is_half_installed_and_told(debian):
    # What it prints last has no end.
    debian.package("security", "libfoo", "1.0-1+deb12u1", postinst="printf no >&2; exit 3")
    code, log = upgrade()
    assert code == 100, log
    assert apt.left([apt.Update("libfoo", "1.0-1", "1.0-1+deb12u1")], driver.installed())
    assert "libfoo" in driver.unfinished()


def test_an_upgrade_that_takes_too_long_goes_on_and_is_not_killed(debian):
    go = debian.folder / "go"
    debian.package("security", "libfoo", "1.0-1+deb12u1", preinst=f"while [ ! -e {go} ]; do sleep 0.1; done")
    with pytest.raises(UnreachableError, match="It goes on on the server") as raised:
        upgrade(deadline_s=1)
    folder = raised.value.message.partition("see ")[2].partition("/log")[0]
    # Its folder stays as long as it works in it.
    assert shell(f"test -d {folder}")[0] == 0
    go.touch()
    assert shell(f"while [ ! -e {folder}/code ]; do sleep 0.1; done; cat {folder}/code; rm -rf {folder}")[1] == "0\n"
    assert debian.installed()["libfoo"] == "1.0-1+deb12u1"


def test_without_a_connection_nothing_is_known():
    remote.connect(lambda _line: (None, "", "Failed to connect to the host via ssh: Connection timed out"))
    with pytest.raises(UnreachableError, match="gave no answer: Failed to connect"):
        driver.identity()


def test_a_command_is_ended_on_the_server_when_its_time_is_over():
    remote.connect(shell)
    with pytest.raises(UnreachableError, match="sleep did not end within 1 s"):
        remote.run(["sleep", "60"], timeout_s=1)
