"""tools/setup.py without the network: which Python, which files, when it is done, what it says when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tools import setup

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the same requirements, and no environment."""
    root = tmp_path / "a project"
    root.mkdir()
    for name in ("requirements.txt", "requirements-test.txt", "requirements.yml", "requirements-awx.yml"):
        (root / name).write_bytes((setup.ROOT / name).read_bytes())
    monkeypatch.setattr(setup, "ROOT", root)
    monkeypatch.setattr(setup, "VENV", root / ".venv")
    monkeypatch.setattr(setup, "PYTHON", root / ".venv" / "bin" / "python")
    monkeypatch.delenv("PYTHON", raising=False)
    return root


def complete(*, test: bool) -> None:
    setup.PYTHON.parent.mkdir(parents=True, exist_ok=True)
    if not setup.PYTHON.exists():
        setup.PYTHON.symlink_to(sys.executable)
    content = {"fingerprint": setup.fingerprint(test), "root": str(setup.ROOT)}
    setup.stamp(test).write_text(json.dumps(content))


def fake_python(folder: Path, name: str, version: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.usefixtures("project")
def test_the_python_that_runs_this_is_taken_if_it_is_suitable():
    assert setup.find_python() == sys.executable


@pytest.mark.usefixtures("project")
def test_an_old_python_finds_a_newer_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, "python3", "3 9"))
    newer = fake_python(tmp_path, "python3.12", "3 12")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert setup.find_python() == newer


@pytest.mark.usefixtures("project")
def test_no_suitable_python_is_one_sentence(tmp_path, monkeypatch):
    old = fake_python(tmp_path, "python3", "3 9")
    monkeypatch.setenv("PYTHON", old)
    with pytest.raises(setup.SetupError, match=r"No suitable Python .* is 3\.9.* install Python 3\.11 to 3\.14"):
        setup.find_python()
    monkeypatch.setenv("PYTHON", "/nowhere/python")
    with pytest.raises(setup.SetupError, match="does not start"):
        setup.find_python()


@pytest.mark.usefixtures("project")
def test_python_without_ensurepip_gets_the_fix(tmp_path, monkeypatch):
    path = tmp_path / "python3"
    path.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\necho 3 12\n')
    path.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(path))
    with pytest.raises(setup.SetupError, match=r"apt-get install python3\.12-venv"):
        setup.make_venv(None)


def test_a_half_made_environment_is_not_made_from_itself(tmp_path, monkeypatch):
    """``make`` puts .venv/bin first on the PATH, so the interpreter that runs this may be the one that is removed."""
    half = tmp_path / ".venv" / "bin" / "python3"
    half.parent.mkdir(parents=True)
    half.symlink_to(sys.executable)
    called = []
    monkeypatch.setattr(setup, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup, "PYTHON", half)
    monkeypatch.setattr(setup, "run", lambda words, _what: called.append(words))
    monkeypatch.setattr(sys, "executable", str(half))
    setup.make_venv(None)
    assert called
    assert not called[0][0].startswith(str(tmp_path))


@pytest.mark.usefixtures("project")
def test_done_once_is_done():
    assert not setup.is_ready(False)
    complete(test=False)
    assert setup.is_ready(False)
    assert not setup.is_ready(True)
    complete(test=True)
    setup.stamp(False).unlink()
    assert setup.is_ready(False)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements.yml"])
def test_changed_requirements_are_noticed(project, name):
    complete(test=False)
    with (project / name).open("a") as file:
        file.write("# changed\n")
    assert not setup.is_ready(False)


@pytest.mark.usefixtures("project")
def test_a_moved_project_is_noticed():
    complete(test=False)
    stamp = json.loads(setup.stamp(False).read_text())
    setup.stamp(False).write_text(json.dumps(stamp | {"root": "/elsewhere"}))
    assert not setup.is_ready(False)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
@pytest.mark.usefixtures("project")
def test_a_damaged_stamp_is_none(content):
    complete(test=False)
    setup.stamp(False).write_text(content)
    assert not setup.is_ready(False)


def test_collections_are_those_of_requirements_yml():
    assert setup.wanted_collections() == ["community.postgresql", "amazon.aws", "community.crypto", "containers.podman"]


def test_an_optional_collection_is_left_out_where_the_wheel_has_it_not(tmp_path):
    wheel = tmp_path / "ansible-1.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("ansible_collections/amazon/aws/a.py", "")
    wanted = setup.wanted_collections("requirements-awx.yml")
    assert wanted == ["awx.awx"]
    assert not setup.extract(wheel, wanted, tmp_path / "site", needed=False)
    assert setup.extract(wheel, ["amazon.aws"], tmp_path / "site", needed=False)


def test_every_pinned_ansible_core_has_its_wheel():
    pinned = [
        line.split("==")[1]
        for line in (setup.ROOT / "requirements.txt").read_text().splitlines()
        if "ansible-core==" in line
    ]
    assert pinned
    assert {".".join(version.split(".")[:2]) for version in pinned} == set(setup.ANSIBLE_WHEEL)


def test_only_wanted_collections_are_unpacked(tmp_path):
    wheel = tmp_path / "ansible-1.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("amazon/aws/plugins/a.py", "amazon/awsome/b.py", "other/thing/c.py"):
            archive.writestr(f"ansible_collections/{name}", "")
    old = tmp_path / "ansible_collections" / "amazon" / "aws" / "gone.py"
    old.parent.mkdir(parents=True)
    old.touch()
    setup.extract(wheel, ["amazon.aws"], tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in (tmp_path / "ansible_collections").rglob("*.py")}
    assert found == {"ansible_collections/amazon/aws/plugins/a.py"}
    with pytest.raises(setup.SetupError, match=r"holds no collection amazon\.azure"):
        setup.extract(wheel, ["amazon.azure"], tmp_path)


def test_a_failing_program_is_one_sentence():
    with pytest.raises(setup.SetupError, match="Counting failed with exit code 3"):
        setup.run([sys.executable, "-c", "raise SystemExit(3)"], "Counting")


def test_an_old_python_can_at_least_read_the_file():
    """Nothing newer than Python 3.8 in its grammar, so that the sentence about versions is reached."""
    code = "import ast, sys; ast.parse(open(sys.argv[1]).read(), feature_version=(3, 8))"
    subprocess.run([sys.executable, "-c", code, str(setup.ROOT / "tools" / "setup.py")], check=True)
